//! Which devices a cgroup may use: the rules of the specification, those that every container has, and both as the lines of
//! v1 or the BPF program of v2. Writing and attaching is left to `v1` and `v2`.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use podwright_sys::BpfInstruction;

use crate::Error;

const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

/// Kind, major, minor, access of what every container may use: mknod of anything, the standard nodes, terminals.
const DEFAULTS: [(Kind, Option<u32>, Option<u32>, u32); 11] = [
    (Kind::Char, None, None, MKNOD),
    (Kind::Block, None, None, MKNOD),
    (Kind::Char, Some(1), Some(3), MKNOD | READ | WRITE),
    (Kind::Char, Some(1), Some(5), MKNOD | READ | WRITE),
    (Kind::Char, Some(1), Some(7), MKNOD | READ | WRITE),
    (Kind::Char, Some(1), Some(8), MKNOD | READ | WRITE),
    (Kind::Char, Some(1), Some(9), MKNOD | READ | WRITE),
    (Kind::Char, Some(5), Some(0), MKNOD | READ | WRITE),
    (Kind::Char, Some(5), Some(1), MKNOD | READ | WRITE),
    (Kind::Char, Some(5), Some(2), MKNOD | READ | WRITE),
    (Kind::Char, Some(136), None, MKNOD | READ | WRITE),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    All,
    Char,
    Block,
}

/// A rule with every default made explicit; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) allow: bool,
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

const DENY_EVERYTHING: Rule =
    Rule { allow: false, kind: Kind::All, major: None, minor: None, access: MKNOD | READ | WRITE };

impl Rule {
    /// v1 takes any rule of kind `a` for everything, so those that are not become one of each kind.
    fn push_to(self, rules: &mut Vec<Self>) {
        if self.kind == Kind::All && !self.is_everything() {
            rules.extend([Kind::Char, Kind::Block].map(|kind| Self { kind, ..self }));
        } else {
            rules.push(self);
        }
    }

    fn from_spec(rule: &LinuxDeviceCgroup) -> Result<Self, Error> {
        let kind = match rule.typ() {
            None | Some(LinuxDeviceType::A) => Kind::All,
            Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Char,
            Some(LinuxDeviceType::B) => Kind::Block,
            Some(LinuxDeviceType::P) => return Err(Error::Invalid("a FIFO has no device rule".to_owned())),
        };
        let mut access = 0;
        for letter in rule.access().as_deref().unwrap_or("rwm").chars() {
            access |= match letter {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => return Err(Error::Invalid(format!("device access {letter:?} is none of r, w, m"))),
            };
        }
        if access == 0 {
            return Err(Error::Invalid("a device rule needs an access of r, w or m".to_owned()));
        }
        Ok(Self { allow: rule.allow(), kind, major: number(rule.major())?, minor: number(rule.minor())?, access })
    }

    fn is_everything(&self) -> bool {
        self.kind == Kind::All && self.major.is_none() && self.minor.is_none() && self.access == MKNOD | READ | WRITE
    }

