//! Whether an answer is what was recorded, where ids, addresses, times and measures differ; and what stands for what then.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};

use super::message::{Field, Value};

/// Digits of ids and digests.
const ID_DIGITS: usize = 64;
/// From here on a number is a measure or a time; below it is a state, a code or a count.
const MEASURE: u64 = 256;

/// What stands in this run for what was recorded.
#[derive(Debug, Clone, Default)]
pub struct Names {
    names: BTreeMap<String, String>,
}

impl Names {
    /// Says what stands for a recorded piece of text.
    pub fn set(&mut self, recorded: &str, actual: &str) {
        self.names.insert(recorded.into(), actual.into());
    }

    /// A request with what stands here for what was recorded.
    #[must_use]
    pub fn apply(&self, fields: &[Field]) -> Vec<Field> {
        fields.iter().map(|field| Field { number: field.number, value: self.value(&field.value) }).collect()
    }

    fn value(&self, value: &Value) -> Value {
        match value {
            Value::Text(text) => Value::Text(self.text(text)),
            Value::Message(fields) => Value::Message(self.apply(fields)),
            Value::Number(_) | Value::Four(_) | Value::Eight(_) | Value::Bytes(_) => value.clone(),
        }
    }

    /// A text with what stands here for what was recorded.
    #[must_use]
    pub fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        // A longer one may hold a shorter one.
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(recorded, _)| std::cmp::Reverse(recorded.len()));
        for (recorded, actual) in names {
            text = text.replace(recorded, actual);
        }
        text
    }

    /// Looks whether an answer is what was recorded, and remembers what new ids and addresses stand for.
    ///
    /// # Errors
    /// It is not; the text says where.
    pub fn same(&mut self, recorded: &[Field], actual: &[Field]) -> Result<()> {
        let mut tried = self.clone();
        tried.fields(recorded, actual)?;
        *self = tried;
        Ok(())
    }

    fn fields(&mut self, recorded: &[Field], actual: &[Field]) -> Result<()> {
        let numbers = |fields: &[Field]| fields.iter().map(|field| field.number).collect::<Vec<_>>();
        ensure!(
            numbers(recorded) == numbers(actual),
            "recorded were the fields {:?}, and now {:?} came: {}",
            numbers(recorded),
            numbers(actual),
            super::message::text(actual)
        );
        for (recorded, actual) in recorded.iter().zip(actual) {
            self.same_value(&recorded.value, &actual.value).with_context(|| format!("field {}", recorded.number))?;
        }
        Ok(())
    }

    fn same_value(&mut self, recorded: &Value, actual: &Value) -> Result<()> {
        match (recorded, actual) {
            (Value::Number(one), Value::Number(other)) => {
                ensure!(
                    one == other || (*one >= MEASURE && *other >= MEASURE),
                    "{one} was recorded, and now {other} came"
                );
            }
            (Value::Message(one), Value::Message(other)) => self.fields(one, other)?,
            (Value::Text(one), Value::Text(other)) => self.same_text(one, other)?,
            (Value::Bytes(one), Value::Bytes(other)) => ensure!(one == other, "bytes differ"),
            (Value::Four(_), Value::Four(_)) | (Value::Eight(_), Value::Eight(_)) => {}
            (one, other) => bail!("{one:?} was recorded, and now {other:?} came"),
        }
        Ok(())
    }

    fn same_text(&mut self, recorded: &str, actual: &str) -> Result<()> {
        let expected = self.text(recorded);
        if expected == actual {
            return Ok(());
        }
        let (old, new) = (ids(recorded), ids(actual));
        if is_address(recorded) && is_address(actual) && !self.names.contains_key(recorded) {
            self.set(recorded, actual);
        } else if old.len() == new.len() {
            for (old, new) in old.iter().zip(&new) {
                let known = self.names.entry((*old).to_owned()).or_insert_with(|| (*new).to_owned());
                ensure!(known == new, "{old} stood for {known}, and now {new} came");
            }
        }
        ensure!(self.text(recorded) == actual, "{expected:?} was recorded, and now {actual:?} came");
        Ok(())
    }
}

/// Ids and digests in a text: its runs of 64 hexadecimal digits.
fn ids(text: &str) -> Vec<&str> {
    text.split(|one: char| !one.is_ascii_hexdigit()).filter(|word| word.len() == ID_DIGITS).collect()
}

fn is_address(text: &str) -> bool {
    text.parse::<std::net::IpAddr>().is_ok()
}
