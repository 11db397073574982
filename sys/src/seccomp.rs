//! Installing a seccomp filter. Making one is left to the caller.

use rustix::io::Errno;

use crate::check;

/// One instruction of classic BPF, `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeccompInstruction {
    /// Operation.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jump_true: u8,
    /// Instructions to skip if it does not.
    pub jump_false: u8,
    /// Operand.
    pub operand: u32,
}

#[repr(C)]
struct FilterProgram {
    length: u16,
    filter: *const SeccompInstruction,
}

/// Installs `filter` for the calling thread, with seccomp(2): <https://man7.org/linux/man-pages/man2/seccomp.2.html>. `flags`
/// are `SECCOMP_FILTER_FLAG_*`.
///
/// # Errors
/// `E2BIG` for a filter over 65535 instructions; else those of the call.
pub fn install_seccomp_filter(filter: &[SeccompInstruction], flags: u64) -> Result<(), Errno> {
    let length = u16::try_from(filter.len()).map_err(|_| Errno::TOOBIG)?;
    let program = FilterProgram { length, filter: filter.as_ptr() };
    // SAFETY: the program points to `length` instructions laid out as sock_filter, all alive during the call.
    check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) })
        .map(|_| ())
}
