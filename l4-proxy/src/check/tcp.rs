//! `TCP_CHECK`: the server accepts a connection.

use lvs_core::Cause;

use super::origin;
use crate::keepalived::model::Origin;

pub(super) async fn check(origin: &Origin) -> Result<(), Cause> {
    origin::connect(origin).await.map(drop)
}
