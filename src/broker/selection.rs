//! What a subscription gets: its topics, and of each the events that all of its filters let through.

use std::sync::Arc;

use super::{
    Broker, Tenant,
    filters::{SharedFilter, Verdict},
    source::Sourced,
};
use crate::{event_log::Block, filter::Filter, types::TopicId};

/// The topics of a subscription with their filters.
#[derive(Debug)]
pub(super) struct Selection {
    /// Rising; each has its member at the same index.
    topics: Vec<TopicId>,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    /// All of which an event has to match.
    filters: Vec<Arc<SharedFilter>>,
    /// Events of the topic at or before the cursor, as far as that is known.
    passed: u64,
}

impl Selection {
    /// The selection of these topics, whose events have to match `filters` too.
    pub(super) fn new(
        broker: &Broker,
        tenant: &Tenant,
        topics: Vec<Sourced>,
        filters: &[Filter],
    ) -> Self {
        let member = |Sourced { event_type, filter }: Sourced| {
            let topic = event_type.topic_id();
            let metrics = || broker.metrics().filter(event_type.topic());
            let share = |filter| {
                tenant
                    .filters
                    .share(topic, filter, &tenant.schemas, metrics())
            };
            let member = Member {
                filters: filter.iter().chain(filters).map(share).collect(),
                // Until the first read, which follows at once, it is not known how many are passed.
                passed: tenant.log.topic(topic).ordinal,
            };
            (topic, member)
        };
        let mut members: Vec<_> = topics.into_iter().map(member).collect();
        members.sort_by_key(|(topic, _)| *topic);
        let (topics, members) = members.into_iter().unzip();
        Self { topics, members }
    }

    /// Takes over how far it had come on the topics that `before` had too.
    pub(super) fn go_on_from(&mut self, before: &Self) {
        for (topic, member) in before.topics.iter().zip(&before.members) {
            if let Ok(index) = self.topics.binary_search(topic) {
                self.members[index].passed = member.passed;
            }
        }
    }

    /// The topics, each once.
    pub(super) fn topics(&self) -> &[TopicId] {
        &self.topics
    }

    /// Whether some events may be left out.
    pub(super) fn is_filtered(&self) -> bool {
        self.members.iter().any(|member| !member.filters.is_empty())
    }

    /// Which events of a block are wanted.
    pub(super) fn verdict(&self, block: &Block) -> Verdict {
        let Some(member) = self.index(block).map(|index| &self.members[index]) else {
            return Verdict::default();
        };
        let mut verdict = Verdict::ALL;
        for filter in &member.filters {
            verdict = verdict.and(filter.verdict(block));
        }
        verdict
    }

    /// Notes that the first `examined` events of `block` are passed.
    pub(super) fn pass(&mut self, block: &Block, examined: usize) {
        if let Some(index) = self.index(block) {
            self.members[index].passed = block.ordinal() + examined as u64;
        }
    }

    /// Notes that everything is passed that there is.
    pub(super) fn pass_all(&mut self, tenant: &Tenant) {
        for (topic, member) in self.topics.iter().zip(&mut self.members) {
            member.passed = tenant.log.topic(*topic).ordinal;
        }
    }

    /// Events of all topics at or before the cursor.
    pub(super) fn passed(&self) -> u64 {
        self.members.iter().map(|member| member.passed).sum()
    }

    /// Notes how many events of each topic are passed.
    pub(super) fn set_passed(&mut self, passed: impl Fn(TopicId) -> u64) {
        for (topic, member) in self.topics.iter().zip(&mut self.members) {
            member.passed = passed(*topic);
        }
    }

    fn index(&self, block: &Block) -> Option<usize> {
        self.topics.binary_search(&block.topic()).ok()
    }
}
