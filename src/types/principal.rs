//! Who is calling, and what they were granted.

use std::{fmt, str::FromStr, sync::Arc};

use super::{TenantId, TopicKind, TopicName, limits::TOPIC_NAME_BYTES_MAX};

/// Who is calling on behalf of which tenant. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The tenant the call is about.
    pub tenant: TenantId,
    /// What the caller signed in with, as people know it: a token's name.
    pub name: Arc<str>,
    /// What the caller may do.
    pub grants: Arc<Grants>,
    /// What the caller showed for it.
    pub signed_in: SignedIn,
}

/// What a caller showed: by these ids a live stream finds that it was taken away meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedIn {
    /// Id of the access token.
    pub token_id: Arc<str>,
    /// When the token expires, in milliseconds since the epoch; `None` if it does not.
    pub expires_at_ms: Option<i64>,
    /// Id of the user who signed in for it, if one did.
    pub user_id: Option<Arc<str>>,
    /// Id of the client application that signed in for it, if one did.
    pub client_id: Option<Arc<str>>,
}

/// What a principal may do. Asked in one place, the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Topics that may be published to.
    pub publish: Vec<TopicPattern>,
    /// Topics that may be subscribed to.
    pub subscribe: Vec<TopicPattern>,
    /// Whether `publish` reaches change events too.
    pub change_events: bool,
    /// Whether tokens may be managed.
    pub admin: bool,
}

impl Grants {
    /// Every topic, but no publishing of change events and no administration.
    pub fn every_topic() -> Self {
        Self {
            publish: vec![TopicPattern::every()],
            subscribe: vec![TopicPattern::every()],
            change_events: false,
            admin: false,
        }
    }

    /// Whether events may be published to `topic`. Nothing is published to a channel.
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        let kind_allows = match topic.kind() {
            TopicKind::PlatformEvent => true,
            TopicKind::ChangeEvent => self.change_events,
            TopicKind::Channel => false,
        };
        kind_allows && self.publish.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether events of `topic` may be received.
    pub fn may_subscribe(&self, topic: &TopicName) -> bool {
        self.subscribe.iter().any(|pattern| pattern.matches(topic))
    }
}

/// A topic name in which each `*` stands for any run of characters.
#[derive(Clone, PartialEq, Eq)]
pub struct TopicPattern(Box<str>);

impl TopicPattern {
    /// The pattern of every topic.
    pub fn every() -> Self {
        Self("*".into())
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `topic` fits. Linear in the name for each `*`, so a pattern cannot stall a call.
    pub fn matches(&self, topic: &TopicName) -> bool {
        let mut rest = topic.as_str();
        let mut parts = self.0.split('*');
        let Some(unstripped) = parts.next().map(|first| rest.strip_prefix(first)) else {
            return false;
        };
        let Some(after_first) = unstripped else {
            return false;
        };
        rest = after_first;
        let Some(last) = parts.next_back() else {
            return rest.is_empty();
        };
        for part in parts {
            let Some(at) = rest.find(part) else {
                return false;
            };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

impl FromStr for TopicPattern {
    type Err = TopicPatternError;

    fn from_str(text: &str) -> Result<Self, TopicPatternError> {
        let fits = !text.is_empty()
            && text.len() <= TOPIC_NAME_BYTES_MAX
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_/*".contains(c));
        // `/ev*` is fine; `Order*` could never match a name and is a typo worth refusing.
        if !fits || !text.starts_with(['/', '*']) {
            return Err(TopicPatternError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicPattern({self})")
    }
}

/// The text is not a topic pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a topic pattern begins with / or * and looks like /event/Order*, with letters, digits, _, / and * in at most {TOPIC_NAME_BYTES_MAX} bytes"
)]
pub struct TopicPatternError;

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        pattern
            .parse::<TopicPattern>()
            .unwrap()
            .matches(&topic.parse().unwrap())
    }

    #[test]
    fn a_star_stands_for_any_run() {
        assert!(matches("*", "/event/OrderCreated__e"));
        assert!(matches("/event/Order*", "/event/OrderCreated__e"));
        assert!(matches("/event/*Created*", "/event/OrderCreated__e"));
        assert!(matches("*__e", "/event/OrderCreated__e"));
        assert!(matches("/event/OrderCreated__e", "/event/OrderCreated__e"));
        assert!(!matches("/event/Order", "/event/OrderCreated__e"));
        assert!(!matches("/event/*Deleted*", "/event/OrderCreated__e"));
        assert!(!matches("/data/*", "/event/OrderCreated__e"));
    }

    #[test]
    fn the_two_ends_of_a_pattern_do_not_overlap() {
        assert!(!matches("/event/aba*ba", "/event/aba"));
    }

    #[test]
    fn publishing_change_events_takes_a_right_of_its_own() {
        let topic: TopicName = "/data/AccountChangeEvent".parse().unwrap();
        let mut grants = Grants::every_topic();
        assert!(!grants.may_publish(&topic));
        grants.change_events = true;
        assert!(grants.may_publish(&topic));
        assert!(!grants.may_publish(&"/data/ChangeEvents".parse().unwrap()));
    }

    #[test]
    fn a_pattern_that_could_never_match_is_refused() {
        assert_eq!("Order*".parse::<TopicPattern>(), Err(TopicPatternError));
        assert_eq!("".parse::<TopicPattern>(), Err(TopicPatternError));
        assert_eq!(
            "/event/Ord er".parse::<TopicPattern>(),
            Err(TopicPatternError)
        );
    }
}
