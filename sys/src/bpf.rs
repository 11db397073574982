//! BPF programs that decide over devices of a cgroup (v2). What they decide is left to the caller.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::check;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// One instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpfInstruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Offset of a jump or of memory.
    pub offset: i16,
    /// Constant.
    pub immediate: i32,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Loads a program of type `BPF_PROG_TYPE_CGROUP_DEVICE`, with bpf(2): <https://man7.org/linux/man-pages/man2/bpf.2.html>.
///
/// # Errors
/// `EINVAL` or `EACCES` if the verifier rejects it; else those of the call.
pub fn load_device_program(program: &[BpfInstruction]) -> Result<OwnedFd, Errno> {
    let arguments = Load {
        program_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..Load::default()
    };
    // SAFETY: the attribute is the one of BPF_PROG_LOAD; its pointers are to memory that lives to the end of the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const arguments, size_of::<Load>()) })?;
    let fd = i32::try_from(fd).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: the kernel returned a new descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a device program to the cgroup (v2) whose directory is `cgroup`; all attached programs must allow an access.
///
/// # Errors
/// Those of bpf(2).
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> Result<(), Errno> {
    let number = |fd: i32| u32::try_from(fd).map_err(|_| Errno::BADF);
    let arguments = Attach {
        target: number(cgroup.as_fd().as_raw_fd())?,
        program: number(program.as_fd().as_raw_fd())?,
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: the attribute is the one of BPF_PROG_ATTACH and holds numbers only.
    check(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, &raw const arguments, size_of::<Attach>()) })
        .map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_verifier_takes_a_program_and_rejects_one_without_end() {
        let set = BpfInstruction { code: 0xb7, registers: 0, offset: 0, immediate: 1 };
        let exit = BpfInstruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };
        assert!(load_device_program(&[set, exit]).is_ok());
        assert!(load_device_program(&[set]).is_err());
    }
}
