//! The heap of a process that lives long and does little.

/// Gives freed memory back to the kernel, where the C library can: malloc_trim(3),
/// <https://man7.org/linux/man-pages/man3/malloc_trim.3.html>. Without it up to 128 KiB of freed memory stay.
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call touches only memory that the allocator knows to be free.
    unsafe {
        libc::malloc_trim(0);
    }
}
