//! From an OCI profile to a program.
//!
//! For each architecture: load the number, go through the system calls in order, return the action of the first rule that
//! holds. A system call newer than all that the profile knows gets ENOSYS where the default is EPERM, because programs
//! fall back on the older call only on ENOSYS.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use podwright_sys::{Errno, SeccompInstruction, install_seccomp_filter};

use super::SeccompError;
use super::arch::{NATIVE_NAME, TABLES, Table};
use super::assembler::{Assembler, Label, Test};

const NUMBER_OFFSET: u32 = 0;
const ARCH_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;
const LAST_ARGUMENT: usize = 5;

/// Numbers above it mean the same call on every architecture, and none of them is older than Linux 5.1: a profile that names none
/// of them may have meant to deny them, one that names some did not know the later ones.
const LAST_OLD_NUMBER: u32 = 423;

const RET_KILL_PROCESS: u32 = 0x8000_0000;
const RET_KILL_THREAD: u32 = 0;
const RET_TRAP: u32 = 0x0003_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_TRACE: u32 = 0x7ff0_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_DATA: u32 = 0xffff;

/// A filter, ready to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    instructions: Vec<SeccompInstruction>,
    flags: u64,
}

impl Filter {
    /// Installs the filter for the calling thread, for good.
    ///
    /// # Errors
    /// `EACCES` without `no_new_privs` and `CAP_SYS_ADMIN`; else those of `seccomp(2)`.
    pub fn install(&self) -> Result<(), Errno> {
        install_seccomp_filter(&self.instructions, self.flags)
    }

    /// How many instructions it has.
    #[must_use]
    pub fn instruction_count(&self) -> usize {
        self.instructions.len()
    }
}

/// One way to an action: all comparisons hold.
struct Rule {
    arguments: Vec<LinuxSeccompArg>,
    action: u32,
}

/// Compiles a profile for this machine. Names that no table of this machine knows are passed over, as profiles are written for
/// many kernels.
///
/// # Errors
/// A word or number that the specification does not have, an action that needs an agent, or a profile that is too long.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let mut program = Assembler::default();
    for table in tables_of(profile)? {
        let rules = rules_of(profile.syscalls().as_deref().unwrap_or_default(), table)?;
        emit_architecture(&mut program, table, &rules, default);
    }
    program.ret(RET_KILL_PROCESS);
    Ok(Filter { instructions: program.finish()?, flags: flags(profile) })
}

fn tables_of(profile: &LinuxSeccomp) -> Result<Vec<&'static Table>, SeccompError> {
    let wanted = |table: &&Table| match profile.architectures() {
        Some(list) if !list.is_empty() => {
            list.contains(&table.oci) || (list.contains(&Arch::ScmpArchNative) && is_native(table))
        }
        _ => is_native(table),
    };
    let tables: Vec<&'static Table> = TABLES.iter().filter(wanted).collect();
    if tables.is_empty() { Err(SeccompError::ForeignArchitecture { native: NATIVE_NAME }) } else { Ok(tables) }
}

fn is_native(table: &Table) -> bool {
    TABLES.first().is_some_and(|native| native.audit == table.audit)
}

fn rules_of(syscalls: &[LinuxSyscall], table: &Table) -> Result<BTreeMap<u32, Vec<Rule>>, SeccompError> {
    let mut rules: BTreeMap<u32, Vec<Rule>> = BTreeMap::new();
    for entry in syscalls {
        let action = action(entry.action(), entry.errno_ret())?;
        for name in entry.names() {
            let Some(number) = (table.number)(name) else { continue };
            let arguments = entry.args().clone().unwrap_or_default();
            if let Some(bad) = arguments.iter().find(|a| a.index() > LAST_ARGUMENT) {
                return Err(SeccompError::BadArgument { syscall: name.clone(), index: bad.index() });
            }
            rules.entry(number).or_default().extend(alternatives(arguments, action));
        }
    }
    Ok(rules)
}

