//! Expressions of rules. They work on registers of four bytes, numbered from [`REGISTER`].

use super::encode::Attributes;

/// Number of a register.
pub(crate) type Register = u32;

/// The first register of four bytes; a longer value fills several.
pub(crate) const REGISTER: Register = 8;
/// The register of verdicts.
const VERDICT: Register = 0;

const NFPROTO_IPV4: u32 = 2;
const NFPROTO_IPV6: u32 = 10;
const FIB_RESULT_OIF: u32 = 1;
const FIB_RESULT_ADDRTYPE: u32 = 3;
const FIB_SADDR: u32 = 1;
const FIB_DADDR: u32 = 2;
const FIB_IIF: u32 = 8;
const FIB_PRESENT: u32 = 32;

/// A value of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Family: 2 for IPv4, 10 for IPv6; one byte.
    Family,
    /// Transport protocol, one byte.
    Protocol,
    /// Name of the link it came in on.
    InName,
    /// Name of the link it goes out on.
    OutName,
    /// IPv4 source address.
    Source4,
    /// IPv4 destination address.
    Destination4,
    /// IPv6 source address.
    Source6,
    /// IPv6 destination address.
    Destination6,
    /// Destination port.
    DestinationPort,
    /// Type of the destination address, `RTN_*` in the host's byte order.
    DestinationType,
    /// Whether the way back to the source leads out of the link it came in on; one byte.
    WayBack,
}

/// A step of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expression {
    /// Loads a value.
    Load(Source, Register),
    /// Keeps the bits of a mask.
    Mask(Register, Vec<u8>),
    /// Goes on if the register starts with the bytes.
    Equal(Register, Vec<u8>),
    /// Goes on if the register does not start with the bytes.
    Different(Register, Vec<u8>),
    /// Goes on if the set has the key at the register.
    In(&'static str, Register),
    /// Goes on if the map has the key at the register, with its data there.
    Map(&'static str, Register),
    /// Puts bytes there.
    Set(Register, Vec<u8>),
    /// Changes the destination to address and port at the registers.
    Dnat {
        /// Family.
        ipv4: bool,
        /// Register of the address.
        address: Register,
        /// Register of the port.
        port: Register,
    },
    /// Changes the source to the address at the register.
    Snat {
        /// Family.
        ipv4: bool,
        /// Register of the address.
        address: Register,
    },
    /// Changes the source to the address of the link that it goes out on.
    Masquerade,
    /// Ends the chain.
    Accept,
    /// Ends the packet.
    Drop,
}

impl Expression {
    /// Writes name and data.
    pub(super) fn encode(&self, out: &mut Attributes) {
        match self {
            Self::Load(source, register) => source.encode(*register, out),
            Self::Mask(register, mask) => encode_mask(*register, mask, out),
            Self::Equal(register, value) => encode_compare(*register, 0, value, out),
            Self::Different(register, value) => encode_compare(*register, 1, value, out),
            Self::In(set, key) => named(out, "lookup", |data| {
                data.text(1, set).number(2, *key);
            }),
            Self::Map(set, key) => named(out, "lookup", |data| {
                data.text(1, set).number(2, *key).number(3, *key);
            }),
            Self::Set(register, value) => named(out, "immediate", |data| {
                data.number(1, *register).nest(2, |inner| {
                    inner.bytes(1, value);
                });
            }),
            Self::Dnat { ipv4, address, port } => named(out, "nat", |data| {
                data.number(1, 1).number(2, family(*ipv4)).number(3, *address).number(4, *address);
                data.number(5, *port).number(6, *port);
            }),
            Self::Snat { ipv4, address } => named(out, "nat", |data| {
                data.number(1, 0).number(2, family(*ipv4)).number(3, *address).number(4, *address);
            }),
            Self::Masquerade => named(out, "masq", |_| {}),
            Self::Accept => encode_verdict(1, out),
            Self::Drop => encode_verdict(0, out),
        }
    }
}

impl Source {
    fn encode(self, register: Register, out: &mut Attributes) {
        match self {
            Self::Family => encode_meta(15, register, out),
            Self::Protocol => encode_meta(16, register, out),
            Self::InName => encode_meta(6, register, out),
            Self::OutName => encode_meta(7, register, out),
            Self::Source4 => encode_payload(1, 12, 4, register, out),
            Self::Destination4 => encode_payload(1, 16, 4, register, out),
            Self::Source6 => encode_payload(1, 8, 16, register, out),
            Self::Destination6 => encode_payload(1, 24, 16, register, out),
            Self::DestinationPort => encode_payload(2, 2, 2, register, out),
            Self::DestinationType => encode_fib(FIB_RESULT_ADDRTYPE, FIB_DADDR, register, out),
            Self::WayBack => encode_fib(FIB_RESULT_OIF, FIB_SADDR | FIB_IIF | FIB_PRESENT, register, out),
        }
    }
}

fn family(ipv4: bool) -> u32 {
    if ipv4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }
}

fn named(out: &mut Attributes, name: &str, fill: impl FnOnce(&mut Attributes)) {
    out.text(1, name).nest(2, fill);
}

fn encode_meta(key: u32, register: Register, out: &mut Attributes) {
    named(out, "meta", |data| {
        data.number(2, key).number(1, register);
    });
}

fn encode_payload(base: u32, offset: u32, bytes: u32, register: Register, out: &mut Attributes) {
    named(out, "payload", |data| {
        data.number(1, register).number(2, base).number(3, offset).number(4, bytes);
    });
}

fn encode_fib(result: u32, flags: u32, register: Register, out: &mut Attributes) {
    named(out, "fib", |data| {
        data.number(3, flags).number(2, result).number(1, register);
    });
}

fn encode_compare(register: Register, operation: u32, value: &[u8], out: &mut Attributes) {
    named(out, "cmp", |data| {
        data.number(1, register).number(2, operation).nest(3, |inner| {
            inner.bytes(1, value);
        });
    });
}

fn encode_mask(register: Register, mask: &[u8], out: &mut Attributes) {
    named(out, "bitwise", |data| {
        data.number(1, register).number(2, register).number(3, u32::try_from(mask.len()).unwrap_or(0));
        data.nest(4, |inner| {
            inner.bytes(1, mask);
        });
        data.nest(5, |inner| {
            inner.bytes(1, &vec![0; mask.len()]);
        });
    });
}

fn encode_verdict(code: u32, out: &mut Attributes) {
    named(out, "immediate", |data| {
        data.number(1, VERDICT).nest(2, |inner| {
            inner.nest(2, |verdict| {
                verdict.number(1, code);
            });
        });
    });
}
