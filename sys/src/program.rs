//! The pages of the running program's own file.

use std::fs;
use std::ops::Range;

use rustix::io::Errno;

use crate::check;

/// Takes those pages of the program's file out of this process's memory that hold what is in the file: code and constants. They stay in the
/// page cache; who runs through them next gets them from there with a fault for sixteen of them. Returns how many bytes were taken
/// out: madvise(2) with `MADV_DONTNEED`, <https://man7.org/linux/man-pages/man2/madvise.2.html>.
///
/// # Errors
/// The mappings can not be read, or the kernel refuses.
pub fn forget_program_pages() -> std::io::Result<u64> {
    let program = fs::read_link("/proc/self/exe")?;
    let mappings = fs::read_to_string("/proc/self/smaps")?;
    let mut forgotten = 0;
    for clean in clean_mappings(&mappings, &program.to_string_lossy()) {
        forget(&clean.range)?;
        forgotten += clean.resident_bytes;
    }
    Ok(forgotten)
}

fn forget(range: &Range<usize>) -> Result<(), Errno> {
    let start = std::ptr::with_exposed_provenance_mut::<libc::c_void>(range.start);
    // SAFETY: the range is a mapping of the program's own file that can not be written and of which no page was replaced by one of ours, and
    // mappings of the program itself are never moved or made writable after its start: the next access finds the same bytes in the file.
    check(unsafe { libc::c_long::from(libc::madvise(start, range.len(), libc::MADV_DONTNEED)) }).map(|_| ())
}

/// A mapping of a file that has nothing but what is in the file.
#[derive(Debug, PartialEq, Eq)]
struct Clean {
    range: Range<usize>,
    resident_bytes: u64,
}

/// Reads smaps: proc_pid_smaps(5).
fn clean_mappings(smaps: &str, path: &str) -> Vec<Clean> {
    let mut found = Vec::new();
    let mut candidate: Option<Clean> = None;
    for line in smaps.lines() {
        let kib = |name: &str| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.parse::<u64>().ok();
        if let Some(resident) = kib("Rss:") {
            candidate = candidate.map(|clean| Clean { resident_bytes: resident * 1024, ..clean });
        } else if let Some(own) = kib("Anonymous:") {
            // Without this line nothing is known, and the candidate is forgotten.
            found.extend(candidate.take().filter(|_| own == 0));
        } else if let Some(head) = read_only(line, path) {
            candidate = Some(Clean { range: head, resident_bytes: 0 });
        } else if is_head(line) {
            candidate = None;
        }
    }
    found
}

fn is_head(line: &str) -> bool {
    line.split(' ').next().is_some_and(|word| word.contains('-') && !word.ends_with(':'))
}

/// The range of a private mapping of this file that can not be written.
fn read_only(line: &str, path: &str) -> Option<Range<usize>> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let is_read_only = matches!(words.next()?, "r-xp" | "r--p");
    // Offset, device and inode.
    let is_file = words.nth(2)? != "0" && line.ends_with(path) && words.next() == path.split_ascii_whitespace().next();
    let number = |text| usize::from_str_radix(text, 16).ok();
    (is_read_only && is_file).then_some(())?;
    Some(number(start)?..number(end)?).filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
1000-3000 r--p 00000000 fe:00 77 /bin/program
Size:                  8 kB
Rss:                   4 kB
Anonymous:             0 kB
VmFlags: rd mr mw me
3000-5000 r-xp 00002000 fe:00 77 /bin/program
Rss:                   8 kB
Anonymous:             0 kB
5000-6000 r--p 00004000 fe:00 77 /bin/program
Rss:                   4 kB
Anonymous:             4 kB
6000-7000 rw-p 00005000 fe:00 77 /bin/program
Rss:                   4 kB
Anonymous:             0 kB
7000-8000 r-xp 00000000 fe:00 78 /lib/program
Rss:                   4 kB
Anonymous:             0 kB
8000-9000 r-xp 00000000 00:00 0 /bin/program
Anonymous:             0 kB
9000-a000 r-xp 00002000 fe:00 77 /bin/program
a000-b000 rw-p 00000000 00:00 0
Anonymous:             0 kB
";

    #[test]
    fn only_what_is_as_in_the_file_is_found() {
        let expected = [
            Clean { range: 0x1000..0x3000, resident_bytes: 4096 },
            Clean { range: 0x3000..0x5000, resident_bytes: 8192 },
        ];
        assert_eq!(clean_mappings(SMAPS, "/bin/program"), expected);
        assert_eq!(clean_mappings("", "/bin/program"), []);
        assert_eq!(clean_mappings("-\nRss: x kB\nAnonymous:", "/bin/program"), []);
    }

    #[test]
    fn the_program_goes_on_without_its_pages() {
        assert!(forget_program_pages().unwrap() > 0);
        // All of this runs through code that has just been taken out.
        let again = std::thread::spawn(|| forget_program_pages().unwrap());
        assert!(again.join().unwrap() > 0);
        assert_eq!(format!("{:?}", Some(1.5)), "Some(1.5)");
    }
}
