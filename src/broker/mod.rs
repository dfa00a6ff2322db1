//! The broker: what may be published and read, by whom, and what happens then.
//!
//! The edges hand it who is calling and plain bytes; it asks whether they may, finds the topic and
//! its schemas, validates and lays out events for the log ([`publish`]), and runs subscriptions as a
//! cursor plus credit ([`subscription`]). It knows topics, rights and schemas, but no wire type: the
//! edges translate its answers and errors.
//!
//! Rights are asked here and nowhere else.

pub mod belonging;
mod block_answers;
pub mod channels;
pub mod comparison;
pub mod credit;
pub mod error;
mod filters;
pub mod from_time;
pub mod idempotence;
pub mod lag;
pub mod managed;
mod metrics;
pub mod publish;
pub mod removal;
pub mod schemas;
mod selection;
mod sharing;
mod source;
pub mod subscription;
mod tenants;
pub mod topics;

use std::{sync::Arc, time::Duration};

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::{task::JoinError, time::Instant};

use crate::{
    clock::Clock,
    event_log::{EventLog, TenantLog},
    metadata::MetadataStore,
    schema::registry::{Registry, TenantSchemas},
    types::{TenantId, limits},
};
use belonging::{MixedUp, mismatches};
use channels::Channels;
use filters::Filters;
use idempotence::Idempotence;
use managed::ManagedSubscriptions;
use metrics::{LogCollector, ManagedCollector, Metrics};
use tenants::{Closed, Tenant, Tenants};

pub use channels::{
    AppliedChannel, ApplyOptions, ApplyOutcome, Channel, ChannelChange, ChannelError,
    ChannelMember, MemberProblem, NewChannel, NewMember,
};
pub use comparison::{Comparison, ComparisonError};
pub use credit::{Credit, GrantError};
pub use error::{PublishError, SchemaError, SubscribeError, SubscriptionEnd, TopicError};
pub use from_time::{TimeError, TimePlace};
pub use lag::{Lag, SubscriberName};
pub use managed::{
    CommitAnswer, CommitRefusal, ManagedChange, ManagedConfig, ManagedDelivery, ManagedDescription,
    ManagedEnd, ManagedError, ManagedKey, ManagedSubscribeError, ManagedSubscriber,
    ManagedSubscription, NewManaged, NewSharing, Sharing,
};
pub use publish::{
    Batch, EventOutcome, EventRefusal, PendingBatches, PendingPublish, Published, Publisher,
};
pub use removal::{Erasure, RemovalError, Selection};
pub use schemas::{Affected, Judged, NewSchema, RetiredSchema, SchemaChangeError, SchemaRules};
pub use sharing::key::{KeyField, SharingError};
use subscription::Delivered;
pub use subscription::{Delivery, Subscriber, Subscription};
pub use topics::{Access, TopicDescription};

/// Settings of publishing and delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Events a subscription may have outstanding.
    pub credit_max: u32,
    /// Events a subscription may have outstanding that asks for more than that.
    pub credit_max_extended: u32,
    /// Silence after which a subscription with credit gets an empty delivery.
    pub keepalive: Duration,
    /// How long a subscription may stay without credit; `None` for ever.
    pub zero_credit_grace: Option<Duration>,
    /// How long a unary publish waits for room in the log's queue.
    pub publish_room_wait: Duration,
    /// How long a stream of a managed subscription may go without commits; `None` for ever.
    pub managed_no_commit_timeout: Option<Duration>,
    /// How long a tenant that nobody uses stays open.
    pub tenant_idle: Duration,
    /// Tenants beyond which those that nobody uses are closed sooner. Those in use stay open.
    pub tenants_open_max: u32,
    /// Whether events with ids that were seen are stored again.
    pub idempotence: idempotence::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credit_max: limits::CREDIT_MAX,
            credit_max_extended: limits::CREDIT_MAX_EXTENDED,
            keepalive: limits::KEEPALIVE,
            zero_credit_grace: Some(limits::ZERO_CREDIT_GRACE),
            publish_room_wait: limits::PUBLISH_ROOM_WAIT,
            managed_no_commit_timeout: None,
            tenant_idle: limits::TENANT_IDLE,
            tenants_open_max: limits::TENANTS_OPEN_MAX,
            idempotence: idempotence::Config::default(),
        }
    }
}

/// Where the edges meet the engines. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Broker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    log: Arc<dyn EventLog>,
    registry: Registry,
    store: Arc<dyn MetadataStore>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    tenants: Tenants,
    idempotence: Arc<Idempotence>,
}

