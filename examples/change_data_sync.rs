//! Change data in sync: a SQLite table of shipments, kept by the events that tell their changes.
//!
//! With a gateway running in this directory: `cargo run --release --example change_data_sync`. Wherever
//! a sync is cut off, the next one neither misses a change nor makes it again.

mod shipments;

use std::path::Path;

use anyhow::{Context, ensure};
use rusqlite::Transaction;
use shipments::table;
use tidegate::{
    client::Connection,
    schema::change_event::ChangeType,
    subscriber::{Event, Field, Item, RecordChange},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let connection = shipments::connect().await?;
    let file = tempfile::NamedTempFile::new()?;
    shipments::change(&connection).await?;
    sync(&connection, file.path()).await?;
    shipments::change_more(&connection).await?;
    let lines = sync(&connection, file.path()).await?;
    ensure!(lines == shipments::AT_LAST, "not in sync");
    Ok(())
}

/// Makes every change that was told since the last time, and shows the table.
async fn sync(connection: &Connection, file: &Path) -> anyhow::Result<Vec<String>> {
    let mut database = table::open(file)?;
    let start = table::start(&database)?;
    let subscriber = shipments::subscriber(connection)?.start_at(start.parse()?);
    let mut events = subscriber.build()?.start();
    loop {
        match events.next().await?.context("it ended")? {
            Item::Event(event) => {
                apply(database.transaction()?, &event)?;
                event.done();
            }
            // Changes are missing, and any shipment may be another.
            Item::Gap(_) => _ = database.execute(table::MARK_ALL, ["*"])?,
            Item::CaughtUp(_) => break,
            _ => {}
        }
    }
    let count = events.statuses()[0].counters.done;
    println!("{count} changes from {start}:");
    Ok(table::show(&database)?)
}

/// Writes what changed and the position behind it at once, or nothing.
fn apply(rows: Transaction<'_>, event: &Event) -> anyhow::Result<()> {
    let change = event.change()?.context("it tells no change")?;
    for record in change.records() {
        let (what, id) = match (record, change.change_type) {
            (RecordChange::Changed { id, .. }, Some(ChangeType::Update)) => (table::KEEP, id),
            (RecordChange::Changed { id, .. }, Some(ChangeType::Delete)) => (table::DELETE, id),
            (RecordChange::Changed { id, .. }, _) => (table::ADD, id),
            (RecordChange::Gap { id, .. }, _) if !id.ends_with('*') => (table::MARK, id),
            (RecordChange::Gap { id, .. }, _) => (table::MARK_ALL, id),
            (RecordChange::Overflow { .. }, _) => (table::MARK_ALL, "*"),
        };
        rows.execute(what, [id])?;
        for name in ["Status__c", "Notes__c"] {
            let value = match change.field(name) {
                Field::Set(value) => value.as_str(),
                Field::Nulled => None,
                Field::Absent => continue,
            };
            rows.execute(&table::set(name), (value, id))?;
        }
    }
    rows.execute(table::MOVE_ON, [event.replay_id().to_string()])?;
    Ok(rows.commit()?)
}
