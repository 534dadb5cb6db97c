//! Edits as ipvsadm's words can express them, made on a configuration that says more.

use lvs_core::{Config, ConfigError, EditError, ServerConfig, ServiceConfig, ServiceKey};

use crate::control::{CommitError, Edit};
use crate::message::{Failure, Subject};

/// The edit with all that ipvsadm has no words for left as it is: `-E` and `-e` replace what they
/// could have said, not a health policy that came from elsewhere.
pub(crate) fn keep_the_unsaid(edit: Edit, present: &Config) -> Edit {
    match edit {
        Edit::EditService(mut service) => {
            if let Some(old) = present.service(&service.key) {
                service.health = old.health;
                service.seed = old.seed;
                service.expire_nodest_conn = old.expire_nodest_conn;
                service.custom.clone_from(&old.custom);
                if let (Some(new), Some(old)) = (&mut service.persistence, &old.persistence) {
                    *new = new.capacity(old.templates_max());
                    if old.expires_quiescent_template() {
                        *new = new.expire_quiescent_template();
                    }
                }
            }
            Edit::EditService(service)
        }
        Edit::EditServer(key, mut server) => {
            if let Some(old) = find(present, &key, &server) {
                server.backup |= old.backup;
                server.passive = old.passive;
                server.slow_start = old.slow_start;
            }
            Edit::EditServer(key, server)
        }
        other => other,
    }
}

/// Makes the edit in a configuration, or says why not and leaves it as it is.
///
/// Only what the edit touches is checked, so that a long restore takes as long as it has lines.
pub(crate) fn make(edit: &Edit, config: &mut Config) -> Result<(), Failure> {
    let made = check(edit, config).map_err(CommitError::from);
    let made = made.and_then(|()| edit.apply_to(config).map_err(CommitError::from));
    made.map_err(|error| {
        let failure = Failure::uncommitted(&error, subject(edit));
        let place = match error {
            CommitError::Edit(EditError::ServiceExists | EditError::NoService) => service_place(edit),
            CommitError::Edit(_) => server_place(edit),
            _ => None,
        };
        match place {
            Some(place) => failure.blame(place),
            None => failure,
        }
    })
}

fn check(edit: &Edit, config: &Config) -> Result<(), ConfigError> {
    let touched = match edit {
        Edit::AddService(service) | Edit::EditService(service) => service.clone(),
        Edit::AddServer(key, server) | Edit::EditServer(key, server) => match config.service(key) {
            Some(service) => {
                let mut alone = ServiceConfig::new(service.key.clone(), service.algorithm);
                alone.persistence = service.persistence;
                alone.one_packet = service.one_packet;
                alone.server(server.clone())
            }
            None => return Ok(()),
        },
        Edit::DeleteService(_) | Edit::DeleteServer(..) | Edit::Drain { .. } => return Ok(()),
        Edit::Replace(whole) => return whole.check(),
    };
    Config { services: vec![touched] }.check()
}

/// What a refusal of the edit is worded after.
pub(crate) fn subject(edit: &Edit) -> Subject {
    match edit {
        Edit::AddServer(..) | Edit::EditServer(..) | Edit::DeleteServer(..) | Edit::Drain { .. } => {
            Subject::Server
        }
        _ => Subject::Service,
    }
}

fn find<'a>(config: &'a Config, key: &ServiceKey, server: &ServerConfig) -> Option<&'a ServerConfig> {
    config.service(key)?.servers.iter().find(|other| other.address == server.address)
}

fn service_place(edit: &Edit) -> Option<String> {
    let key = match edit {
        Edit::AddService(service) | Edit::EditService(service) => &service.key,
        Edit::DeleteService(key) => key,
        Edit::AddServer(key, _) | Edit::EditServer(key, _) | Edit::DeleteServer(key, _) => key,
        Edit::Drain { service, .. } => service,
        Edit::Replace(_) => return None,
    };
    Some(match key {
        ServiceKey::Address { address, .. } => address.to_string(),
        ServiceKey::Mark { mark, .. } => mark.to_string(),
        ServiceKey::Name(name) => name.to_string(),
    })
}

fn server_place(edit: &Edit) -> Option<String> {
    match edit {
        Edit::AddServer(_, server) | Edit::EditServer(_, server) => Some(server.address.to_string()),
        Edit::DeleteServer(_, server) | Edit::Drain { server, .. } => Some(server.to_string()),
        _ => None,
    }
}
