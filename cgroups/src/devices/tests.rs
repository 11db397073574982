//! The program of v2 is run by a small interpreter here and compared with the rules; the kernel's verifier sees it too.

use super::*;

fn rule(allow: bool, typ: LinuxDeviceType, major: Option<i64>, minor: Option<i64>, access: &str) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_typ(Some(typ)).set_major(major).set_minor(minor).set_access(Some(access.to_owned()));
    rule
}

fn deny_all() -> LinuxDeviceCgroup {
    rule(false, LinuxDeviceType::A, None, None, "rwm")
}

/// Runs a program for one access.
fn run(program: &[BpfInstruction], kind: u32, access: u32, major: u32, minor: u32) -> bool {
    let context = [kind | access << 16, major, minor];
    let mut registers = [0_u64; 11];
    let mut at = 0_usize;
    loop {
        let i = program[at];
        let (to, from) = (usize::from(i.registers & 15), usize::from(i.registers >> 4));
        at += 1;
        match i.code {
            LOAD_WORD => registers[to & 15] = u64::from(context[usize::try_from(i.offset / 4).unwrap()]),
            COPY => registers[to] = registers[from],
            AND => registers[to] &= u64::try_from(i.immediate).unwrap(),
            SHIFT_RIGHT => registers[to] >>= i.immediate,
            SET => registers[to] = u64::try_from(i.immediate).unwrap(),
            JUMP_EQUAL | JUMP_NOT_EQUAL => {
                let equal = registers[to] == u64::try_from(i.immediate).unwrap();
                if equal == (i.code == JUMP_EQUAL) {
                    at += usize::try_from(i.offset).unwrap();
                }
            }
            EXIT => return registers[0] == 1,
            other => panic!("unknown instruction {other:#x}"),
        }
    }
}

#[test]
fn the_program_decides_as_the_rules_say() {
    let rules = [
        deny_all(),
        rule(true, LinuxDeviceType::C, Some(10), Some(229), "rw"),
        rule(true, LinuxDeviceType::B, Some(8), None, "r"),
        rule(false, LinuxDeviceType::B, Some(8), Some(1), "r"),
    ];
    let program = program(&effective(&rules).unwrap()).unwrap();
    let (block, char) = (1, 2);
    for (kind, access, major, minor, allowed) in [
        (char, READ | WRITE, 1, 3, true),
        (char, READ, 1, 1, false),
        (char, MKNOD, 1, 1, true),
        (char, READ | WRITE, 10, 229, true),
        (char, MKNOD | READ, 10, 229, false),
        (block, READ, 8, 0, true),
        (block, READ | WRITE, 8, 0, false),
        (block, READ, 8, 1, false),
        (block, MKNOD, 9, 9, true),
        (char, READ, 136, 77, true),
    ] {
        assert_eq!(run(&program, kind, access, major, minor), allowed, "{kind} {access} {major}:{minor}");
    }
}

#[test]
fn root_the_kernel_takes_the_program() {
    let rules = [
        deny_all(),
        rule(true, LinuxDeviceType::B, Some(8), None, "r"),
        rule(false, LinuxDeviceType::C, None, None, "w"),
    ];
    let program = program(&effective(&rules).unwrap()).unwrap();
    podwright_sys::load_device_program(&program).unwrap();
}

#[test]
fn lines_of_v1() {
    let rules = effective(&[deny_all(), rule(true, LinuxDeviceType::C, Some(10), Some(-1), "rw")]).unwrap();
    assert_eq!(rules.first().map(|r| r.to_v1()), Some("a".to_owned()));
    assert_eq!(rules.get(1).map(|r| r.to_v1()), Some("c *:* m".to_owned()));
    assert_eq!(rules.last().map(|r| r.to_v1()), Some("c 10:* rw".to_owned()));
}

#[test]
fn bad_rules_are_refused() {
    for bad in [
        rule(true, LinuxDeviceType::C, Some(-5), None, "r"),
        rule(true, LinuxDeviceType::C, Some(1 << 40), None, "r"),
        rule(true, LinuxDeviceType::C, None, None, "rx"),
        rule(true, LinuxDeviceType::P, None, None, "r"),
    ] {
        assert!(effective(&[bad]).is_err());
    }
}

#[test]
fn what_every_container_has_is_not_written_again() {
    let null = |allow| rule(allow, LinuxDeviceType::C, Some(1), Some(3), "rwm");
    let lines = |rules: &[LinuxDeviceCgroup]| -> Vec<String> {
        effective(rules).unwrap().into_iter().map(|rule| format!("{} {}", rule.allow, rule.to_v1())).collect()
    };
    let plain = lines(&[deny_all()]);
    assert!(plain.contains(&"true c 1:3 rwm".to_owned()));
    assert_eq!(lines(&[deny_all(), null(true)]), plain);
    // After a denial it says something again.
    let again = lines(&[deny_all(), null(false), null(true)]);
    assert_eq!(again[plain.len()..], ["false c 1:3 rwm", "true c 1:3 rwm"]);
}
