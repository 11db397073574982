//! Taking privileges from the calling thread for good: for helpers that handle what strangers wrote, and for the daemon itself. What each
//! of them keeps is said where it is made.

use rustix::io::Errno;
pub use rustix::thread::CapabilitySet;
use rustix::thread::{CapabilitySets, capabilities, clear_ambient_capability_set, set_capabilities, set_no_new_privs};

use crate::seccomp::{SeccompInstruction, install_seccomp_filter};

/// System calls that a helper may need at most.
const MAX_CALLS: usize = 64;
/// Instructions around them: architecture, number, two ends.
const FRAME: usize = 5;

const LOAD_WORD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ERRNO: u32 = 0x0005_0000;
/// No mitigation that slows every system call down: the helper runs our code only.
const FILTER_FLAG_SPEC_ALLOW: u64 = 1 << 2;

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

/// A system call filter that lets the named calls through and answers EPERM to all others. It is made when the program is compiled: a
/// process that is one of hundreds pays neither time nor memory of its own for it.
#[derive(Debug, Clone, Copy)]
pub struct AllowList {
    instructions: [SeccompInstruction; MAX_CALLS + FRAME],
    length: usize,
}

impl AllowList {
    /// A filter of these numbers (`libc::SYS_*`). To be a constant: more than 64 do not compile.
    #[must_use]
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses what is out of bounds")]
    pub const fn new(calls: &[libc::c_long]) -> Self {
        let mut made = Self { instructions: [instruction(RETURN, 0, 0, RET_ERRNO); MAX_CALLS + FRAME], length: 0 };
        let count = calls.len();
        made.instructions[0] = instruction(LOAD_WORD, 0, 0, ARCH_OFFSET);
        // Of another architecture: to the refusal, which follows the comparisons.
        made.instructions[1] = instruction(JUMP_EQUAL, 0, count as u8 + 1, AUDIT_ARCH);
        made.instructions[2] = instruction(LOAD_WORD, 0, 0, NUMBER_OFFSET);
        let mut at = 0;
        while at < count {
            made.instructions[3 + at] = instruction(JUMP_EQUAL, (count - at) as u8, 0, calls[at] as u32);
            at += 1;
        }
        made.instructions[3 + count] = instruction(RETURN, 0, 0, RET_ERRNO | libc::EPERM as u32);
        made.instructions[4 + count] = instruction(RETURN, 0, 0, RET_ALLOW);
        made.length = count + FRAME;
        made
    }

    /// Installs it for the calling thread, which can gain no privileges any more (`no_new_privs`).
    ///
    /// # Errors
    /// Those of prctl(2) and seccomp(2).
    pub fn install(&self) -> Result<(), Errno> {
        gain_nothing()?;
        install_seccomp_filter(self.instructions.get(..self.length).unwrap_or_default(), FILTER_FLAG_SPEC_ALLOW)
    }
}

const fn instruction(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> SeccompInstruction {
    SeccompInstruction { code, jump_true, jump_false, operand }
}

/// From now on no program that the calling thread executes gains anything by set-uid bits or file capabilities. What it starts
/// inherits that: nothing for a process that makes containers.
///
/// # Errors
/// Those of prctl(2).
pub fn gain_nothing() -> Result<(), Errno> {
    set_no_new_privs(true)
}

/// Takes all capabilities but those of `keep` from the calling thread: from its effective and permitted sets; the inheritable and the
/// ambient set are emptied. One that is not there is not missed. The bounding set stays: a program that root executes gets all of it.
/// Threads that are made later inherit this. Returns what is left.
///
/// # Errors
/// Those of capset(2): <https://man7.org/linux/man-pages/man2/capset.2.html>.
pub fn keep_capabilities(keep: CapabilitySet) -> Result<CapabilitySet, Errno> {
    let held = capabilities(None)?;
    // A kernel without ambient capabilities has none to clear.
    let _ = clear_ambient_capability_set();
    let permitted = held.permitted & keep;
    let effective = held.effective & keep;
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })?;
    Ok(permitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line of the calling thread's status.
    fn status(key: &str) -> String {
        let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        text.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim_start_matches(':').trim().to_owned()
    }

    fn in_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().unwrap()
    }

    #[test]
    fn what_is_named_passes_and_the_rest_is_refused() {
        const FILTER: AllowList = AllowList::new(&[
            libc::SYS_read,
            libc::SYS_openat,
            libc::SYS_close,
            libc::SYS_statx,
            libc::SYS_newfstatat,
            libc::SYS_fstat,
            libc::SYS_lseek,
            libc::SYS_brk,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_mremap,
            libc::SYS_mprotect,
            libc::SYS_madvise,
            libc::SYS_futex,
            libc::SYS_exit,
            libc::SYS_sigaltstack,
            libc::SYS_rt_sigprocmask,
            libc::SYS_rseq,
            libc::SYS_set_robust_list,
            libc::SYS_sched_getaffinity,
            libc::SYS_getcwd,
        ]);
        let (seccomp, gains, refused) = in_a_thread(|| {
            FILTER.install().unwrap();
            (
                status("Seccomp"),
                status("NoNewPrivs"),
                rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).err(),
            )
        });
        assert_eq!((seccomp.as_str(), gains.as_str()), ("2", "1"));
        assert_eq!(refused, Some(Errno::PERM));
        // Nobody else is bound by it.
        assert_eq!(status("NoNewPrivs"), "0");
    }

    #[test]
    fn capabilities_that_are_not_kept_are_gone() {
        let before = capabilities(None).unwrap();
        let (left, now) = in_a_thread(|| {
            let left = keep_capabilities(CapabilitySet::CHOWN | CapabilitySet::SYS_RESOURCE).unwrap();
            (left, capabilities(None).unwrap())
        });
        assert_eq!(left, before.permitted & (CapabilitySet::CHOWN | CapabilitySet::SYS_RESOURCE));
        assert_eq!((now.permitted, now.effective & !left), (left, CapabilitySet::empty()));
        assert_eq!(now.inheritable, CapabilitySet::empty());
        assert_eq!(capabilities(None).unwrap(), before, "another thread");
    }
}
