//! A question that the daemon asks at its start, answered by trying: it has many threads and can not make namespaces itself.

use std::path::Path;
use std::process::ExitCode;

/// Named by the daemon too.
const CAN_MAP_IDS: &str = "--can-map-ids";

/// `--can-map-ids DIRECTORY`: success, or the reason on stderr. `None` if something else is asked.
pub(crate) fn asked() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next()? != CAN_MAP_IDS {
        return None;
    }
    let directory = arguments.next().unwrap_or_default();
    Some(match podwright_runtime::can_map_ids(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => crate::startup::complain(&failure),
    })
}
