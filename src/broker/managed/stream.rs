//! One stream of a managed subscription: what it is sent, and what it commits.

use std::{cell::Cell, collections::VecDeque, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    CommitRefusal, ManagedConfig, ManagedEnd, ManagedKey, ManagedSubscribeError,
    entry::{Advance, Entry},
    lag::Progress,
    places::PlaceGuard,
    share::Share,
    start::{recovery_of, start_of},
};
use crate::{
    broker::{
        Broker, Delivered, Delivery, GrantError, SubscribeError, Subscriber, Subscription,
        SubscriptionEnd, Tenant, TopicError, sharing::sent::Mark,
    },
    clock::Timestamp,
    event_log::PositionError,
    filter::Filter,
    types::{
        PlatformId, Position, Principal, ReplayId, RunState, Start, limits::COMMIT_ID_BYTES_MAX,
    },
};

/// Subscribing to one managed subscription on behalf of one caller, who has the right to.
#[derive(Debug)]
pub struct ManagedSubscriber {
    broker: Broker,
    tenant: Arc<Tenant>,
    entry: Arc<Entry>,
    subscriber: Subscriber,
    /// What it is told if the subscription is deleted before the stream begins.
    unknown: ManagedSubscribeError,
}

/// The flow of a managed subscription on a stream that has it. Dropping it frees the place.
pub struct ManagedSubscription {
    broker: Broker,
    tenant: Arc<Tenant>,
    entry: Arc<Entry>,
    place: PlaceGuard,
    config: watch::Receiver<Option<ManagedConfig>>,
    developer_name: String,
    filter: Option<Filter>,
    flow: Subscription,
    /// What of it is delivered, where other streams get the rest.
    share: Option<Share>,
    /// The last position that was delivered or told.
    latest: Position,
    commits: Commits,
    uncommitted: Uncommitted,
}

/// The commits that are not answered yet: one that is being stored, and the last one after it, whose
/// answer covers those before it.
#[derive(Default)]
struct Commits {
    storing: Option<(Commit, Storing)>,
    next: Option<Commit>,
}

/// The last event of each delivery that is not committed: what a commit is measured by until it is
/// looked up. Of too many the oldest are forgotten.
#[derive(Default)]
struct Uncommitted(VecDeque<(Position, Delivered)>);

type Storing = Pin<Box<dyn Future<Output = Result<(), CommitRefusal>> + Send>>;

#[derive(Debug)]
struct Commit {
    id: String,
    replay_id: Bytes,
    place: CommitPlace,
    /// What it stores.
    advance: Advance,
    received_at: Timestamp,
}

/// What is committed, on one kind of stream or the other. Later ones of a stream are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum CommitPlace {
    /// Everything up to this position.
    Position(Position),
    /// Everything that a stream of a shared subscription was sent up to here.
    Sent(Mark),
}

/// The answer to a commit.
#[derive(Debug)]
pub struct CommitAnswer {
    /// What the client calls the commit.
    pub id: String,
    /// The replay id to be committed, as the client spelled it.
    pub replay_id: Bytes,
    /// When it came.
    pub received_at: Timestamp,
    /// Whether it is durable.
    pub outcome: Result<(), CommitRefusal>,
}

/// What is to be sent next.
#[derive(Debug)]
pub enum ManagedDelivery {
    /// Events, or a keepalive.
    Events(Delivery),
    /// An answer to a commit.
    Commit(CommitAnswer),
}

