//! From messages to the model: each field checked, each absence given its meaning.

mod container;
mod filter;
mod mount;
mod namespace;
mod resources;
mod sandbox;
mod security;
mod signal;

pub(crate) use container::container;
pub(crate) use filter::{container_filter, sandbox_filter};
pub(crate) use resources::changed_resources;
pub(crate) use sandbox::sandbox;
pub(crate) use signal::from_linux;

#[cfg(test)]
mod tests;
