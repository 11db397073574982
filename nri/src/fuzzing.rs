//! What must hold of answers of plugins.

use oci_spec::runtime::Spec;
use prost::Message as _;

use crate::api::{Container, CreateContainerResponse};
use crate::{Collected, apply};

/// Takes two answers to one CreateContainer, a half of the bytes each, as two plugins may give them, and applies what comes of them:
/// every variable has one owner, and the specification that comes of it can be written and read.
///
/// # Panics
/// It is not so.
pub fn answers(bytes: &[u8]) {
    let (one, other) = bytes.split_at(bytes.len() / 2);
    let mut all = Collected::default();
    let mut container = Container { id: "c".into(), ..Container::default() };
    for (plugin, answer) in [("01-one", one), ("02-other", other)] {
        let Ok(answer) = CreateContainerResponse::decode(answer) else { continue };
        if all.take(plugin, &mut container, answer.adjust, answer.update, answer.evict).is_err() {
            return;
        }
    }
    let owners = all.owners.owners.get("c").cloned().unwrap_or_default();
    for variable in all.adjust.env.iter().filter(|variable| !variable.key.starts_with('-')) {
        let owned = owners.compound.values().any(|field| field.owners.contains_key(&variable.key));
        assert!(owned, "the variable {:?} is nobody's", variable.key);
    }
    let mut spec = Spec::default();
    if apply(&all.adjust, &mut spec).is_ok() {
        let json = serde_json::to_vec(&spec).unwrap_or_default();
        assert!(serde_json::from_slice::<Spec>(&json).is_ok(), "a specification that can not be read again");
    }
}
