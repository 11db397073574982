//! The session keyring of a process: keyrings(7).

use rustix::io::Errno;

use crate::check;

/// `KEYCTL_JOIN_SESSION_KEYRING`.
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Gives the process, and its children to come, a new session keyring without a name, so that they see no key of the caller:
/// <https://man7.org/linux/man-pages/man2/keyctl.2.html>. A kernel without keyrings has none to see.
///
/// # Errors
/// `EDQUOT` if the user has too many keys; else those of the call.
pub fn new_session_keyring() -> Result<(), Errno> {
    // SAFETY: a null name asks for an anonymous keyring; nothing is read or written.
    let joined = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>()) };
    match check(joined) {
        Ok(_) | Err(Errno::NOSYS) => Ok(()),
        Err(errno) => Err(errno),
    }
}
