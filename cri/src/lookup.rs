//! Ids as clients give them: whole, or the start of one, as people type it. Finds the object meant.

use podwright_podsandbox::model::{ContainerSnapshot, SandboxSnapshot};
use podwright_podsandbox::{ContainerFilter, Engine, EngineError, SandboxFilter};
use podwright_types::{ContainerId, SandboxId};
use tonic::Status;

use crate::field::{self, BadField, shown};
use crate::status;

/// Length of the ids that the engine gives out.
const WHOLE_ID_BYTES: usize = 64;

/// What the start of an id fits.
enum Fit<T> {
    None,
    One(T),
    Many(usize),
}

fn fit<T>(mut all: impl Iterator<Item = T>) -> Fit<T> {
    match (all.next(), all.next()) {
        (None, _) => Fit::None,
        (Some(one), None) => Fit::One(one),
        (Some(_), Some(_)) => Fit::Many(2 + all.count()),
    }
}

fn one<T>(field: &str, id: &str, found: Fit<T>) -> Result<Option<T>, BadField> {
    match found {
        Fit::None => Ok(None),
        Fit::One(object) => Ok(Some(object)),
        Fit::Many(count) => {
            Err(BadField::new(field, format!("{} is the start of {count} ids; give more of it", shown(id))))
        }
    }
}

/// The sandbox that `id` names; `None` if there is none.
pub(crate) fn sandbox(engine: &Engine, field: &str, id: String) -> Result<Option<SandboxSnapshot>, Status> {
    let id = field::name(field, id)?;
    // What can not be an id of ours names nothing.
    let Ok(parsed) = id.parse::<SandboxId>() else { return Ok(None) };
    match engine.sandbox(&parsed) {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound(_)) if id.len() < WHOLE_ID_BYTES => {
            let all = engine.sandboxes(&SandboxFilter::default()).into_iter();
            Ok(one(field, &id, fit(all.filter(|s| s.id.as_str().starts_with(&id))))?)
        }
        Err(EngineError::NotFound(_)) => Ok(None),
        Err(error) => Err(status::from_engine(&error)),
    }
}

/// The container that `id` names; `None` if there is none.
pub(crate) fn container(engine: &Engine, field: &str, id: String) -> Result<Option<ContainerSnapshot>, Status> {
    let id = field::name(field, id)?;
    let Ok(parsed) = id.parse::<ContainerId>() else { return Ok(None) };
    match engine.container(&parsed) {
        Ok(found) => Ok(Some(found)),
        Err(EngineError::NotFound(_)) if id.len() < WHOLE_ID_BYTES => {
            let all = engine.containers(&ContainerFilter::default()).into_iter();
            Ok(one(field, &id, fit(all.filter(|c| c.id.as_str().starts_with(&id))))?)
        }
        Err(EngineError::NotFound(_)) => Ok(None),
        Err(error) => Err(status::from_engine(&error)),
    }
}

/// As [`sandbox`]; an absent one is an error.
pub(crate) fn known_sandbox(engine: &Engine, field: &str, id: String) -> Result<SandboxSnapshot, Status> {
    let text = absent("sandbox", &id);
    sandbox(engine, field, id)?.ok_or_else(|| status::not_found(&text))
}

/// As [`container`]; an absent one is an error.
pub(crate) fn known_container(engine: &Engine, field: &str, id: String) -> Result<ContainerSnapshot, Status> {
    let text = absent("container", &id);
    container(engine, field, id)?.ok_or_else(|| status::not_found(&text))
}

fn absent(what: &str, id: &str) -> String {
    format!("no {what} has the id {}; it may have been removed", shown(id))
}
