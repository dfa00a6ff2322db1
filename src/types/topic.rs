//! Topic names and what they say about a topic.
//!
//! Source: the public Pub/Sub API Developer Guide, "Subscribing to a Topic"; the forms are
//! `/event/<Name>__e`, `/event/<Standard>`, `/event/<Name>__chn`, `/data/<Name>ChangeEvent`,
//! `/data/ChangeEvents` and `/data/<Name>__chn`.

use std::{fmt, str::FromStr, sync::Arc};

use super::limits::TOPIC_NAME_BYTES_MAX;

/// The name of a topic, such as `/event/OrderCreated__e`. Case matters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

/// What sort of events a topic carries, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicKind {
    /// Platform events of one type.
    PlatformEvent,
    /// Change events of one kind of record.
    ChangeEvent,
    /// Events of several types; nothing is published to it directly.
    Channel,
}

impl TopicKind {
    /// The word for this kind in the admin service and in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PlatformEvent => "platform_event",
            Self::ChangeEvent => "change_event",
            Self::Channel => "channel",
        }
    }
}

impl TopicName {
    /// The name of the standard channel of all change events.
    pub const ALL_CHANGES: &str = "/data/ChangeEvents";

    /// The topic that carries events of the Avro record `record`, told by the record's suffix:
    /// `…__e` is a platform event, `…ChangeEvent` a change event.
    ///
    /// # Errors
    ///
    /// [`TopicNameError::Record`] for a record with another suffix or no name before it.
    pub fn for_record(record: &str) -> Result<Self, TopicNameError> {
        let stem_and_root = [("__e", "event"), ("ChangeEvent", "data")]
            .into_iter()
            .find_map(|(suffix, root)| Some((record.strip_suffix(suffix)?, root)));
        match stem_and_root {
            Some((stem, root)) if !stem.is_empty() => format!("/{root}/{record}").parse(),
            _ => Err(TopicNameError::Record),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part after `/event/` or `/data/`: the event's API name.
    pub fn event_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// Whether it is the standard channel of all change events.
    pub fn is_all_changes(&self) -> bool {
        &*self.0 == Self::ALL_CHANGES
    }

    /// What the name says about the topic.
    pub fn kind(&self) -> TopicKind {
        if self.event_name().ends_with("__chn") || self.is_all_changes() {
            TopicKind::Channel
        } else if self.0.starts_with("/data/") {
            TopicKind::ChangeEvent
        } else {
            TopicKind::PlatformEvent
        }
    }
}

impl FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(text: &str) -> Result<Self, TopicNameError> {
        if text.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if text.len() > TOPIC_NAME_BYTES_MAX {
            return Err(TopicNameError::TooLong(text.len()));
        }
        let name = text
            .strip_prefix("/event/")
            .or_else(|| text.strip_prefix("/data/"))
            .ok_or(TopicNameError::Root)?;
        if !name.starts_with(|c: char| c.is_ascii_alphabetic())
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            return Err(TopicNameError::Characters);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicName({self})")
    }
}

/// Why text is not a topic name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicNameError {
    /// Nothing was given.
    #[error("the topic name is empty; it looks like /event/OrderCreated__e")]
    Empty,
    /// Holds the length found, in bytes.
    #[error("a topic name has at most {TOPIC_NAME_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// Neither of the two roots.
    #[error("a topic name begins with /event/ or /data/")]
    Root,
    /// A character that no API name has.
    #[error(
        "the part of a topic name after its root begins with a letter and holds letters, digits and underscores"
    )]
    Characters,
    /// A record whose name makes no topic.
    #[error(
        "the name of an event's record ends in __e for a platform event or ChangeEvent for a change event"
    )]
    Record,
}

/// A topic's number within its tenant, never given twice: a topic that is deleted and made again
/// gets another, and so shows none of its old events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(u32);

impl TopicId {
    /// The topic id with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_from_names() {
        let kind = |name: &str| name.parse::<TopicName>().unwrap().kind();
        assert_eq!(kind("/event/OrderCreated__e"), TopicKind::PlatformEvent);
        assert_eq!(kind("/event/LoginEventStream"), TopicKind::PlatformEvent);
        assert_eq!(kind("/event/ns__Orders__chn"), TopicKind::Channel);
        assert_eq!(kind("/data/AccountChangeEvent"), TopicKind::ChangeEvent);
        assert_eq!(kind("/data/Shipment__ChangeEvent"), TopicKind::ChangeEvent);
        assert_eq!(kind("/data/ChangeEvents"), TopicKind::Channel);
        assert_eq!(kind("/data/Sales__chn"), TopicKind::Channel);
    }

    #[test]
    fn odd_names_are_refused_with_their_reason() {
        let refusal = |name: &str| name.parse::<TopicName>().unwrap_err();
        assert_eq!(refusal(""), TopicNameError::Empty);
        assert_eq!(refusal("OrderCreated__e"), TopicNameError::Root);
        assert_eq!(refusal("/event/"), TopicNameError::Characters);
        assert_eq!(refusal("/event/a/b"), TopicNameError::Characters);
        assert_eq!(refusal("/event/é__e"), TopicNameError::Characters);
        assert_eq!(
            refusal(&format!("/event/{}", "a".repeat(200))),
            TopicNameError::TooLong(207)
        );
    }

    #[test]
    fn a_record_name_makes_its_topic() {
        let topic = |record: &str| TopicName::for_record(record).map(|name| name.to_string());
        assert_eq!(topic("OrderCreated__e").unwrap(), "/event/OrderCreated__e");
        assert_eq!(
            topic("Shipment__ChangeEvent").unwrap(),
            "/data/Shipment__ChangeEvent"
        );
        assert_eq!(topic("Order"), Err(TopicNameError::Record));
        assert_eq!(topic("__e"), Err(TopicNameError::Record));
    }
}
