//! What an example of change data is made of besides its sync: a service that keeps shipments and tells
//! what changes, and the subscriber's table.

pub(crate) mod table;

use std::{path::Path, time::Duration};

use serde_json::{
    Value::{self, Null},
    json,
};
use tidegate::{
    client::{Connection, Endpoint},
    clock::{Clock, SystemClock},
    publisher::{Event, Publisher},
    schema::change_event::{
        Change,
        ChangeType::{self, Create, Delete, GapUpdate, Undelete, Update},
        HeaderFacts, build,
    },
    subscriber::{Builder, RejectedReplay, Subscriber},
};

/// Where changes of shipments are told.
pub(crate) const CHANGES: &str = "/data/Shipment__ChangeEvent";

/// Connects to the gateway that runs in this directory.
pub(crate) async fn connect() -> anyhow::Result<Connection> {
    let data_dir = std::env::var("TIDEGATE_SERVER__DATA_DIR");
    let data_dir = data_dir.unwrap_or_else(|_| "./tidegate-data".into());
    let endpoint = Endpoint::of_profile(Path::new(&data_dir))?;
    Ok(endpoint.connect().await?)
}

/// What subscribes to them. A slow machine may keep an event for more than the second after which all is
/// taken to be there.
pub(crate) fn subscriber(connection: &Connection) -> anyhow::Result<Builder> {
    Ok(Subscriber::builder(connection.clone())
        .topic(CHANGES.parse()?)
        .on_rejected_replay(RejectedReplay::Earliest)
        .caught_up_after(Duration::from_secs(3)))
}

/// Two shipments are made; one is sent and its note removed, the other is deleted.
pub(crate) async fn change(connection: &Connection) -> anyhow::Result<()> {
    let shipments = Shipments::new(connection)?;
    let [packed, sent] = [shipment("Packed", Some("fragile")), shipment("Sent", None)];
    shipments.tell(A, Create, &Null, &packed).await?;
    shipments.tell(B, Create, &Null, &packed).await?;
    shipments.tell(A, Update, &packed, &sent).await?;
    shipments.tell(B, Delete, &packed, &Null).await
}

/// The second is back, a third is made and sent with its note, and the first changes nobody knows how.
pub(crate) async fn change_more(connection: &Connection) -> anyhow::Result<()> {
    let shipments = Shipments::new(connection)?;
    let [packed, sent] = ["Packed", "Sent"].map(|status| shipment(status, Some("fragile")));
    shipments.tell(B, Undelete, &Null, &packed).await?;
    shipments.tell(C, Create, &Null, &packed).await?;
    shipments.tell(C, Update, &packed, &sent).await?;
    shipments.tell(A, GapUpdate, &Null, &Null).await
}

/// What a table in sync shows at the end.
pub(crate) const AT_LAST: [&str; 3] = [
    "a01000000000001AAA  Sent  null  (to be read again)",
    "a01000000000002AAA  Packed  fragile",
    "a01000000000003AAA  Sent  fragile",
];

const A: &str = "a01000000000001AAA";
const B: &str = "a01000000000002AAA";
const C: &str = "a01000000000003AAA";

fn shipment(status: &str, note: Option<&str>) -> Value {
    json!({ "Status__c": status, "Notes__c": note })
}

struct Shipments(Publisher);

impl Shipments {
    fn new(connection: &Connection) -> anyhow::Result<Self> {
        let publisher = Publisher::builder(connection.clone(), CHANGES.parse()?);
        Ok(Self(publisher.start()))
    }

    /// Tells what happened to a shipment that was `before` and is `after`; null is none.
    async fn tell(
        &self,
        id: &str,
        change_type: ChangeType,
        before: &Value,
        after: &Value,
    ) -> anyhow::Result<()> {
        let record = |value: &Value| (!value.is_null()).then(|| value.clone());
        let change = Change {
            before: record(before),
            after: record(after),
        };
        // The time will do as the number of a commit: it grows too.
        let now_ms = SystemClock.now().as_millis();
        let transaction_key = uuid::Uuid::new_v4().to_string();
        let facts = HeaderFacts {
            change_type: Some(change_type),
            record_ids: vec![id.parse()?],
            ..HeaderFacts::of_commit(transaction_key, now_ms, now_ms)
        };
        let schema = self.0.schema().await?;
        let payload = build(schema.schema(), &change, &facts)?;
        let event = Event::avro(schema.id().clone(), payload);
        self.0.publish(event).await?;
        Ok(())
    }
}
