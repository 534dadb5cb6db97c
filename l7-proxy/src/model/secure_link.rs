//! Links that only who knows a secret can have made, for `$secure_link`.

use crate::variable::Value;

/// How a link is proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecureLink {
    /// By a digest that the request carries somewhere.
    Digest {
        /// Where it is: the digest in base64url, and behind a comma until when the link holds
        /// (`secure_link`).
        carried: Option<Value>,
        /// What it is the MD5 of (`secure_link_md5`).
        of: Option<Value>,
    },
    /// By the second part of a path `/prefix/HEX/link`: the MD5 of the link and this word
    /// (`secure_link_secret`).
    Word(Box<[u8]>),
}
