//! The socket where plugins dial in. Whoever can dial it changes containers at will, so it is root's alone.

use std::fs::{DirBuilder, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

/// Makes the socket. One that somebody else serves is left alone.
pub(crate) async fn bind(path: &Path) -> Result<UnixListener, String> {
    let failed = |error: std::io::Error| format!("the NRI socket {}: {error}", path.display());
    if UnixStream::connect(path).await.is_ok() {
        let text = "another runtime serves it; give this one another [nri] socket";
        return Err(format!("the NRI socket {}: {text}", path.display()));
    }
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

/// Takes it away, at the end.
pub(crate) fn remove(path: &Path) {
    // The next daemon replaces what is left.
    let _ = std::fs::remove_file(path);
}
