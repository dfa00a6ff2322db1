//! How channels are made to be just as somebody lists them.
//!
//! All of it or nothing: every channel is looked at before the first one is written, and what is written
//! is written as one. Whoever calls this has asked whether the caller may.

use std::{collections::BTreeMap, fmt, sync::Arc};

use super::{
    Channel, ChannelError, Channels, NewChannel,
    change::{custom_name, is_of_events, label_or_name, members, removable},
};
use crate::{
    broker::{Broker, Tenant, to_its_end},
    metadata::{
        Expected,
        records::{self, ChannelRecord},
    },
    types::{Principal, TopicName, limits::CHANNELS_MAX},
};

/// How a list of channels is applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Delete the channels that are not named.
    pub prune: bool,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
}

/// What was done to a channel, or would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppliedChannel {
    /// The channel.
    pub name: TopicName,
    /// What was done to it.
    pub outcome: ApplyOutcome,
}

/// What is done to a channel that is to be just so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApplyOutcome {
    /// It was not there.
    Created,
    /// It was otherwise.
    Changed,
    /// It was there and is not named.
    Deleted,
    /// It was just so.
    Unchanged,
}

impl ApplyOutcome {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
            Self::Unchanged => "unchanged",
        }
    }
}

impl fmt::Display for ApplyOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Broker {
    /// Makes channels be just so, and tells what that took of each, by name. Durable when it returns,
    /// and felt by streams at once; a second call changes nothing.
    ///
    /// # Errors
    ///
    /// [`ChannelError::Of`] names the channel that cannot be so, and nothing was done. After a failure of
    /// the store all may have been done; what is listed is what is in force.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was begun goes on.
    pub async fn apply_channels(
        &self,
        principal: &Principal,
        wanted: Vec<NewChannel>,
        options: ApplyOptions,
    ) -> Result<Vec<AppliedChannel>, ChannelError> {
        let tenant = self.tenant(principal.tenant).await?;
        to_its_end(async move {
            let _changing = tenant.channels.changing.lock().await;
            let plan = Plan::new(&tenant, wanted, options.prune)?;
            let outcomes = plan.outcomes();
            if !options.dry_run {
                tenant.channels.carry_out(plan).await?;
            }
            Ok(outcomes)
        })
        .await
    }
}

/// What is to be done to each channel.
struct Plan(BTreeMap<TopicName, Step>);

enum Step {
    Create(Channel),
    Change(Channel),
    Delete,
    Keep,
}

impl Plan {
    /// Looks at every channel; nothing is changed yet.
    fn new(tenant: &Tenant, wanted: Vec<NewChannel>, prune: bool) -> Result<Self, ChannelError> {
        let known = tenant.channels.all();
        let known: Known = known.into_iter().map(|it| (it.name.clone(), it)).collect();
        let mut steps = BTreeMap::new();
        for new in wanted {
            let named = new.name.clone();
            let (name, step) = step(tenant, &known, new).map_err(|error| error.of(&named))?;
            if steps.insert(name, step).is_some() {
                return Err(ChannelError::Twice.of(&named));
            }
        }
        for name in known.keys() {
            if prune && !steps.contains_key(name) {
                removable(tenant, name).map_err(|error| error.of(name.as_str()))?;
                steps.insert(name.clone(), Step::Delete);
            }
        }
        let plan = Self(steps);
        plan.check_count(&known)?;
        Ok(plan)
    }

    fn check_count(&self, known: &Known) -> Result<(), ChannelError> {
        let is_left = |name: &&TopicName| !matches!(self.0.get(name), Some(Step::Delete));
        let is_new = |(_, step): &(_, &Step)| matches!(step, Step::Create(_));
        let made = self.0.iter().filter(is_new).map(|(name, _)| name);
        let after = known.keys().filter(is_left).chain(made);
        let (of_events, of_changes): (Vec<_>, Vec<_>) = after.partition(|name| is_of_events(name));
        match of_events.len().max(of_changes.len()) {
            0..=CHANNELS_MAX => Ok(()),
            _ => Err(ChannelError::TooMany),
        }
    }

    fn outcomes(&self) -> Vec<AppliedChannel> {
        let outcome = |(name, step): (&TopicName, &Step)| AppliedChannel {
            name: name.clone(),
            outcome: match step {
                Step::Create(_) => ApplyOutcome::Created,
                Step::Change(_) => ApplyOutcome::Changed,
                Step::Delete => ApplyOutcome::Deleted,
                Step::Keep => ApplyOutcome::Unchanged,
            },
        };
        self.0.iter().map(outcome).collect()
    }
}

/// What a channel takes to be so.
fn step(
    tenant: &Tenant,
    known: &Known,
    new: NewChannel,
) -> Result<(TopicName, Step), ChannelError> {
    let name = custom_name(&new.name)?;
    let label = label_or_name(new.label, &name)?;
    let members = members(tenant, &name, new.members)?;
    let step = match known.get(&name) {
        None => Step::Create(Channel {
            name: name.clone(),
            label,
            members,
            version: 1,
            created_at: tenant.channels.clock.now(),
        }),
        Some(known) if known.label == label && known.members == members => Step::Keep,
        Some(known) => Step::Change(Channel {
            name: name.clone(),
            label,
            members,
            version: known.version.saturating_add(1),
            created_at: known.created_at,
        }),
    };
    Ok((name, step))
}

impl Channels {
    /// Does what a plan says, all at once.
    async fn carry_out(&self, plan: Plan) -> Result<(), ChannelError> {
        let mut changes = Vec::new();
        for (name, step) in &plan.0 {
            let change = match step {
                Step::Keep => continue,
                Step::Create(channel) => records::change(&channel.record(), Expected::Absent),
                Step::Change(channel) => {
                    let expected = Expected::Revision(self.revision(name).await?);
                    records::change(&channel.record(), expected)
                }
                Step::Delete => {
                    records::removal::<ChannelRecord>(name.as_str(), self.revision(name).await?)
                }
            };
            changes.push((name, change));
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.store_changes(changes).await?;
        for (name, step) in plan.0 {
            match step {
                Step::Create(channel) | Step::Change(channel) => _ = self.adopted(channel),
                Step::Delete => self.forget(&name),
                Step::Keep => {}
            }
        }
        Ok(())
    }

    async fn revision(&self, name: &TopicName) -> Result<u64, ChannelError> {
        let stored = self.load(name).await?.ok_or(ChannelError::NotFound)?;
        Ok(stored.revision)
    }
}

type Known = BTreeMap<TopicName, Arc<Channel>>;
