//! Programs are run by a small interpreter of classic BPF, and the default profile by the kernel.

use oci_spec::runtime::{Capabilities, Capability};

use super::*;
use crate::seccomp::{parse_profile, runtime_default};

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;

fn run(filter: &Filter, arch: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let load = |offset: u32| match offset {
        NUMBER_OFFSET => number,
        ARCH_OFFSET => arch,
        _ => {
            let word = (offset - ARGUMENTS_OFFSET) / 4;
            let argument = arguments[word as usize / 2];
            if word.is_multiple_of(2) { lower(argument) } else { upper(argument) }
        }
    };
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let i = filter.instructions[at];
        at += 1;
        let holds = match i.code {
            0x20 => {
                a = load(i.operand);
                continue;
            }
            0x54 => {
                a &= i.operand;
                continue;
            }
            0x05 => {
                at += i.operand as usize;
                continue;
            }
            0x06 => return i.operand,
            0x15 => a == i.operand,
            0x25 => a > i.operand,
            0x35 => a >= i.operand,
            other => panic!("instruction {other:#x}"),
        };
        at += usize::from(if holds { i.jump_true } else { i.jump_false });
    }
}

fn native(filter: &Filter, name: &str, first: u64) -> u32 {
    let number = (TABLES[0].number)(name).unwrap();
    run(filter, TABLES[0].audit, number, [first, 0, 0, 0, 0, 0])
}

fn profile(json: &str) -> LinuxSeccomp {
    parse_profile(json.as_bytes(), &Capabilities::default(), "6.1.0-13-amd64").unwrap()
}

#[test]
fn every_comparison_decides_on_all_64_bits() {
    let values = [0u64, 1, 38, 0xffff_ffff, 0x1_0000_0000, 0x1_0000_0026, u64::MAX];
    type Holds = fn(u64, u64) -> bool;
    let operators: [(&str, Holds); 6] = [
        ("SCMP_CMP_EQ", |a, v| a == v),
        ("SCMP_CMP_NE", |a, v| a != v),
        ("SCMP_CMP_LT", |a, v| a < v),
        ("SCMP_CMP_LE", |a, v| a <= v),
        ("SCMP_CMP_GT", |a, v| a > v),
        ("SCMP_CMP_GE", |a, v| a >= v),
    ];
    for (operator, holds) in operators {
        for value in values {
            let filter = compile(&profile(&format!(
                r#"{{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":13,"syscalls":[{{"names":["socket"],"action":"SCMP_ACT_ALLOW",
                    "args":[{{"index":0,"value":{value},"op":"{operator}"}}]}}]}}"#
            )))
            .unwrap();
            for argument in values {
                let expected = if holds(argument, value) { RET_ALLOW } else { RET_ERRNO | 13 };
                assert_eq!(native(&filter, "socket", argument), expected, "{argument:#x} {operator} {value:#x}");
            }
        }
    }
}

#[test]
fn different_arguments_must_all_hold_and_one_named_twice_either() {
    let json = |second: usize| {
        format!(
            r#"{{"defaultAction":"SCMP_ACT_KILL_PROCESS","syscalls":[{{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[
                {{"index":0,"value":2,"op":"SCMP_CMP_EQ"}},{{"index":{second},"value":5,"op":"SCMP_CMP_EQ"}}]}}]}}"#
        )
    };
    let number = (TABLES[0].number)("socket").unwrap();
    let both = compile(&profile(&json(1))).unwrap();
    assert_eq!(run(&both, TABLES[0].audit, number, [2, 5, 0, 0, 0, 0]), RET_ALLOW);
    assert_eq!(run(&both, TABLES[0].audit, number, [2, 6, 0, 0, 0, 0]), RET_KILL_PROCESS);
    let either = compile(&profile(&json(0))).unwrap();
    assert_eq!(native(&either, "socket", 2), RET_ALLOW);
    assert_eq!(native(&either, "socket", 5), RET_ALLOW);
    assert_eq!(native(&either, "socket", 3), RET_KILL_PROCESS);
}

#[test]
fn the_default_profile_holds_back_what_reaches_beyond_the_container() {
    let filter = compile(&runtime_default(&Capabilities::default()).unwrap()).unwrap();
    let denied = RET_ERRNO | libc::EPERM.unsigned_abs();
    for name in ["mount", "unshare", "setns", "bpf", "kexec_load", "keyctl", "io_uring_setup", "chroot", "open_tree"] {
        assert_eq!(native(&filter, name, 0), denied, "{name}");
    }
    for name in ["read", "execve", "futex", "openat2", "ptrace", "landlock_create_ruleset", "rseq"] {
        assert_eq!(native(&filter, name, 0), RET_ALLOW, "{name}");
    }
    assert_eq!(native(&filter, "clone3", 0), RET_ERRNO | libc::ENOSYS.unsigned_abs());
    assert_eq!(native(&filter, "clone", libc::SIGCHLD as u64), RET_ALLOW);
    assert_eq!(native(&filter, "clone", libc::CLONE_NEWUSER as u64), denied);
    assert_eq!(native(&filter, "clone", libc::CLONE_NEWNET as u64 | libc::CLONE_VM as u64), denied);
    assert_eq!(native(&filter, "socket", libc::AF_INET as u64), RET_ALLOW);
    assert_eq!(native(&filter, "socket", libc::AF_XDP as u64), RET_ALLOW);
    assert_eq!(native(&filter, "socket", libc::AF_VSOCK as u64), denied);
    assert_eq!(native(&filter, "socket", libc::AF_ALG as u64), denied);
    assert_eq!(native(&filter, "personality", 0x4_0000), denied, "ADDR_NO_RANDOMIZE");
    assert_eq!(run(&filter, TABLES[0].audit, 9999, [0; 6]), RET_ERRNO | libc::ENOSYS.unsigned_abs());
    assert_eq!(run(&filter, 0x1234, 0, [0; 6]), RET_KILL_PROCESS, "a foreign architecture");
}