impl Broker {
    /// A subscriber of the managed subscription that `key` names.
    ///
    /// # Errors
    ///
    /// [`ManagedSubscribeError`]; nobody is told about a subscription whose topic they may not
    /// subscribe to, other than that.
    pub async fn managed_subscriber(
        &self,
        principal: &Principal,
        key: ManagedKey<'_>,
    ) -> Result<ManagedSubscriber, ManagedSubscribeError> {
        let tenant = self.tenant(principal.tenant).await;
        let tenant = tenant.map_err(SubscribeError::Topic)?;
        let found = tenant.managed.find(key);
        let found = found.and_then(|entry| Some((entry.config()?, entry)));
        let unknown = match key {
            ManagedKey::Id(_) => ManagedSubscribeError::UnknownId,
            ManagedKey::Name(_) => ManagedSubscribeError::UnknownName,
        };
        let (config, entry) = found.ok_or_else(|| unknown.clone())?;
        let subscriber = self.subscriber(principal, config.topic.as_str()).await?;
        let subscriber = subscriber.with_managed(&config.developer_name);
        Ok(ManagedSubscriber {
            broker: self.clone(),
            tenant,
            entry,
            subscriber,
            unknown,
        })
    }
}

impl ManagedSubscriber {
    /// Has the credit limited to what [`Broker::extended_credit`] gives for `asked`.
    pub fn with_extended_credit(mut self, asked: u32) -> Self {
        self.subscriber = self.subscriber.with_extended_credit(asked);
        self
    }

    /// Has what is delivered noted as being of a client that calls itself so too.
    pub fn with_client_name(mut self, name: Option<&str>) -> Self {
        self.subscriber = self.subscriber.with_client_name(name);
        self
    }

    /// Takes a place and begins behind the committed position, with `requested` events of credit.
    ///
    /// Without a committed position it begins at the subscription's default replay, and at its error
    /// recovery replay if the position is no longer valid.
    ///
    /// # Errors
    ///
    /// [`ManagedSubscribeError`]; no place is taken, unless one was taken over.
    pub fn subscribe(self, requested: i32) -> Result<ManagedSubscription, ManagedSubscribeError> {
        let Self {
            broker,
            tenant,
            entry,
            subscriber,
            unknown,
        } = self;
        let mut config = entry.watch();
        let Some(current) = config.borrow_and_update().clone() else {
            return Err(unknown);
        };
        if current.state == RunState::Stop {
            return Err(ManagedSubscribeError::Stopped);
        }
        let no_commit_timeout = broker.config().managed_no_commit_timeout;
        let place = entry.places.take(current.takeover, no_commit_timeout);
        let place = place.ok_or(match &current.sharing {
            Some(sharing) => ManagedSubscribeError::AllPlacesTaken(sharing.streams),
            None => ManagedSubscribeError::AlreadyActive,
        })?;
        let topics = subscriber.topics();
        let subscriber = subscriber.with_stored_filter(current.filter.clone());
        let (latest, invalid) = match &entry.shares {
            Some(shares) => {
                let start = current.default_replay.start();
                let began = shares.begin(|| tenant.log.resolve(&topics, start));
                began.map_err(SubscribeError::from)?;
                // It has no slot yet, and goes back for those that it gets.
                (tenant.log.state().head, None)
            }
            None => {
                let beginning = start_of(&entry, &current, &*tenant.log, &topics);
                let beginning = beginning.map_err(SubscribeError::from)?;
                (beginning.position, beginning.invalid)
            }
        };
        // It is resolved once: a purge since is found by the first read, and recovered from.
        let flow = subscriber.subscribe_after(latest, requested);
        let mut flow = flow.map_err(SubscribeError::from)?;
        let share = entry.shares.as_ref();
        let share = share.map(|shares| Share::new(Arc::clone(shares), place.number(), &mut flow));
        let is_shared = share.is_some();
        let mut subscription = ManagedSubscription {
            broker,
            tenant,
            entry,
            place,
            config,
            developer_name: current.developer_name.clone(),
            filter: current.filter.clone(),
            flow,
            share,
            latest,
            commits: Commits::default(),
            uncommitted: Uncommitted::default(),
        };
        match invalid {
            _ if is_shared => {
                subscription.latest = Position::ZERO;
                subscription.arrange().map_err(SubscribeError::from)?;
            }
            Some(error) => {
                tell_recovery(&subscription.broker, &current, &error);
                subscription.entry.recovered(latest);
            }
            None => subscription.entry.delivered(latest),
        }
        Ok(subscription)
    }
}