impl Broker {
    /// A broker over these engines. `store` is the one that the registry reads.
    pub fn new(
        config: Config,
        log: Arc<dyn EventLog>,
        registry: Registry,
        store: Arc<dyn MetadataStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let idempotence = Idempotence::new(config.idempotence.clone(), Arc::clone(&clock));
        Self(Arc::new(Inner {
            config,
            log,
            registry,
            store,
            clock,
            metrics: Metrics::default(),
            tenants: Tenants::default(),
            idempotence,
        }))
    }

    /// Adds what the broker counts, and what it knows of the logs, to `registry`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        let clock = Arc::clone(&self.0.clock);
        self.0.metrics.register(registry, clock);
        self.0.registry.register_metrics(registry);
        self.0.idempotence.register(registry);
        registry.register_collector(Box::new(LogCollector(self.clone())));
        registry.register_collector(Box::new(ManagedCollector(self.clone())));
    }

    fn config(&self) -> &Config {
        &self.0.config
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The logs of the tenants that are open, with the tenants' ids.
    fn logs(&self) -> Vec<(TenantId, Arc<dyn TenantLog>)> {
        self.0.tenants.logs()
    }

    /// Closes the tenants that nobody has used for [`Config::tenant_idle`]; the next call that needs
    /// one opens it again. In the others it forgets the event ids whose time is over. To be called
    /// now and then.
    pub async fn close_quiet(&self) {
        self.0.idempotence.expire();
        let idle = self.0.config.tenant_idle;
        self.close(self.0.tenants.take_quiet(Instant::now(), idle))
            .await;
    }

    /// Lets go of engines, and of what the registry keeps for them, once it is written down who used
    /// which schema.
    async fn close(&self, closed: Closed) {
        for (id, engines) in closed {
            if let Some(tenant) = engines.get() {
                schemas::flush_uses(id, tenant).await;
            }
            drop(engines);
            self.0.registry.forget(id);
        }
    }

    /// Opens a tenant's engines ahead of its first call.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`], also when log and metadata do not belong together; nothing was
    /// changed then.
    pub async fn open(&self, tenant: TenantId) -> Result<(), TopicError> {
        self.tenant(tenant).await.map(drop)
    }

    /// The engines of a tenant, opened on first use.
    async fn tenant(&self, id: TenantId) -> Result<Arc<Tenant>, TopicError> {
        let open_max = self.0.config.tenants_open_max as usize;
        let (cell, closed) = self.0.tenants.enter(id, Instant::now(), open_max);
        self.close(closed).await;
        // Two first calls share one opening; a failed one is tried again by the next call.
        let tenant = cell.get_or_try_init(|| async {
            let log = self.0.log.open(id).await.map_err(TopicError::unavailable)?;
            let schemas = self
                .0
                .registry
                .tenant(id)
                .await
                .map_err(TopicError::unavailable)?;
            check_belonging(id, &*log, &schemas).map_err(TopicError::unavailable)?;
            // What a stop interrupted: a topic goes from the registry first.
            let deleted = schemas.deleted();
            for topic in log.topics() {
                if deleted.contains_key(&topic.id) {
                    let gone = log.delete_topic(topic.id).await;
                    gone.map_err(TopicError::unavailable)?;
                }
            }
            let engines = || (Arc::clone(&self.0.store), Arc::clone(&self.0.clock));
            let (store, clock) = engines();
            let managed =
                ManagedSubscriptions::open(id, store, clock, Arc::clone(&schemas), &*log).await;
            let managed = managed.map_err(TopicError::unavailable)?;
            let (store, clock) = engines();
            let channels = Channels::open(id, store, clock).await;
            let channels = channels.map_err(TopicError::unavailable)?;
            Ok(Arc::new(Tenant {
                ids: self.0.idempotence.open(Arc::clone(&log)),
                log,
                schemas,
                managed,
                channels,
                filters: Filters::default(),
            }))
        });
        tenant.await.cloned()
    }
}

/// Does a change to its end, also if whoever asked for it goes away meanwhile: what is stored and what is
/// in force are changed together.
async fn to_its_end<T, E>(
    change: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<JoinError> + Send + 'static,
{
    // An error of the task itself: it panicked, which is a bug of ours, or the program ends.
    tokio::spawn(change).await?
}

/// Holds each topic that the log has events of to be the one that the registry knows by its number.
fn check_belonging(
    tenant: TenantId,
    log: &dyn TenantLog,
    schemas: &TenantSchemas,
) -> Result<(), MixedUp> {
    let known = schemas.event_types().into_iter();
    let known = known.map(|known| (known.topic_id(), known.topic().clone()));
    let known = known.chain(schemas.deleted());
    let known = known.map(|(id, name)| (id, name.to_string()));
    let topics = log.topics().into_iter();
    let in_log = topics.map(|topic| (topic.id, topic.name.to_string()));
    match MixedUp::of(tenant, mismatches(in_log, &known.collect())) {
        Some(mixed) => Err(mixed),
        None => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod tests;
