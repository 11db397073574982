//! A protobuf message without its type: numbered fields, read from the wire and written back to the same bytes; and as a text.
//!
//! The wire does not tell texts from messages. What is printable is taken for a text, unless it begins like a message does.

use anyhow::{Context, Result, bail, ensure};

/// Messages in messages; the CRI has six.
const MAX_DEPTH: u32 = 20;
/// A message whose text is shorter stands in one line.
const LINE: usize = 110;

/// A field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its number.
    pub number: u64,
    /// What it holds.
    pub value: Value,
}

/// A field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number, an enum or a boolean.
    Number(u64),
    /// Four bytes.
    Four([u8; 4]),
    /// Eight bytes.
    Eight([u8; 8]),
    /// Printable text.
    Text(String),
    /// Other bytes.
    Bytes(Vec<u8>),
    /// A message.
    Message(Vec<Field>),
}

/// Reads a message from the wire.
///
/// # Errors
/// It is none.
pub fn decode(bytes: &[u8]) -> Result<Vec<Field>> {
    fields(bytes, MAX_DEPTH)
}

fn fields(mut bytes: &[u8], depth: u32) -> Result<Vec<Field>> {
    let depth = depth.checked_sub(1).context("too many messages in one another")?;
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let tag = number(&mut bytes)?;
        ensure!(tag >> 3 > 0, "field 0");
        let value = match tag & 7 {
            0 => Value::Number(number(&mut bytes)?),
            1 => Value::Eight(take(&mut bytes, 8)?.try_into()?),
            5 => Value::Four(take(&mut bytes, 4)?.try_into()?),
            2 => {
                let length = number(&mut bytes)?;
                value(take(&mut bytes, usize::try_from(length)?)?, depth)
            }
            kind => bail!("a field of kind {kind}"),
        };
        all.push(Field { number: tag >> 3, value });
    }
    Ok(all)
}

fn value(bytes: &[u8], depth: u32) -> Value {
    let printable = |text: &&str| text.chars().all(|one| !one.is_control() || one == '\n' || one == '\t');
    let text = std::str::from_utf8(bytes).ok().filter(printable);
    let like_a_message = bytes.first().is_some_and(|first| *first < b' ');
    match (text, fields(bytes, depth)) {
        (Some(text), _) if !like_a_message => Value::Text(text.into()),
        (_, Ok(fields)) => Value::Message(fields),
        (Some(text), Err(_)) => Value::Text(text.into()),
        (None, Err(_)) => Value::Bytes(bytes.into()),
    }
}

fn number(bytes: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first().context("no byte")?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    bail!("a number that does not end")
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).context("a field that is cut off")?;
    *bytes = rest;
    Ok(taken)
}

/// Writes a message for the wire.
#[must_use]
pub fn encode(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        let mut head = |kind: u64| put(&mut bytes, field.number << 3 | kind);
        match &field.value {
            Value::Number(number) => {
                head(0);
                put(&mut bytes, *number);
            }
            Value::Eight(eight) => {
                head(1);
                bytes.extend(eight);
            }
            Value::Four(four) => {
                head(5);
                bytes.extend(four);
            }
            Value::Text(text) => {
                head(2);
                put_sized(&mut bytes, text.as_bytes());
            }
            Value::Bytes(some) => {
                head(2);
                put_sized(&mut bytes, some);
            }
            Value::Message(fields) => {
                head(2);
                put_sized(&mut bytes, &encode(fields));
            }
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.extend((number as u8 | 0x80).to_le_bytes());
        number >>= 7;
    }
    bytes.extend((number as u8).to_le_bytes());
}

fn put_sized(bytes: &mut Vec<u8>, content: &[u8]) {
    put(bytes, content.len() as u64);
    bytes.extend(content);
}

/// A message as lines; each field starts with its number.
#[must_use]
pub fn text(fields: &[Field]) -> String {
    fields.iter().map(|field| format!("{}\n", lines(field, 1))).collect()
}

fn lines(field: &Field, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let inline = inline(field);
    match &field.value {
        Value::Message(fields) if inline.len() > LINE => {
            let inner: String = fields.iter().map(|field| format!("{}\n", lines(field, depth + 1))).collect();
            format!("{indent}{} {{\n{inner}{indent}}}", field.number)
        }
        _ => format!("{indent}{inline}"),
    }
}

fn inline(field: &Field) -> String {
    let value = match &field.value {
        Value::Number(number) => number.to_string(),
        Value::Four(four) => format!("x{}", hex(four)),
        Value::Eight(eight) => format!("X{}", hex(eight)),
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Bytes(bytes) => format!("b{}", hex(bytes)),
        Value::Message(fields) => format!("{{ {} }}", fields.iter().map(inline).collect::<Vec<_>>().join(" ")),
    };
    format!("{} {value}", field.number)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads what [`text`] wrote.
///
/// # Errors
/// It is not that.
pub fn parse(text: &str) -> Result<Vec<Field>> {
    let mut rest = text;
    let fields = parse_fields(&mut rest, MAX_DEPTH)?;
    ensure!(rest.trim().is_empty(), "unexpected: {rest}");
    Ok(fields)
}

fn parse_fields(rest: &mut &str, depth: u32) -> Result<Vec<Field>> {
    let depth = depth.checked_sub(1).context("too many messages in one another")?;
    let mut all = Vec::new();
    loop {
        *rest = rest.trim_start();
        if !rest.starts_with(|first: char| first.is_ascii_digit()) {
            return Ok(all);
        }
        let number = word(rest).parse()?;
        *rest = rest.trim_start();
        let value = match rest.chars().next().context("a field without a value")? {
            '{' => {
                *rest = rest.get(1..).unwrap_or_default();
                let fields = parse_fields(rest, depth)?;
                *rest = rest.trim_start().strip_prefix('}').context("a message without an end")?;
                Value::Message(fields)
            }
            '"' => {
                let mut values = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let text = values.next().context("no text")??;
                *rest = rest.get(values.byte_offset()..).unwrap_or_default();
                Value::Text(text)
            }
            'b' => Value::Bytes(unhex(word(rest))?),
            'x' => Value::Four(unhex(word(rest))?.as_slice().try_into()?),
            'X' => Value::Eight(unhex(word(rest))?.as_slice().try_into()?),
            _ => Value::Number(word(rest).parse()?),
        };
        all.push(Field { number, value });
    }
}

fn word<'a>(rest: &mut &'a str) -> &'a str {
    let end = rest.find(|one: char| !one.is_ascii_alphanumeric()).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    word
}

fn unhex(word: &str) -> Result<Vec<u8>> {
    let digits = word.get(1..).context("no digits")?.as_bytes();
    digits.chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?)).collect()
}
