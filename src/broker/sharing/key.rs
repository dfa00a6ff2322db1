//! Which slot an event is in, by the field of its payload that is the key.
//!
//! The slot of a key never changes, whatever version of this program reads it: positions are kept by
//! slot. It is the CRC-32C of the key modulo the number of slots: of a text its UTF-8, of a whole number
//! its eight bytes, of any other number those of its double, of a boolean one byte, all little-endian.
//! Events whose key is null, or that cannot be read, are together in the first slot, as those of topics
//! without the field are.

use std::sync::Arc;

use crate::{
    broker::{
        block_answers::{Answers, Programs},
        source::Sourced,
    },
    event_log::Block,
    schema::{
        Schema,
        pick::{FieldPath, Picked, Picker},
        registry::TenantSchemas,
    },
    types::limits::{BLOCK_EVENTS_MAX, SHARING_KEY_CHARS_MAX, SHARING_SLOTS, SHARING_STREAMS_MAX},
};

/// The field by which events are split, as it is named: `Field__c`, or `Compound__c.Part`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyField {
    name: String,
    part: Option<String>,
}

/// Why a subscription cannot be shared so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SharingError {
    /// Too few streams, or too many; holds how many.
    #[error("a shared subscription has 2 to {SHARING_STREAMS_MAX} streams, found {0}")]
    Streams(u32),
    /// There is no key.
    #[error("a shared subscription needs a key: the field whose events are to stay in order")]
    NoKey,
    /// There is a key, and nothing is shared.
    #[error("there is a key ({0}), and the subscription is not shared: say among how many streams")]
    KeyAlone(String),
    /// Not the name of a field.
    #[error(
        "the key is the name of a field, or field.part, of at most {SHARING_KEY_CHARS_MAX} characters, \
         found {0:?}"
    )]
    Key(String),
    /// No topic has the field.
    #[error("the key {key}: {topic} has no such field")]
    NoField {
        /// The key.
        key: String,
        /// The topic, or the first of the channel.
        topic: String,
    },
    /// The field has no value that events could be told apart by.
    #[error(
        "the key {key} is of type {found}; a key is a text, a number or a boolean, or a list of them, \
         whose first item counts"
    )]
    Type {
        /// The key.
        key: String,
        /// Its type in words.
        found: String,
    },
}