#[test]
fn every_number_of_every_table_is_decided_as_the_profile_says() {
    let profile = runtime_default(&Capabilities::default()).unwrap();
    let plain = profile.syscalls().iter().flatten().find(|entry| entry.args().is_none()).unwrap();
    let filter = compile(&profile).unwrap();
    for table in TABLES {
        let newest = (table.names)().iter().filter_map(|name| (table.number)(name)).max().unwrap();
        let allowed: std::collections::BTreeSet<u32> =
            plain.names().iter().filter_map(|name| (table.number)(name)).collect();
        let special = ["clone", "clone3", "personality", "socket"].map(|name| (table.number)(name));
        for number in (0..=newest + 2).filter(|number| !special.contains(&Some(*number))) {
            let expected = match allowed.contains(&number) {
                true => RET_ALLOW,
                false if number > newest => errno(libc::ENOSYS),
                false => errno(libc::EPERM),
            };
            assert_eq!(run(&filter, table.audit, number, [0; 6]), expected, "{number} of {:#x}", table.audit);
        }
    }
    assert!(filter.instruction_count() < 800, "{}", filter.instruction_count());
}

#[test]
fn capabilities_open_their_calls() {
    let admin = Capabilities::from([Capability::SysAdmin, Capability::SysChroot]);
    let filter = compile(&runtime_default(&admin).unwrap()).unwrap();
    for name in ["mount", "unshare", "bpf", "chroot", "clone3"] {
        assert_eq!(native(&filter, name, 0), RET_ALLOW, "{name}");
    }
    assert_eq!(native(&filter, "reboot", 0), RET_ERRNO | libc::EPERM.unsigned_abs());
}

#[cfg(target_arch = "x86_64")]
#[test]
fn no_second_calling_convention_walks_around_the_filter() {
    let filter = compile(&runtime_default(&Capabilities::default()).unwrap()).unwrap();
    let i386_mount = 21;
    assert_eq!(run(&filter, I386, i386_mount, [0; 6]), RET_ERRNO | libc::EPERM.unsigned_abs());
    let x32_mount = 0x4000_0000 | (TABLES[0].number)("mount").unwrap();
    assert_eq!(run(&filter, X86_64, x32_mount, [0; 6]), RET_ERRNO | libc::ENOSYS.unsigned_abs());
    let only_native =
        compile(&profile(r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]}"#)).unwrap();
    assert_eq!(run(&only_native, I386, 1, [0; 6]), RET_KILL_PROCESS);
}

#[test]
fn conditions_of_a_profile_choose_its_rules() {
    let json = r#"{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86","SCMP_ARCH_X32"]},
        {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":["SCMP_ARCH_ARM"]}],
        "syscalls":[
        {"names":["mount"],"action":"SCMP_ACT_ALLOW","includes":{"caps":["CAP_SYS_ADMIN"]}},
        {"names":["ptrace"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"4.8"}},
        {"names":["reboot"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"99.0"}},
        {"names":["chroot"],"action":"SCMP_ACT_ALLOW","excludes":{"caps":["CAP_SYS_ADMIN"]}},
        {"name":"read","action":"SCMP_ACT_ALLOW","excludes":{"arches":["s390x"]}},
        {"names":["no_such_call"],"action":"SCMP_ACT_ALLOW"}]}"#;
    let admin = Capabilities::from([Capability::SysAdmin]);
    let with = compile(&parse_profile(json.as_bytes(), &admin, "6.18.44-x").unwrap()).unwrap();
    let without = compile(&profile(json)).unwrap();
    let denied = RET_ERRNO | libc::EPERM.unsigned_abs();
    assert_eq!((native(&with, "mount", 0), native(&without, "mount", 0)), (RET_ALLOW, denied));
    assert_eq!((native(&with, "chroot", 0), native(&without, "chroot", 0)), (denied, RET_ALLOW));
    assert_eq!(native(&with, "ptrace", 0), RET_ALLOW);
    assert_eq!(native(&with, "reboot", 0), denied);
    assert_eq!(native(&with, "read", 0), RET_ALLOW);
}

#[test]
fn what_is_no_profile_is_said() {
    for (json, expected) in [
        ("[]", "no JSON in the format"),
        (r#"{"defaultAction":"ALLOW"}"#, "defaultAction \"ALLOW\""),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":1,"op":"SCMP_CMP_EQ"}]}]}"#,
            "argument 6 of read",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_NOTIFY"}]}"#, "NOTIFY"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_S390X"]}"#,
            "no architecture of this machine",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["x86"]}"#, "architectures \"x86\""),
    ] {
        let result = parse_profile(json.as_bytes(), &Capabilities::default(), "6.1").and_then(|p| compile(&p));
        let text = result.unwrap_err().to_string();
        assert!(text.contains(expected), "{json}: {text}");
    }
}
