//! Classic BPF with labels, resolved to the kernel's relative jumps.

use podwright_sys::SeccompInstruction;

use super::SeccompError;

/// `BPF_MAXINSNS`.
pub(super) const MAX_INSTRUCTIONS: usize = 4096;

const LOAD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const RETURN: u16 = 0x06;
const JUMP: u16 = 0x05;

/// A comparison of the accumulator with a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
}

/// A place that can be jumped to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

enum Operation {
    Plain(SeccompInstruction),
    /// Goes on with the next operation if the test holds, else to the label.
    Unless {
        test: Test,
        operand: u32,
        otherwise: Label,
    },
    /// Goes to the label if the test holds, else on.
    When {
        test: Test,
        operand: u32,
        then: Label,
    },
    Goto(Label),
    Place(Label),
}

/// Operations in order; see [`Assembler::finish`].
#[derive(Default)]
pub(super) struct Assembler {
    operations: Vec<Operation>,
    labels: usize,
}

impl Assembler {
    pub(super) fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    pub(super) fn place(&mut self, label: Label) {
        self.operations.push(Operation::Place(label));
    }

    /// Loads 32 bits of `struct seccomp_data`.
    pub(super) fn load(&mut self, offset: u32) {
        self.plain(LOAD_WORD, offset);
    }

    pub(super) fn and(&mut self, mask: u32) {
        self.plain(AND, mask);
    }

    pub(super) fn ret(&mut self, action: u32) {
        self.plain(RETURN, action);
    }

    pub(super) fn unless(&mut self, test: Test, operand: u32, otherwise: Label) {
        self.operations.push(Operation::Unless { test, operand, otherwise });
    }

    pub(super) fn when(&mut self, test: Test, operand: u32, then: Label) {
        self.operations.push(Operation::When { test, operand, then });
    }

    pub(super) fn goto(&mut self, label: Label) {
        self.operations.push(Operation::Goto(label));
    }

    fn plain(&mut self, code: u16, operand: u32) {
        self.operations.push(Operation::Plain(SeccompInstruction { code, jump_true: 0, jump_false: 0, operand }));
    }

    /// Resolves the labels. Conditional jumps reach 255 instructions only, so each is written as a short one over a long one.
    pub(super) fn finish(self) -> Result<Vec<SeccompInstruction>, SeccompError> {
        let (places, instructions) = self.positions();
        if instructions > MAX_INSTRUCTIONS {
            return Err(SeccompError::TooLong { instructions });
        }
        let mut out = Vec::with_capacity(instructions);
        for operation in &self.operations {
            match *operation {
                Operation::Plain(instruction) => out.push(instruction),
                Operation::Place(_) => {}
                Operation::Goto(label) => out.push(jump(distance(&places, label, out.len()))),
                Operation::Unless { test, operand, otherwise } => {
                    out.push(conditional(test, operand, 1, 0));
                    out.push(jump(distance(&places, otherwise, out.len())));
                }
                Operation::When { test, operand, then } => {
                    out.push(conditional(test, operand, 0, 1));
                    out.push(jump(distance(&places, then, out.len())));
                }
            }
        }
        Ok(out)
    }

    fn positions(&self) -> (Vec<usize>, usize) {
        let mut places = vec![0; self.labels];
        let mut at = 0;
        for operation in &self.operations {
            match operation {
                Operation::Plain(_) | Operation::Goto(_) => at += 1,
                Operation::Unless { .. } | Operation::When { .. } => at += 2,
                Operation::Place(label) => {
                    if let Some(place) = places.get_mut(label.0) {
                        *place = at;
                    }
                }
            }
        }
        (places, at)
    }
}

/// Instructions between the jump at `from` and the label; labels are placed after the jumps to them.
fn distance(places: &[usize], label: Label, from: usize) -> u32 {
    let to = places.get(label.0).copied().unwrap_or(0);
    u32::try_from(to.saturating_sub(from + 1)).unwrap_or(0)
}

fn conditional(test: Test, operand: u32, jump_true: u8, jump_false: u8) -> SeccompInstruction {
    SeccompInstruction { code: test as u16, jump_true, jump_false, operand }
}

fn jump(distance: u32) -> SeccompInstruction {
    SeccompInstruction { code: JUMP, jump_true: 0, jump_false: 0, operand: distance }
}