    /// The line for `devices.allow` or `devices.deny`.
    pub(crate) fn to_v1(self) -> String {
        if self.is_everything() {
            return "a".to_owned();
        }
        let kind = match self.kind {
            Kind::All => 'a',
            Kind::Char => 'c',
            Kind::Block => 'b',
        };
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access: String =
            letters.iter().filter(|(bit, _)| self.access & bit != 0).map(|(_, letter)| letter).collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

fn number(value: Option<i64>) -> Result<Option<u32>, Error> {
    match value {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| Error::Invalid(format!("{n} is no device number"))),
    }
}

/// The rules as they are to be written, in order; the last that fits decides. A list denies what it does not name, and those of
/// every container come after the denial. Empty if all is allowed, as in a new cgroup.
pub(crate) fn effective(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let mut given = Vec::with_capacity(rules.len() + DEFAULTS.len() + 1);
    for rule in rules {
        Rule::from_spec(rule)?.push_to(&mut given);
    }
    if given.iter().all(|rule| rule.allow) && given.first().is_none_or(|rule| rule.is_everything()) {
        return Ok(Vec::new());
    }
    let mut effective = Vec::with_capacity(given.len() + DEFAULTS.len() + 1);
    let mut given = given.into_iter().peekable();
    match given.next_if(|first| first.is_everything()) {
        Some(first) if first.allow => effective.push(first),
        _ => {
            effective.push(DENY_EVERYTHING);
            effective.extend(DEFAULTS.iter().map(|&(kind, major, minor, access)| Rule {
                allow: true,
                kind,
                major,
                minor,
                access,
            }));
        }
    }
    for rule in given {
        // Callers name those of every container again. Each line is a write, and an allowance is not changed by its repetition.
        let is_repeated =
            rule.allow && effective.iter().rev().take_while(|known| known.allow).any(|known| *known == rule);
        if !is_repeated {
            effective.push(rule);
        }
    }
    Ok(effective)
}

const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> BpfInstruction {
    BpfInstruction { code, registers, offset, immediate }
}

const LOAD_WORD: u8 = 0x61;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const COPY: u8 = 0xbf;
const SET: u8 = 0xb7;
const JUMP_NOT_EQUAL: u8 = 0x55;
const JUMP_EQUAL: u8 = 0x15;
const EXIT: u8 = 0x95;

/// The program of v2. The last rule that fits decides; where none does, access is denied. An access asks for several bits at
/// once: an allowing rule must allow them all, a denying rule needs to deny one.
pub(crate) fn program(rules: &[Rule]) -> Result<Vec<BpfInstruction>, Error> {
    // bpf_cgroup_dev_ctx at r1: access << 16 | type, major, minor. Into r2 type, r3 access, r4 major, r5 minor.
    let mut program = vec![
        instruction(LOAD_WORD, 0x12, 0, 0),
        instruction(COPY, 0x23, 0, 0),
        instruction(AND, 0x02, 0, 0xffff),
        instruction(SHIFT_RIGHT, 0x03, 0, 16),
        instruction(LOAD_WORD, 0x14, 4, 0),
        instruction(LOAD_WORD, 0x15, 8, 0),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(rule)?);
        if rule.is_everything() {
            // Nothing after it is ever reached, and the verifier refuses what is never reached.
            return Ok(program);
        }
    }
    program.extend([instruction(SET, 0, 0, 0), instruction(EXIT, 0, 0, 0)]);
    Ok(program)
}

/// Tests that jump past the block when the rule does not fit, then the decision.
fn block(rule: &Rule) -> Result<Vec<BpfInstruction>, Error> {
    let constant = |n: u32| i32::try_from(n).map_err(|_| Error::Invalid(format!("device number {n} is too large")));
    let mut tests: Vec<BpfInstruction> = Vec::new();
    match rule.kind {
        Kind::All => {}
        Kind::Block => tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 1)),
        Kind::Char => tests.push(instruction(JUMP_NOT_EQUAL, 2, 0, 2)),
    }
    if rule.access != MKNOD | READ | WRITE {
        tests.push(instruction(COPY, 0x31, 0, 0));
        if rule.allow {
            tests.push(instruction(AND, 1, 0, constant(!rule.access & (MKNOD | READ | WRITE))?));
            tests.push(instruction(JUMP_NOT_EQUAL, 1, 0, 0));
        } else {
            tests.push(instruction(AND, 1, 0, constant(rule.access)?));
            tests.push(instruction(JUMP_EQUAL, 1, 0, 0));
        }
    }
    for (register, value) in [(4, rule.major), (5, rule.minor)] {
        if let Some(value) = value {
            tests.push(instruction(JUMP_NOT_EQUAL, register, 0, constant(value)?));
        }
    }
    let length = tests.len();
    for (at, test) in tests.iter_mut().enumerate() {
        if matches!(test.code, JUMP_EQUAL | JUMP_NOT_EQUAL) {
            // Past the tests that follow and the two instructions of the decision.
            test.offset =
                i16::try_from(length - at - 1 + 2).map_err(|_| Error::Invalid("too many tests".to_owned()))?;
        }
    }
    tests.extend([instruction(SET, 0, 0, i32::from(rule.allow)), instruction(EXIT, 0, 0, 0)]);
    Ok(tests)
}

#[cfg(test)]
mod tests;
