//! The broker over engines in memory, with events to publish.

use std::sync::Arc;

use prost::{Message, encoding::encode_varint};
use serde_json::json;

use super::log_double::LogDouble;
use crate::{
    broker::{Broker, Config, Published},
    clock::{ManualClock, Timestamp},
    event_log::{self, EventLog, MemoryLog, TenantLog},
    metadata::{MetadataStore, store_double::StoreDouble},
    proto::ProducerEvent,
    schema::{
        Schema,
        change_event::{self, Change, HeaderFacts},
        registry::{Registry, TenantSchemas},
    },
    types::{EventView, Grants, Position, Principal, SignedIn, TenantId},
};

pub(crate) const ORDERS: &str = "/event/OrderCreated__e";
pub(crate) const STATUSES: &str = "/event/OrderStatusUpdated__e";
pub(crate) const CHANGES: &str = "/data/AccountChangeEvent";
pub(crate) const SHIPMENTS: &str = "/data/Shipment__ChangeEvent";

pub(crate) const ORDER_SCHEMA: &str = include_str!("../../../schemas/OrderCreated__e.avsc");
pub(crate) const STATUS_SCHEMA: &str = include_str!("../../../schemas/OrderStatusUpdated__e.avsc");
/// The id of [`ORDER_SCHEMA`].
pub(crate) const ORDER_SCHEMA_ID: &str = "dGzWYkf4alBWqjXJMJJLlw";
/// The order as it was before it had a priority.
pub(crate) const OLD_ORDER_SCHEMA: &str = r#"{"type":"record","name":"OrderCreated__e",
    "namespace":"com.sforce.eventbus","fields":[
    {"name":"CreatedDate","type":"long"},{"name":"CreatedById","type":"string"},
    {"name":"Order_Number__c","type":["null","string"],"default":null},
    {"name":"Amount__c","type":["null","double"],"default":null}]}"#;
pub(crate) const CHANGE_SCHEMA: &str = r#"{"type":"record","name":"AccountChangeEvent",
    "namespace":"com.sforce.eventbus","fields":[
    {"name":"Name","type":["null","string"],"default":null}]}"#;

/// A schema of change events with a header.
pub(crate) const SHIPMENT_SCHEMA: &str =
    include_str!("../../../schemas/Shipment__ChangeEvent.avsc");

pub(crate) fn tenant() -> TenantId {
    "00D000000000001".parse().unwrap()
}

/// Whoever may do everything.
pub(crate) fn everything() -> Grants {
    Grants {
        change_events: true,
        ..Grants::every_topic()
    }
}

pub(crate) fn principal() -> Principal {
    Principal {
        tenant: tenant(),
        name: "tests".into(),
        grants: Arc::new(everything()),
        signed_in: SignedIn::default(),
    }
}

/// A broker and what is under it.
pub(crate) struct Engines {
    pub(crate) broker: Broker,
    pub(crate) log: Arc<LogDouble>,
    pub(crate) clock: ManualClock,
    pub(crate) store: Arc<StoreDouble>,
    config: Config,
}

impl Engines {
    pub(crate) async fn new(config: Config, log_config: event_log::Config) -> Self {
        let clock = ManualClock::at(Timestamp::from_millis(1_700_000_000_000));
        let store = Arc::new(StoreDouble::default());
        let registry = Registry::new(
            Arc::clone(&store) as _,
            Arc::new(clock.clone()),
            crate::schema::registry::Rules::default(),
        );
        let schemas = registry.tenant(tenant()).await.unwrap();
        for text in [
            OLD_ORDER_SCHEMA,
            ORDER_SCHEMA,
            STATUS_SCHEMA,
            CHANGE_SCHEMA,
            SHIPMENT_SCHEMA,
        ] {
            let schema = Schema::parse(text).unwrap();
            schemas.register_unchecked(&schema).await.unwrap();
        }
        let log = MemoryLog::new(log_config, Arc::new(clock.clone()));
        let log = Arc::new(LogDouble::new(log));
        let broker = broker(&config, &log, &store, &clock);
        Self {
            broker,
            log,
            clock,
            store,
            config,
        }
    }

    /// The engines as a restart finds them: what is stored is there, what was in memory is not.
    pub(crate) fn restart(&mut self) {
        self.broker = broker(&self.config, &self.log, &self.store, &self.clock);
    }

    /// The tenant's log.
    pub(crate) async fn tenant_log(&self) -> Arc<dyn TenantLog> {
        self.log.open(tenant()).await.unwrap()
    }

    /// The tenant's schemas, as the broker sees them.
    pub(crate) async fn schemas(&self) -> Arc<TenantSchemas> {
        Arc::clone(&self.broker.tenant(tenant()).await.unwrap().schemas)
    }