/// Tells whoever runs the gateway that a subscription goes on elsewhere than at its position: events
/// may have been lost to it.
fn tell_recovery(broker: &Broker, config: &ManagedConfig, error: &PositionError) {
    broker.metrics().managed_recovered();
    tracing::warn!(
        subscription = config.developer_name,
        topic = %config.topic,
        replay = %config.error_recovery_replay,
        "the position of a managed subscription is no longer valid, it goes on at its \
         errorRecoveryReplay: {error}"
    );
}

impl ManagedSubscription {
    /// Adds `requested` events to the credit.
    ///
    /// # Errors
    ///
    /// [`GrantError`]; the credit is untouched.
    pub fn grant(&mut self, requested: i32) -> Result<(), GrantError> {
        self.flow.grant(requested)
    }

    /// Credit that is left, in events.
    pub fn pending(&self) -> u32 {
        self.flow.pending()
    }

    /// Its id.
    pub fn id(&self) -> PlatformId {
        self.entry.id()
    }

    /// Its name.
    pub fn developer_name(&self) -> &str {
        &self.developer_name
    }

    /// Among how many streams it is shared, if it is.
    pub fn sharing(&self) -> Option<u32> {
        let config = self.config.borrow();
        let sharing = config.as_ref().and_then(|config| config.sharing.as_ref());
        sharing.map(|sharing| sharing.streams)
    }

    /// The last position that was delivered or told. Of a shared one, the last event that was delivered on
    /// this stream.
    pub fn latest(&self) -> Position {
        self.latest
    }

    /// Takes a commit, which the client calls `id`. Its answer comes with [`Self::next`], or with that
    /// of a later commit.
    ///
    /// # Errors
    ///
    /// The answer, if the commit is refused.
    pub fn commit(&mut self, mut id: String, replay_id: &Bytes) -> Result<(), Box<CommitAnswer>> {
        let received_at = self.tenant.managed.clock.now();
        self.place.committed();
        let checked = self.check(&id, replay_id);
        // A copy of its own: the bytes are part of the request, which may be large.
        let replay_id = Bytes::copy_from_slice(&replay_id[..replay_id.len().min(ReplayId::LEN)]);
        match checked {
            Ok((place, advance)) => {
                let commit = Commit {
                    id,
                    replay_id,
                    place,
                    advance,
                    received_at,
                };
                match &self.commits.storing {
                    None => self.store(commit),
                    Some(_) => self.commits.next = Some(commit),
                }
                Ok(())
            }
            Err(refusal) => {
                // One that is too long is told as far as it may be.
                id.truncate(id.floor_char_boundary(COMMIT_ID_BYTES_MAX));
                Err(Box::new(CommitAnswer {
                    id,
                    replay_id,
                    received_at,
                    outcome: Err(refusal),
                }))
            }
        }
    }

    fn check(
        &mut self,
        id: &str,
        replay_id: &[u8],
    ) -> Result<(CommitPlace, Advance), CommitRefusal> {
        if id.len() > COMMIT_ID_BYTES_MAX {
            return Err(CommitRefusal::Id(id.len()));
        }
        if replay_id.is_empty() {
            return Err(CommitRefusal::Missing);
        }
        let found = ReplayId::parse(replay_id).map_err(CommitRefusal::Malformed)?;
        let (place, advance) = match &self.share {
            Some(share) => {
                let mark = share.find(found).ok_or(CommitRefusal::NotSent(found))?;
                let reached = share.reached(&mut self.flow, mark);
                (CommitPlace::Sent(mark), Advance::Slots(Box::new(reached)))
            }
            None => {
                self.entry.check(found)?;
                (CommitPlace::Position(found), Advance::To(found))
            }
        };
        if let Some(latest) = self.commits.latest().filter(|&latest| place < latest) {
            let committed = latest.position();
            return Err(CommitRefusal::Older { found, committed });
        }
        if self.share.is_none() {
            let topics = self.flow.topics();
            let resolved = self.tenant.log.resolve(topics, Start::After(found));
            resolved.map_err(CommitRefusal::Position)?;
        }
        Ok((place, advance))
    }