impl KeyField {
    /// Holds the key to be one for one of the topics at least, if there are any.
    ///
    /// # Errors
    ///
    /// [`SharingError::NoField`] and [`SharingError::Type`].
    pub(in crate::broker) fn check(&self, topics: &[Sourced]) -> Result<(), SharingError> {
        let mut refusal = None;
        for sourced in topics {
            let topic = sourced.event_type.topic().as_str();
            match self.check_schema(topic, sourced.event_type.current()) {
                Ok(()) => return Ok(()),
                Err(error) => _ = refusal.get_or_insert(error),
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    fn check_schema(&self, topic: &str, schema: &Schema) -> Result<(), SharingError> {
        let field = schema.field(&self.name, self.part.as_deref());
        let field = field.map_err(|_| SharingError::NoField {
            key: self.to_string(),
            topic: topic.to_owned(),
        })?;
        match field.kinds.is_empty() && !field.is_list {
            true => Err(SharingError::Type {
                key: self.to_string(),
                found: field.type_text,
            }),
            false => Ok(()),
        }
    }

    fn path(&self, schema: &Schema) -> Option<FieldPath> {
        let field = schema.field(&self.name, self.part.as_deref()).ok()?;
        Some(field.path)
    }
}

impl std::str::FromStr for KeyField {
    type Err = SharingError;

    fn from_str(text: &str) -> Result<Self, SharingError> {
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        let (name, part) = match text.split_once('.') {
            Some((name, part)) => (name, Some(part)),
            None => (text, None),
        };
        let is_key = text.len() <= SHARING_KEY_CHARS_MAX && is_name(name);
        if !is_key || !part.is_none_or(is_name) {
            let shown = text.chars().take(SHARING_KEY_CHARS_MAX).collect();
            return Err(SharingError::Key(shown));
        }
        Ok(Self {
            name: name.to_owned(),
            part: part.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for KeyField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.part {
            Some(part) => write!(f, "{}.{part}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// The slot of a key.
fn slot_of(key: Picked<'_>) -> u8 {
    let crc = match key {
        Picked::Null => return 0,
        Picked::Boolean(value) => crc32c::crc32c(&[u8::from(value)]),
        Picked::Long(value) => crc32c::crc32c(&value.to_le_bytes()),
        Picked::Float(value) => crc32c::crc32c(&f64::from(value).to_le_bytes()),
        Picked::Double(value) => crc32c::crc32c(&value.to_le_bytes()),
        Picked::Text(text) => crc32c::crc32c(text.as_bytes()),
    };
    (crc % SHARING_SLOTS as u32) as u8
}

/// The slots of a block's events, in their order.
pub(in crate::broker) type BlockSlots = Arc<[u8; BLOCK_EVENTS_MAX]>;

/// Tells the slots of the events of one shared subscription. What is told of a block is remembered for
/// its other streams.
pub(in crate::broker) struct KeySlots {
    key: KeyField,
    /// None for a schema that has no such field.
    pickers: Programs<Picker>,
    answers: Answers<BlockSlots>,
}

impl KeySlots {
    pub(in crate::broker) fn new(key: KeyField, schemas: Arc<TenantSchemas>) -> Self {
        Self {
            key,
            pickers: Programs::new(schemas),
            answers: Answers::default(),
        }
    }

    /// The slot of each event of `block`.
    pub(in crate::broker) fn of(&self, block: &Block) -> BlockSlots {
        self.answers.get(block, || Arc::new(self.evaluate(block)))
    }

    fn evaluate(&self, block: &Block) -> [u8; BLOCK_EVENTS_MAX] {
        let mut slots = [0; BLOCK_EVENTS_MAX];
        let compile = |schema: &Schema| {
            let path = self.key.path(schema)?;
            Some(Picker::of_first(schema, path))
        };
        self.pickers.visit(block, compile, |index, event| {
            let mut key = [Picked::Null];
            if let Some((picker, event)) = event
                && picker.pick(event.payload(), &mut key).is_ok()
            {
                slots[index] = slot_of(key[0]);
            }
        });
        slots
    }
}

impl std::fmt::Debug for KeySlots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("KeySlots").field(&self.key).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_same_slot_for_ever() {
        // The check value of CRC-32C: e3069283.
        assert_eq!(
            slot_of(Picked::Text("123456789")),
            0xe306_9283_u32 as u8 % 64
        );
        assert_eq!(slot_of(Picked::Text("")), 0);
        assert_eq!(slot_of(Picked::Null), 0);
        assert_eq!(slot_of(Picked::Float(1.5)), slot_of(Picked::Double(1.5)));
        let known = [
            slot_of(Picked::Boolean(true)),
            slot_of(Picked::Long(1_000_000)),
            slot_of(Picked::Double(2.5)),
            slot_of(Picked::Text("801xx000003DfVHAA0")),
        ];
        // Worked out by another program.
        assert_eq!(known, [18, 32, 42, 15]);
    }

    #[test]
    fn keys_are_spread_over_all_slots() {
        let ids = (0..64_000).map(|n| format!("order-{n}"));
        let mut counts = [0; SHARING_SLOTS];
        ids.for_each(|id| counts[usize::from(slot_of(Picked::Text(&id)))] += 1);
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*min > 700 && *max < 1_300, "{counts:?}");
        let mut counts = [0; SHARING_SLOTS];
        (0..64_000).for_each(|n| counts[usize::from(slot_of(Picked::Long(n)))] += 1);
        let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*min > 700 && *max < 1_300, "{counts:?}");
    }

    #[test]
    fn a_key_is_a_field_or_a_part_of_one() {
        for text in ["Id", "Order_Id__c", "_x1", "ChangeEventHeader.recordIds"] {
            assert_eq!(text.parse::<KeyField>().unwrap().to_string(), text);
        }
        let long = "a".repeat(SHARING_KEY_CHARS_MAX + 1);
        for text in ["", ".", "a.", ".a", "a.b.c", "1a", "a b", "a'", "ä", &long] {
            let refused = text.parse::<KeyField>();
            assert!(matches!(refused, Err(SharingError::Key(_))), "{text}");
        }
    }
}
