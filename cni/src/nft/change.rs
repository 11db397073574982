//! Changes to a table: tables, chains, rules, sets and their elements.

use super::encode::Attributes;
use super::expression::Expression;

const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

const NFT_SET_MAP: u32 = 8;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_DATA_VALUE: u16 = 1;

/// A step of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// Makes the table, unless it is there.
    AddTable,
    /// Removes the table and all in it.
    DeleteTable,
    /// Makes a chain.
    AddChain(Chain),
    /// Appends a rule to a chain.
    AddRule {
        /// Chain.
        chain: &'static str,
        /// What it matches and does.
        expressions: Vec<Expression>,
    },
    /// Makes a set or map.
    AddSet(Set),
    /// Adds an element.
    AddElement(Element),
    /// Removes an element, which must be there.
    DeleteElement(Element),
}

/// What a chain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection.
    Nat,
}

/// Where a chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Packets that come in.
    Prerouting = 0,
    /// Packets of the host's own processes.
    Output = 3,
    /// Packets that go out.
    Postrouting = 4,
}

/// A base chain; it accepts what its rules do not decide.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    /// Name.
    pub(crate) name: &'static str,
    /// Kind.
    pub(crate) kind: ChainKind,
    /// Hook.
    pub(crate) hook: Hook,
    /// Order among the chains of a hook.
    pub(crate) priority: i32,
}

/// Part of a key; keys of several parts are concatenations, each part filled up to four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyPart {
    /// IPv4 address.
    Ipv4,
    /// IPv6 address.
    Ipv6,
    /// Transport protocol.
    Protocol,
    /// Port.
    Port,
}

impl KeyPart {
    /// The number by which nft(8) knows the type.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
        }
    }

    fn bytes(self) -> u32 {
        match self {
            Self::Ipv6 => 16,
            Self::Ipv4 | Self::Protocol | Self::Port => 4,
        }
    }
}

/// A set, or a map if it has data.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    /// Name.
    pub(crate) name: &'static str,
    /// Type of the keys.
    pub(crate) key: &'static [KeyPart],
    /// Type of the data; empty for a set.
    pub(crate) data: &'static [KeyPart],
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    /// Set or map.
    pub(crate) set: &'static str,
    /// Its key, in register form.
    pub(crate) key: Vec<u8>,
    /// Its data, in register form; empty in a set.
    pub(crate) data: Vec<u8>,
}

impl Change {
    /// Writes the attributes; returns message type and flags.
    pub(super) fn encode(&self, table: &str, id: u32, out: &mut Attributes) -> (u16, u16) {
        out.text(1, table);
        match self {
            Self::AddTable => (NFT_MSG_NEWTABLE, NLM_F_CREATE),
            Self::DeleteTable => (NFT_MSG_DELTABLE, 0),
            Self::AddChain(chain) => {
                chain.encode(out);
                (NFT_MSG_NEWCHAIN, NLM_F_CREATE)
            }
            Self::AddRule { chain, expressions } => {
                out.text(2, chain).nest(4, |list| {
                    for expression in expressions {
                        list.nest(NFTA_LIST_ELEM, |element| expression.encode(element));
                    }
                });
                (NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND)
            }
            Self::AddSet(set) => {
                set.encode(id, out);
                (NFT_MSG_NEWSET, NLM_F_CREATE)
            }
            Self::AddElement(element) => {
                element.encode(out);
                (NFT_MSG_NEWSETELEM, NLM_F_CREATE)
            }
            Self::DeleteElement(element) => {
                element.encode(out);
                (NFT_MSG_DELSETELEM, 0)
            }
        }
    }
}

impl Chain {
    fn encode(&self, out: &mut Attributes) {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        out.text(3, self.name)
            .nest(4, |hook| {
                hook.number(1, self.hook as u32).bytes(2, &self.priority.to_be_bytes());
            })
            .text(7, kind);
    }
}

impl Set {
    fn encode(&self, id: u32, out: &mut Attributes) {
        out.text(2, self.name).number(3, if self.data.is_empty() { 0 } else { NFT_SET_MAP });
        out.number(4, type_number(self.key)).number(5, type_bytes(self.key));
        if !self.data.is_empty() {
            out.number(6, type_number(self.data)).number(7, type_bytes(self.data));
        }
        out.number(10, id);
    }
}

fn type_number(parts: &[KeyPart]) -> u32 {
    parts.iter().fold(0, |number, part| (number << 6) | part.number())
}

fn type_bytes(parts: &[KeyPart]) -> u32 {
    parts.iter().map(|part| part.bytes()).sum()
}

impl Element {
    fn encode(&self, out: &mut Attributes) {
        out.text(2, self.set).nest(3, |list| {
            list.nest(NFTA_LIST_ELEM, |element| {
                element.nest(1, |key| {
                    key.bytes(NFTA_DATA_VALUE, &self.key);
                });
                if !self.data.is_empty() {
                    element.nest(2, |data| {
                        data.bytes(NFTA_DATA_VALUE, &self.data);
                    });
                }
            });
        });
    }
}
