//! The subscriber's table of shipments, and what changes do to it.

use std::path::Path;

use rusqlite::{Connection, Result, Row};

/// Of a new shipment everything is told.
pub(crate) const ADD: &str = "REPLACE INTO shipment (id) VALUES (?)";
/// Of one that an update is the first to tell of, the rest has to be read.
pub(crate) const KEEP: &str = "INSERT OR IGNORE INTO shipment (id, is_stale) VALUES (?, TRUE)";
pub(crate) const DELETE: &str = "DELETE FROM shipment WHERE id = ?";
/// It changed, and is to be read again to know how.
pub(crate) const MARK: &str = "INSERT INTO shipment (id, is_stale) VALUES (?, TRUE)
    ON CONFLICT DO UPDATE SET is_stale = TRUE";
/// The same of all whose id begins so.
pub(crate) const MARK_ALL: &str = "UPDATE shipment SET is_stale = TRUE WHERE id GLOB ?";
pub(crate) const MOVE_ON: &str = "UPDATE position SET behind = ?";

/// Opens the file, and makes the tables if there are none yet.
pub(crate) fn open(file: &Path) -> Result<Connection> {
    let database = Connection::open(file)?;
    database.execute_batch(
        "CREATE TABLE IF NOT EXISTS shipment
            (id TEXT PRIMARY KEY, Status__c TEXT, Notes__c TEXT, is_stale DEFAULT FALSE);
        CREATE TABLE IF NOT EXISTS position (topic TEXT PRIMARY KEY, behind TEXT);
        INSERT OR IGNORE INTO position VALUES ('shipments', 'earliest')",
    )?;
    Ok(database)
}

/// Where to go on: the start of everything, or a replay id.
pub(crate) fn start(database: &Connection) -> Result<String> {
    database.query_row("SELECT behind FROM position", [], |row| row.get(0))
}

/// What gives a shipment's field a value.
pub(crate) fn set(field: &str) -> String {
    format!("UPDATE shipment SET {field} = ? WHERE id = ?")
}

/// Prints the example's shipments, and returns what it printed.
pub(crate) fn show(database: &Connection) -> Result<Vec<String>> {
    let ours = "SELECT * FROM shipment WHERE id LIKE 'a0100000000000_AAA' ORDER BY id";
    let mut ours = database.prepare(ours)?;
    let lines = ours.query_map([], line)?.collect::<Result<Vec<_>>>()?;
    lines.iter().for_each(|line| println!("  {line}"));
    Ok(lines)
}

fn line(row: &Row<'_>) -> Result<String> {
    let text = |column| match row.get(column)? {
        Some(text) => Ok::<String, rusqlite::Error>(text),
        None => Ok("null".into()),
    };
    let mark = match row.get(3)? {
        true => "  (to be read again)",
        false => "",
    };
    Ok(format!("{}  {}  {}{mark}", text(0)?, text(1)?, text(2)?))
}