    fn store(&mut self, commit: Commit) {
        let (tenant, entry) = (Arc::clone(&self.tenant), Arc::clone(&self.entry));
        let at = commit.received_at;
        let advance = commit.advance.clone();
        let storing = async move { tenant.managed.positions.commit(entry, advance, at).await };
        self.commits.storing = Some((commit, Box::pin(storing)));
    }

    /// Has the stream get the slots of a shared subscription that are its own now.
    fn arrange(&mut self) -> Result<(), PositionError> {
        let (Some(share), Some(shares)) = (&mut self.share, &self.entry.shares) else {
            return Ok(());
        };
        let Some(config) = self.config.borrow().clone() else {
            // It is deleted, of which the stream is about to be told.
            return Ok(());
        };
        let topics = self.flow.topics().to_vec();
        let log = &*self.tenant.log;
        let invalid = Cell::new(None);
        let arranged = share.arrange(&mut self.flow, |slot| {
            let (position, lost) = shares.reached(slot);
            let resolved = match lost {
                Some(error) => Err(error),
                None => log.resolve(&topics, Start::After(position)),
            };
            let error = match resolved {
                // The next read says whether that is the end: a topic may have gone from its channel.
                Ok(_) | Err(PositionError::TopicDeleted) => return Ok(position),
                Err(error) => error,
            };
            let position = recovery_of(error, &config, log, &topics)?;
            invalid.set(Some(error));
            shares.recovered(slot, position);
            Ok(position)
        });
        // Once, however many slots there are.
        if let Some(error) = invalid.get() {
            tell_recovery(&self.broker, &config, &error);
        }
        arranged
    }

    /// Waits for the next thing to send.
    ///
    /// # Errors
    ///
    /// [`ManagedEnd`]: nothing more will be sent.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a delivery that was not returned was not taken off the credit, and no answer is
    /// lost.
    pub async fn next(&mut self) -> Result<ManagedDelivery, ManagedEnd> {
        loop {
            if let (Some(share), Some((part, _))) = (&self.share, self.flow.part()) {
                part.set_room(share.room());
            }
            tokio::select! {
                // The end first, or a stream with much to send would go on; then answers, which are
                // waited for while events are not.
                biased;
                end = self.place.lost() => return Err(end),
                changed = self.config.changed() => self.configured(changed.is_ok())?,
                () = rearranged(self.share.as_mut()) => {
                    self.arrange().map_err(SubscriptionEnd::Position)?;
                }
                (place, answer) = self.commits.stored() => {
                    self.stored(place, &answer);
                    return Ok(ManagedDelivery::Commit(answer));
                }
                delivery = self.flow.next() => match delivery {
                    Ok(mut delivery) => {
                        match &mut self.share {
                            Some(share) => {
                                share.delivered(&mut self.flow, &mut delivery);
                                self.place.end_silent();
                            }
                            None => {
                                self.entry.delivered(delivery.latest);
                                self.uncommitted.delivered(&delivery);
                            }
                        }
                        self.latest = delivery.latest;
                        return Ok(ManagedDelivery::Events(delivery));
                    }
                    Err(SubscriptionEnd::Position(error)) => self.recover(error)?,
                    Err(end) => return Err(end.into()),
                },
            }
        }
    }

    /// Takes in how the subscription is configured now.
    fn configured(&mut self, is_there: bool) -> Result<(), ManagedEnd> {
        let config = self.config.borrow_and_update().clone();
        // The sender is the entry, which the stream holds.
        let config = config.filter(|_| is_there).ok_or(ManagedEnd::Deleted)?;
        if config.state == RunState::Stop {
            return Err(ManagedEnd::Stopped);
        }
        if config.filter != self.filter {
            self.filter = config.filter.clone();
            self.flow.set_filters(config.filter.into_iter().collect());
        }
        Ok(())
    }

