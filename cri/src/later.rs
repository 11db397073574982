//! RPCs that are served by a later version.

use tonic::Status;

use crate::status;

/// The answer of an RPC that is not served.
pub(crate) async fn not_yet<T>(rpc: &'static str) -> Result<T, Status> {
    Err(status::unimplemented(rpc))
}
