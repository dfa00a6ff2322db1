//! Whether a tenant's log and its metadata belong together.
//!
//! The log stores events under the number of their topic, and the metadata say which topic has which
//! number. With the metadata of another directory, or with new ones because the old ones were lost,
//! subscribers of one topic would be shown the events of another. The log knows the names of its
//! topics too, so that can be noticed before anybody reads or publishes.
//!
//! A topic without events is in the metadata alone. One that is being deleted has to be gone from
//! the log first.

use std::collections::BTreeMap;

use crate::types::{TenantId, TopicId};

/// A topic of the log that is not what the metadata say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// Its number is that of another topic.
    #[error("topic number {number} is {in_log} in the log and {in_metadata} in the metadata")]
    OtherName {
        /// The number.
        number: u32,
        /// Its name in the log.
        in_log: String,
        /// Its name in the metadata.
        in_metadata: String,
    },
    /// Its number is no topic's.
    #[error(
        "the log has events of {in_log} as topic number {number}, which the metadata do not know"
    )]
    Unknown {
        /// The number.
        number: u32,
        /// Its name in the log.
        in_log: String,
    },
}

/// The topics of `in_log`, by number, that are not what `in_metadata` says.
pub fn mismatches(
    in_log: impl IntoIterator<Item = (TopicId, String)>,
    in_metadata: &BTreeMap<TopicId, String>,
) -> Vec<Mismatch> {
    let topics = in_log.into_iter();
    let mismatch = |(number, in_log): (TopicId, String)| match in_metadata.get(&number) {
        Some(name) if *name == in_log => None,
        Some(name) => Some(Mismatch::OtherName {
            number: number.get(),
            in_log,
            in_metadata: name.clone(),
        }),
        None => Some(Mismatch::Unknown {
            number: number.get(),
            in_log,
        }),
    };
    topics.filter_map(mismatch).collect()
}

/// A tenant's log and metadata come from different places. Nothing of the tenant is served.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{first}{}: tenants/{tenant}/metadata.redb does not belong to tenants/{tenant}/log; put back the metadata.redb that was kept with this log, or start with an empty data directory",
    and_more(*.others)
)]
pub struct MixedUp {
    /// The tenant.
    pub tenant: TenantId,
    /// The first topic that shows it.
    pub first: Mismatch,
    /// How many more there are.
    pub others: usize,
}

impl MixedUp {
    /// What to refuse the tenant with, if there is anything.
    pub(super) fn of(tenant: TenantId, mismatches: Vec<Mismatch>) -> Option<Self> {
        let others = mismatches.len().saturating_sub(1);
        let first = mismatches.into_iter().next()?;
        Some(Self {
            tenant,
            first,
            others,
        })
    }
}

fn and_more(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => " (and one more topic)".to_owned(),
        count => format!(" (and {count} more topics)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(topics: &[(u32, &str)]) -> BTreeMap<TopicId, String> {
        let topics = topics.iter();
        topics
            .map(|(number, name)| (TopicId::new(*number), (*name).to_owned()))
            .collect()
    }

    #[test]
    fn topics_without_events_are_no_mismatch() {
        let in_metadata = topics(&[(1, "/event/A__e"), (2, "/event/B__e")]);
        assert_eq!(mismatches(topics(&[]), &in_metadata), []);
        assert_eq!(mismatches(topics(&[(2, "/event/B__e")]), &in_metadata), []);
    }

    #[test]
    fn a_mix_up_is_told_with_topic_names_and_files() {
        let in_log = topics(&[(1, "/event/A__e"), (2, "/event/B__e"), (3, "/event/C__e")]);
        let found = mismatches(in_log, &topics(&[(1, "/event/A__e"), (2, "/event/C__e")]));
        let mixed = MixedUp::of("00D000000000001".parse().unwrap(), found).unwrap();
        assert_eq!(
            mixed.to_string(),
            "topic number 2 is /event/B__e in the log and /event/C__e in the metadata (and one more \
             topic): tenants/00D000000000001EAA/metadata.redb does not belong to \
             tenants/00D000000000001EAA/log; put back the metadata.redb that was kept with this log, \
             or start with an empty data directory"
        );
        let lost = mismatches(topics(&[(7, "/event/A__e")]), &topics(&[]));
        assert_eq!(
            lost[0].to_string(),
            "the log has events of /event/A__e as topic number 7, which the metadata do not know"
        );
    }
}