/// Comparisons of different arguments must all hold. Of one argument named twice, either may: so runc reads profiles.
fn alternatives(arguments: Vec<LinuxSeccompArg>, action: u32) -> Vec<Rule> {
    let twice = arguments.iter().enumerate().any(|(i, a)| arguments.iter().skip(i + 1).any(|b| a.index() == b.index()));
    if twice {
        arguments.into_iter().map(|a| Rule { arguments: vec![a], action }).collect()
    } else {
        vec![Rule { arguments, action }]
    }
}

fn emit_architecture(program: &mut Assembler, table: &Table, rules: &BTreeMap<u32, Vec<Rule>>, default: u32) {
    let next = program.label();
    program.load(ARCH_OFFSET);
    program.unless(Test::Equal, table.audit, next);
    program.load(NUMBER_OFFSET);
    if let Some(foreign) = table.foreign_from {
        return_if(program, Test::GreaterOrEqual, foreign, errno(libc::ENOSYS));
    }
    if default == errno(libc::EPERM)
        && let Some(newest) = rules.keys().next_back()
    {
        return_if(program, Test::Greater, (*newest).max(LAST_OLD_NUMBER), errno(libc::ENOSYS));
    }
    let nothing_left = program.label();
    for run in runs(rules) {
        match run {
            Run::Same { first, last, action } => emit_range(program, first..=last, action, nothing_left),
            Run::One { number, rules } => emit_syscall(program, number, rules, default),
        }
    }
    program.place(nothing_left);
    program.ret(default);
    program.place(next);
}

/// System calls that follow each other by number.
enum Run<'a> {
    /// All have this action, whatever their arguments.
    Same { first: u32, last: u32, action: u32 },
    /// Its arguments decide.
    One { number: u32, rules: &'a [Rule] },
}

/// Most calls of a profile have one action and neighbours with the same: told as ranges they are few. The kernel walks through
/// the filter for each number there is when it is installed, so a short one starts containers and execs sooner.
fn runs(rules: &BTreeMap<u32, Vec<Rule>>) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for (&number, rules) in rules {
        match (always(rules), runs.last_mut()) {
            (Some(wanted), Some(Run::Same { last, action, .. })) if *action == wanted && *last + 1 == number => {
                *last = number;
            }
            (Some(action), _) => runs.push(Run::Same { first: number, last: number, action }),
            (None, _) => runs.push(Run::One { number, rules }),
        }
    }
    runs
}

/// The action that a system call has whatever its arguments are.
fn always(rules: &[Rule]) -> Option<u32> {
    let action = rules.iter().find(|rule| rule.arguments.is_empty())?.action;
    rules.iter().all(|rule| rule.action == action).then_some(action)
}

/// Runs come in the order of numbers, so that one below the first of this is in none of those that follow.
fn emit_range(program: &mut Assembler, numbers: RangeInclusive<u32>, action: u32, nothing_left: Label) {
    let next = program.label();
    program.unless(Test::GreaterOrEqual, *numbers.start(), nothing_left);
    program.when(Test::Greater, *numbers.end(), next);
    program.ret(action);
    program.place(next);
}

fn return_if(program: &mut Assembler, test: Test, operand: u32, action: u32) {
    let skip = program.label();
    program.unless(test, operand, skip);
    program.ret(action);
    program.place(skip);
}

fn emit_syscall(program: &mut Assembler, number: u32, rules: &[Rule], default: u32) {
    let skip = program.label();
    program.unless(Test::Equal, number, skip);
    for rule in rules {
        let fails = program.label();
        for argument in &rule.arguments {
            emit_comparison(program, argument, fails);
        }
        program.ret(rule.action);
        program.place(fails);
    }
    program.ret(default);
    program.place(skip);
}

