//! `start`.

use anyhow::{Context, Result, bail};

use crate::status::{Status, status};
use crate::store::Store;
use crate::{gate, waiting};

/// Lets the program of a created container run.
pub(crate) fn start(store: &Store, id: &str) -> Result<()> {
    let (place, record) = store.find(id)?;
    let identity = match (status(&place, &record)?, record.process) {
        (Status::Created, Some(identity)) => identity,
        (other, _) => bail!("cannot start container {id:?}: it is {other}, and only a created one can be started"),
    };
    let mut starting = gate::open(&place, identity)?;
    waiting::follow(&mut starting, |_| Ok(()), None).map(drop).with_context(|| format!("cannot start container {id:?}"))
}
