//! The broker: what may be published and read, by whom, and what happens then.
//!
//! The edges hand it who is calling and plain bytes; it asks whether they may, finds the topic and
//! its schemas, validates and lays out events for the log ([`publish`]), and runs subscriptions as a
//! cursor plus credit ([`subscription`]). It knows topics, rights and schemas, but no wire type: the
//! edges translate its answers and errors.
//!
//! Rights are asked here and nowhere else.

pub mod credit;
pub mod error;
mod metrics;
pub mod publish;
pub mod subscription;
pub mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use prometheus_client::registry::Registry as MetricsRegistry;
use tokio::sync::OnceCell;

use crate::{
    event_log::{EventLog, TenantLog},
    schema::registry::{Registry, TenantSchemas},
    types::{TenantId, limits},
};
use metrics::{LogCollector, Metrics};

pub use credit::{Credit, GrantError};
pub use error::{PublishError, SchemaError, SubscribeError, SubscriptionEnd, TopicError};
pub use publish::{Batch, EventOutcome, EventRefusal, PendingPublish, Published, Publisher};
pub use subscription::{Delivery, Subscriber, Subscription};
pub use topics::TopicDescription;

/// Settings of publishing and delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Events a subscription may have outstanding.
    pub credit_max: u32,
    /// Silence after which a subscription with credit gets an empty delivery.
    pub keepalive: Duration,
    /// How long a subscription may stay without credit; `None` for ever.
    pub zero_credit_grace: Option<Duration>,
    /// How long a unary publish waits for room in the log's queue.
    pub publish_room_wait: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credit_max: limits::CREDIT_MAX,
            keepalive: limits::KEEPALIVE,
            zero_credit_grace: Some(limits::ZERO_CREDIT_GRACE),
            publish_room_wait: limits::PUBLISH_ROOM_WAIT,
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
    metrics: Metrics,
    /// Tenants in use. Grows with the tenants that principals were authenticated for, which are
    /// made by an administrator and never by a call.
    tenants: std::sync::Mutex<HashMap<TenantId, Arc<OnceCell<Arc<Tenant>>>>>,
}

/// One tenant's engines.
#[derive(Debug)]
struct Tenant {
    log: Arc<dyn TenantLog>,
    schemas: Arc<TenantSchemas>,
}

impl Broker {
    /// A broker over these engines.
    pub fn new(config: Config, log: Arc<dyn EventLog>, registry: Registry) -> Self {
        Self(Arc::new(Inner {
            config,
            log,
            registry,
            metrics: Metrics::default(),
            tenants: std::sync::Mutex::default(),
        }))
    }

    /// Adds what the broker counts, and what it knows of the logs, to `registry`.
    pub fn register_metrics(&self, registry: &mut MetricsRegistry) {
        self.0.metrics.register(registry);
        registry.register_collector(Box::new(LogCollector(self.clone())));
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// The logs of the tenants in use, with the tenants' ids.
    fn logs(&self) -> Vec<(TenantId, Arc<dyn TenantLog>)> {
        let tenants = self
            .0
            .tenants
            .lock()
            .expect("no holder of this lock panics");
        let open = tenants
            .iter()
            .filter_map(|(id, cell)| Some((*id, cell.get()?)));
        open.map(|(id, tenant)| (id, Arc::clone(&tenant.log)))
            .collect()
    }

    /// Opens a tenant's engines ahead of its first call.
    ///
    /// # Errors
    ///
    /// [`TopicError::Unavailable`].
    pub async fn open(&self, tenant: TenantId) -> Result<(), TopicError> {
        self.tenant(tenant).await.map(drop)
    }

    /// The engines of a tenant, opened on first use.
    async fn tenant(&self, id: TenantId) -> Result<Arc<Tenant>, TopicError> {
        let cell = {
            let mut tenants = self
                .0
                .tenants
                .lock()
                .expect("no holder of this lock panics");
            Arc::clone(tenants.entry(id).or_default())
        };
        // Two first calls share one opening; a failed one is tried again by the next call.
        let tenant = cell.get_or_try_init(|| async {
            let log = self.0.log.open(id).await.map_err(TopicError::unavailable)?;
            let schemas = self
                .0
                .registry
                .tenant(id)
                .await
                .map_err(TopicError::unavailable)?;
            Ok(Arc::new(Tenant { log, schemas }))
        });
        tenant.await.cloned()
    }
}

#[cfg(test)]
pub(crate) mod tests;