/// Goes on if the comparison holds, else to `fails`. Arguments have 64 bits, the accumulator 32: high half first.
fn emit_comparison(program: &mut Assembler, argument: &LinuxSeccompArg, fails: Label) {
    use LinuxSeccompOperator as Op;
    let holds = program.label();
    match argument.op() {
        Op::ScmpCmpEq => emit_masked(program, argument.index(), u64::MAX, argument.value(), fails),
        Op::ScmpCmpMaskedEq => {
            emit_masked(program, argument.index(), argument.value(), argument.value_two().unwrap_or(0), fails);
        }
        Op::ScmpCmpNe => {
            emit_masked(program, argument.index(), u64::MAX, argument.value(), holds);
            program.goto(fails);
        }
        Op::ScmpCmpGe => emit_order(program, argument, Test::GreaterOrEqual, holds, fails),
        Op::ScmpCmpGt => emit_order(program, argument, Test::Greater, holds, fails),
        Op::ScmpCmpLt => emit_order(program, argument, Test::GreaterOrEqual, fails, holds),
        Op::ScmpCmpLe => emit_order(program, argument, Test::Greater, fails, holds),
    }
    program.place(holds);
}

fn emit_masked(program: &mut Assembler, index: usize, mask: u64, value: u64, fails: Label) {
    for (offset, mask, value) in [(high(index), upper(mask), upper(value)), (low(index), lower(mask), lower(value))] {
        program.load(offset);
        if mask != u32::MAX {
            program.and(mask);
        }
        program.unless(Test::Equal, value, fails);
    }
}

/// Goes to `yes` if the argument compares so with the value, else to `no`; both are placed later.
fn emit_order(program: &mut Assembler, argument: &LinuxSeccompArg, test: Test, yes: Label, no: Label) {
    program.load(high(argument.index()));
    program.when(Test::Greater, upper(argument.value()), yes);
    program.unless(Test::Equal, upper(argument.value()), no);
    program.load(low(argument.index()));
    program.when(test, lower(argument.value()), yes);
    program.goto(no);
}

/// Both supported architectures are little-endian.
fn low(index: usize) -> u32 {
    ARGUMENTS_OFFSET + 8 * u32::try_from(index).unwrap_or(0)
}

fn high(index: usize) -> u32 {
    low(index) + 4
}

fn lower(value: u64) -> u32 {
    u32::try_from(value & u64::from(u32::MAX)).unwrap_or(0)
}

fn upper(value: u64) -> u32 {
    lower(value >> 32)
}

fn errno(number: i32) -> u32 {
    RET_ERRNO | u32::try_from(number).unwrap_or(0) & RET_DATA
}

fn action(action: LinuxSeccompAction, errno_ret: Option<u32>) -> Result<u32, SeccompError> {
    use LinuxSeccompAction as Action;
    let data = errno_ret.unwrap_or(libc::EPERM.unsigned_abs()) & RET_DATA;
    Ok(match action {
        Action::ScmpActAllow => RET_ALLOW,
        Action::ScmpActErrno => RET_ERRNO | data,
        Action::ScmpActKill | Action::ScmpActKillThread => RET_KILL_THREAD,
        Action::ScmpActKillProcess => RET_KILL_PROCESS,
        Action::ScmpActTrap => RET_TRAP,
        Action::ScmpActTrace => RET_TRACE | data,
        Action::ScmpActLog => RET_LOG,
        Action::ScmpActNotify => return Err(SeccompError::NotifyUnsupported),
    })
}

/// TSYNC is left out (one thread only), WAIT_KILLABLE_RECV too (it belongs to NOTIFY).
fn flags(profile: &LinuxSeccomp) -> u64 {
    use LinuxSeccompFilterFlag as Flag;
    let bit = |flag: &Flag| match flag {
        Flag::SeccompFilterFlagLog => libc::SECCOMP_FILTER_FLAG_LOG,
        Flag::SeccompFilterFlagSpecAllow => libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW,
        Flag::SeccompFilterFlagTsync | Flag::SeccompFilterFlagWaitKillableRecv => 0,
    };
    profile.flags().iter().flatten().map(bit).fold(0, |all, one| all | one)
}

#[cfg(test)]
mod tests;