    /// Publishes events that are stored.
    pub(crate) async fn publish(&self, topic: &str, events: &[ProducerEvent]) -> Vec<Position> {
        let outcomes = self.publish_any(topic, events).await;
        let positions = outcomes.outcomes().map(|outcome| outcome.result.unwrap());
        positions.collect()
    }

    /// Publishes events that may be refused.
    pub(crate) async fn publish_any(&self, topic: &str, events: &[ProducerEvent]) -> Published {
        let publisher = self
            .broker
            .publisher(&principal(), None, topic)
            .await
            .unwrap();
        let mut batch = publisher.batch(events.len(), 0).unwrap();
        for event in events {
            batch.push(&EventView::parse(&event.encode_to_vec()).unwrap());
        }
        batch.append().await.unwrap().outcome().await.unwrap()
    }

    /// What a scrape shows of the broker.
    pub(crate) fn scrape(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.broker.register_metrics(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

fn broker(
    config: &Config,
    log: &Arc<LogDouble>,
    store: &Arc<StoreDouble>,
    clock: &ManualClock,
) -> Broker {
    let store = Arc::clone(store) as Arc<dyn MetadataStore>;
    let registry = Registry::new(
        Arc::clone(&store),
        Arc::new(clock.clone()),
        crate::schema::registry::Rules::default(),
    );
    Broker::new(
        config.clone(),
        Arc::clone(log) as _,
        registry,
        store,
        Arc::new(clock.clone()),
    )
}

pub(crate) fn schema_id(text: &str) -> String {
    Schema::parse(text).unwrap().id().to_string()
}

/// An order without an id.
pub(crate) fn order(number: &str) -> ProducerEvent {
    ProducerEvent {
        schema_id: ORDER_SCHEMA_ID.into(),
        payload: record(&[Some(number), None, None]).into(),
        ..ProducerEvent::default()
    }
}

/// Orders whose ids are their numbers.
pub(crate) fn orders(numbers: std::ops::Range<usize>) -> Vec<ProducerEvent> {
    let order = |number: usize| ProducerEvent {
        id: number.to_string(),
        ..order(&number.to_string())
    };
    numbers.map(order).collect()
}

/// An order of about this many bytes whose id is its number.
pub(crate) fn large_order(number: usize, bytes: usize) -> ProducerEvent {
    ProducerEvent {
        id: number.to_string(),
        ..order(&"x".repeat(bytes))
    }
}

/// An order that an older publisher wrote.
pub(crate) fn old_order(number: &str) -> ProducerEvent {
    ProducerEvent {
        schema_id: schema_id(OLD_ORDER_SCHEMA),
        payload: record(&[Some(number), None]).into(),
        ..ProducerEvent::default()
    }
}

pub(crate) fn status(number: &str) -> ProducerEvent {
    ProducerEvent {
        schema_id: schema_id(STATUS_SCHEMA),
        payload: record(&[Some(number), None, None]).into(),
        ..ProducerEvent::default()
    }
}

pub(crate) fn change() -> ProducerEvent {
    ProducerEvent {
        schema_id: schema_id(CHANGE_SCHEMA),
        payload: vec![0].into(),
        ..ProducerEvent::default()
    }
}

/// The change event of a shipment that got another status.
pub(crate) fn shipment_change() -> ProducerEvent {
    shipment_change_of("a01000000000001AAA")
}

/// The same of the shipment with this id.
pub(crate) fn shipment_change_of(id: &str) -> ProducerEvent {
    let schema = Schema::parse(SHIPMENT_SCHEMA).unwrap();
    let record = |status| Some(json!({"Id": id, "Status__c": status}));
    let change = Change {
        before: record("packed"),
        after: record("shipped"),
    };
    let facts = HeaderFacts::of_commit("t-1".into(), 1_700_000_000_000, 42);
    let payload = change_event::build(&schema, &change, &facts).unwrap();
    ProducerEvent {
        schema_id: schema.id().to_string(),
        payload: payload.into(),
        ..ProducerEvent::default()
    }
}

/// An event whose payload ends too early.
pub(crate) fn cut_short(mut event: ProducerEvent) -> ProducerEvent {
    let len = event.payload.len();
    event.payload.truncate(len - 1);
    event
}

/// A record with a date, an author and nullable strings.
fn record(fields: &[Option<&str>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_long(&mut bytes, 1_700_000_000_000);
    put_text(&mut bytes, "005000000000001AAA");
    for field in fields {
        put_long(&mut bytes, i64::from(field.is_some()));
        if let Some(text) = field {
            put_text(&mut bytes, text);
        }
    }
    bytes
}

fn put_long(bytes: &mut Vec<u8>, value: i64) {
    encode_varint((value << 1 ^ value >> 63).cast_unsigned(), bytes);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_long(bytes, i64::try_from(text.len()).unwrap());
    bytes.extend_from_slice(text.as_bytes());
}
