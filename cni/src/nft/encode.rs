//! The bytes of nfnetlink: messages with nested attributes, numbers in network order, wrapped in a batch.

use super::change::Change;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NLA_F_NESTED: u16 = 0x8000;
const NFPROTO_INET: u8 = 1;
const HEADER_BYTES: usize = 16;

/// Attributes of a message, being written.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// Adds bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // Nothing here comes near 64 KiB: elements are added in chunks.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Adds a text, with its end marked.
    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    /// Adds a number.
    pub(super) fn number(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// Adds attributes inside of one.
    pub(super) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.bytes(kind | NLA_F_NESTED, &inner.bytes)
    }
}

/// All messages of a transaction.
pub(super) fn transaction(table: &str, changes: &[Change]) -> Vec<u8> {
    let mut batch = Vec::with_capacity(4096);
    push(&mut batch, NFNL_MSG_BATCH_BEGIN, 0, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, &[]);
    let mut sequence = 0;
    for change in changes {
        sequence += 1;
        let mut attributes = Attributes::default();
        let (kind, flags) = change.encode(table, sequence, &mut attributes);
        let kind = (NFNL_SUBSYS_NFTABLES << 8) | kind;
        push(&mut batch, kind, sequence, NLM_F_REQUEST | NLM_F_ACK | flags, NFPROTO_INET, 0, &attributes.bytes);
    }
    push(&mut batch, NFNL_MSG_BATCH_END, sequence + 1, NLM_F_REQUEST, 0, NFNL_SUBSYS_NFTABLES, &[]);
    batch
}

fn push(batch: &mut Vec<u8>, kind: u16, sequence: u32, flags: u16, family: u8, resource: u16, body: &[u8]) {
    let length = u32::try_from(HEADER_BYTES + 4 + body.len()).unwrap_or(u32::MAX);
    batch.extend_from_slice(&length.to_ne_bytes());
    batch.extend_from_slice(&kind.to_ne_bytes());
    batch.extend_from_slice(&flags.to_ne_bytes());
    batch.extend_from_slice(&sequence.to_ne_bytes());
    batch.extend_from_slice(&[0; 4]);
    batch.extend_from_slice(&[family, 0]);
    batch.extend_from_slice(&resource.to_be_bytes());
    batch.extend_from_slice(body);
}

/// Asks for all rules of a table.
pub(super) fn list_rules(table: &str) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(1, table);
    let mut message = Vec::new();
    let kind = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETRULE;
    push(&mut message, kind, 1, NLM_F_REQUEST | NLM_F_DUMP, NFPROTO_INET, 0, &attributes.bytes);
    message
}

/// How many rules a packet of the answer to [`list_rules`] has.
pub(super) fn count_rules(packet: &[u8]) -> usize {
    messages(packet).filter(|(kind, _)| *kind == (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWRULE).count()
}

/// Asks for all elements of a set.
pub(super) fn list_elements(table: &str, set: &str) -> Vec<u8> {
    let mut attributes = Attributes::default();
    attributes.text(1, table).text(2, set);
    let mut message = Vec::new();
    let kind = (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETSETELEM;
    push(&mut message, kind, 1, NLM_F_REQUEST | NLM_F_DUMP, NFPROTO_INET, 0, &attributes.bytes);
    message
}

/// How many elements a packet of the answer to [`list_elements`] has.
pub(super) fn count_elements(packet: &[u8]) -> usize {
    let answers = messages(packet).filter(|(kind, _)| *kind == (NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWSETELEM);
    let lists = answers.flat_map(|(_, body)| attributes(body.get(4..).unwrap_or_default()));
    // NFTA_SET_ELEM_LIST_ELEMENTS, of which each one is an element.
    lists.filter(|(kind, _)| *kind == 3).map(|(_, list)| attributes(list).count()).sum()
}

/// Kind and value of each attribute.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk::<2>()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & !NLA_F_NESTED;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Codes of the acknowledgements in a packet: 0, or an error's number negated.
pub(super) fn answers(packet: &[u8]) -> Vec<i32> {
    let errors = messages(packet).filter(|(kind, _)| *kind == NLMSG_ERROR);
    errors.filter_map(|(_, body)| body.first_chunk().copied().map(i32::from_ne_bytes)).collect()
}

/// Kind and body of each message of a packet.
fn messages(packet: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = packet;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk::<4>()?)).unwrap_or(usize::MAX);
        let message = rest.get(..length).filter(|_| length >= HEADER_BYTES)?;
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, message.get(HEADER_BYTES..)?))
    })
}