    /// Waits for the answers of commits that are under way, the last of which is followed by `None`.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no answer is lost.
    pub async fn next_answer(&mut self) -> Option<CommitAnswer> {
        self.commits.storing.as_ref()?;
        let (place, answer) = self.commits.stored().await;
        self.stored(place, &answer);
        Some(answer)
    }

    /// Notes how a commit ended, and begins with the next.
    fn stored(&mut self, place: CommitPlace, answer: &CommitAnswer) {
        match place {
            CommitPlace::Sent(mark) => {
                if let Some(share) = self.share.as_mut().filter(|_| answer.outcome.is_ok()) {
                    share.committed(mark);
                }
            }
            // What is past this stream was delivered on a former one, and is not counted here.
            CommitPlace::Position(position) => {
                if answer.outcome.is_ok()
                    && position <= self.latest
                    && let Some(progress) = self.uncommitted.committed(position)
                {
                    self.entry.measured(Some(position), progress);
                }
            }
        }
        if let Some(next) = self.commits.next.take() {
            self.store(next);
        }
    }

    /// Goes on where the subscription is configured to when its cursor is no longer valid.
    fn recover(&mut self, error: PositionError) -> Result<(), ManagedEnd> {
        let config = self.config.borrow().clone();
        let config = config.ok_or(ManagedEnd::Deleted)?;
        let position = recovery_of(error, &config, &*self.tenant.log, self.flow.topics());
        let position = position.map_err(SubscriptionEnd::Position)?;
        tell_recovery(&self.broker, &config, &error);
        if self.share.is_some() {
            // What was sent and is not committed may come again: the slots are not further than before.
            self.flow.skip(position);
        } else {
            self.flow.restart_after(position);
            self.latest = position;
            self.entry.recovered(position);
        }
        Ok(())
    }
}

/// Waits until slots are assigned otherwise; for ever if nothing is shared.
async fn rearranged(share: Option<&mut Share>) {
    match share {
        Some(share) => share.changed().await,
        None => std::future::pending().await,
    }
}

impl CommitPlace {
    fn position(self) -> Position {
        match self {
            Self::Position(position) => position,
            Self::Sent(mark) => mark.position(),
        }
    }
}

impl Commits {
    /// The latest that is under way.
    fn latest(&self) -> Option<CommitPlace> {
        let storing = self.storing.as_ref().map(|(commit, _)| commit);
        self.next.as_ref().or(storing).map(|commit| commit.place)
    }

    /// Waits until the commit that is being stored is; for ever if none is.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn stored(&mut self) -> (CommitPlace, CommitAnswer) {
        let outcome = match &mut self.storing {
            Some((_, storing)) => storing.await,
            None => std::future::pending().await,
        };
        let (commit, _) = self.storing.take().expect("it was being stored");
        let answer = CommitAnswer {
            id: commit.id,
            replay_id: commit.replay_id,
            received_at: commit.received_at,
            outcome,
        };
        (commit.place, answer)
    }
}

impl Uncommitted {
    fn delivered(&mut self, delivery: &Delivery) {
        let Some(last) = delivery.last else { return };
        if self.0.len() == UNCOMMITTED_MAX {
            self.0.pop_front();
        }
        self.0.push_back((delivery.latest, last));
    }

    /// How far the commit of `position` is, if that is known.
    fn committed(&mut self, position: Position) -> Option<Progress> {
        let mut passed = None;
        while let Some(&(last, delivered)) = self.0.front()
            && last <= position
        {
            passed = Some(delivered);
            self.0.pop_front();
        }
        let next = self.0.front().map(|(_, delivered)| delivered.appended_at);
        passed.map(|passed| Progress {
            passed: passed.passed,
            unread_at: next,
        })
    }
}

/// Deliveries that are remembered until they are committed.
const UNCOMMITTED_MAX: usize = 256;

impl From<TopicError> for ManagedSubscribeError {
    fn from(error: TopicError) -> Self {
        Self::Subscribe(SubscribeError::Topic(error))
    }
}
