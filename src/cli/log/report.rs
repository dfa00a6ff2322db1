//! What was found in a log, in words and as JSON.

use std::fmt::Write;

use indicatif::{BinaryBytes, HumanCount};
use serde::Serialize;
use tokio::io::AsyncWrite;

use crate::{
    cli::output::{Format, Output, Record, Row, time},
    event_log::embedded::{DamageReport, LogReport, LossReport, SegmentReport, TopicReport},
    types::Position,
};

/// What was found in one log. The rows' fields are the keys in JSON.
pub(super) struct Findings<'a> {
    report: &'a LogReport,
    log: LogRow<'a>,
    damage: Vec<DamageRow<'a>>,
    losses: Vec<LossRow<'a>>,
}

#[derive(Debug, Serialize)]
struct LogRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    events: u64,
    bytes: u64,
    segments: usize,
    latest_replay_id: Option<String>,
    purged_replay_id: Option<String>,
    damage: usize,
}

#[derive(Debug, Serialize)]
struct SegmentRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    name: &'a str,
    events: u64,
    blocks: u64,
    bytes: u64,
    first_replay_id: Option<String>,
    last_replay_id: Option<String>,
    first_at: Option<String>,
    last_at: Option<String>,
    sealed_by: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct TopicRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    id: u32,
    name: &'a str,
    events: u64,
    latest_replay_id: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct DamageRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    file: &'a str,
    offset: Option<u64>,
    what: &'a str,
    topic: Option<&'a str>,
    after_replay_id: Option<String>,
    until_replay_id: Option<String>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(report: &'a LogReport) -> Self {
        let damage = report.damage.iter();
        let tenant = report.tenant.as_deref();
        let new = report.losses.iter().map(|loss| (loss, false));
        let settled = report.settled.iter().map(|loss| (loss, true));
        let losses = new.chain(settled);
        Self {
            losses: losses
                .map(|(loss, is_settled)| LossRow::new(tenant, loss, is_settled))
                .collect(),
            report,
            log: LogRow {
                kind: "log",
                tenant: report.tenant.as_deref(),
                events: report.events,
                bytes: report.bytes,
                segments: report.segments.len(),
                latest_replay_id: replay_id(report.head),
                purged_replay_id: replay_id(report.trim),
                damage: report.damage.len(),
            },
            damage: damage.map(|found| DamageRow::new(report, found)).collect(),
        }
    }

    /// Writes what `log info` shows.
    pub(super) fn write_info<W: AsyncWrite + Unpin>(&self, output: &mut Output<W>) {
        let tenant = self.log.tenant;
        let segments = self.report.segments.iter();
        let segments: Vec<_> = segments.map(|s| SegmentRow::new(tenant, s)).collect();
        let topics = self.report.topics.iter();
        let topics: Vec<_> = topics.map(|t| TopicRow::new(tenant, t)).collect();
        match output.format() {
            Format::Json => output.record(&self.log),
            Format::Text => output.document(&self.log.description()),
        }
        blank_line(output);
        output.list(&segments);
        blank_line(output);
        output.list(&topics);
        self.damage.iter().for_each(|row| output.record(row));
        write_losses(output, &self.losses);
    }

    /// Writes what `log verify` has to say.
    pub(super) fn write_verdict<W: AsyncWrite + Unpin>(&self, output: &mut Output<W>) {
        self.damage.iter().for_each(|row| output.record(row));
        write_losses(output, &self.losses);
        output.record(&self.log);
    }

    /// What to do about the damage, line by line; nothing if there is none.
    pub(super) fn advice(&self) -> Vec<&'static str> {
        if self.damage.is_empty() {
            return Vec::new();
        }
        let mut advice = Vec::new();
        if self.losses.iter().any(|loss| !loss.settled) {
            advice.push(
                "Lost events do not come back by themselves: publishers that still have them can \
                 publish them again. A subscriber that would have to go through such a range is \
                 refused with the replay id to go on from.",
            );
        } else {
            advice.push("No event is known to be lost.");
        }
        advice.push(
            "Stop the gateway, keep a copy of the directory, and check the disk. `tidegate log \
             repair` then says what can be done.",
        );
        advice
    }
}

impl LogRow<'_> {
    /// One property a line.
    fn description(&self) -> String {
        let lines = [
            ("tenant", self.name().to_owned()),
            ("holds", self.size()),
            (
                "latest replay id",
                or_dash(self.latest_replay_id.as_deref()),
            ),
            ("purged up to", or_dash(self.purged_replay_id.as_deref())),
        ];
        let lines = lines.map(|(name, value)| format!("{name:18}{value}\n"));
        lines.concat()
    }

    fn name(&self) -> &str {
        self.tenant.unwrap_or("no tenant yet")
    }

    fn size(&self) -> String {
        let plural = |count| if count == 1 { "" } else { "s" };
        format!(
            "{} event{} in {} segment{} of {}",
            HumanCount(self.events),
            plural(self.events),
            self.segments,
            plural(self.segments as u64),
            BinaryBytes(self.bytes)
        )
    }
}

impl Record for LogRow<'_> {
    fn text(&self) -> String {
        let verdict = match self.damage {
            0 => "whole".to_owned(),
            1 => "damaged in 1 place".to_owned(),
            places => format!("damaged in {places} places"),
        };
        format!("{}: {verdict}; {}", self.name(), self.size())
    }
}

impl<'a> SegmentRow<'a> {
    fn new(tenant: Option<&'a str>, segment: &'a SegmentReport) -> Self {
        let is_empty = segment.events == 0;
        let unless_empty = |text: String| (!is_empty).then_some(text);
        Self {
            kind: "segment",
            tenant,
            name: &segment.name,
            events: segment.events,
            blocks: segment.blocks,
            bytes: segment.bytes,
            first_replay_id: replay_id(segment.first),
            last_replay_id: replay_id(segment.last).filter(|_| !is_empty),
            first_at: unless_empty(time(segment.first_at_ms)),
            last_at: unless_empty(time(segment.last_at_ms)),
            sealed_by: segment.sealed_by,
        }
    }
}

impl Row for SegmentRow<'_> {
    const HEADERS: &'static [&'static str] = &[
        "SEGMENT",
        "EVENTS",
        "SIZE",
        "LAST REPLAY ID",
        "LAST EVENT",
        "SEALED BY",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.events.to_string(),
            BinaryBytes(self.bytes).to_string(),
            or_dash(self.last_replay_id.as_deref()),
            or_dash(self.last_at.as_deref()),
            or_dash(self.sealed_by),
        ]
    }
}

impl<'a> TopicRow<'a> {
    fn new(tenant: Option<&'a str>, topic: &'a TopicReport) -> Self {
        Self {
            kind: "topic",
            tenant,
            id: topic.id,
            name: &topic.name,
            events: topic.events,
            latest_replay_id: replay_id(topic.last),
        }
    }
}

impl Row for TopicRow<'_> {
    const HEADERS: &'static [&'static str] = &["TOPIC", "EVENTS EVER", "LATEST REPLAY ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.events.to_string(),
            or_dash(self.latest_replay_id.as_deref()),
        ]
    }
}

impl<'a> DamageRow<'a> {
    /// Something about a file as a whole.
    pub(super) fn of_file(tenant: Option<&'a str>, file: &'a str, what: &'a str) -> Self {
        Self {
            kind: "damage",
            tenant,
            file,
            offset: None,
            what,
            topic: None,
            after_replay_id: None,
            until_replay_id: None,
        }
    }

    fn new(report: &'a LogReport, found: &'a DamageReport) -> Self {
        let named = |id: u32| {
            let topic = report.topics.iter().find(|topic| topic.id == id);
            topic.map(|topic| topic.name.as_str())
        };
        Self {
            kind: "damage",
            tenant: report.tenant.as_deref(),
            file: &found.file,
            offset: found.offset,
            what: &found.what,
            topic: found.topic.and_then(named),
            after_replay_id: found.after.and_then(position_id),
            // The end of the last hole is not known.
            until_replay_id: found
                .until
                .filter(|&until| until < Position::MAX.get())
                .and_then(position_id),
        }
    }
}

impl Record for DamageRow<'_> {
    /// Where the damage is, what it is, and which events it may have cost.
    fn text(&self) -> String {
        let mut text = format!("damage in {}", self.file);
        if let Some(offset) = self.offset {
            _ = write!(text, " at byte {offset}");
        }
        _ = write!(text, ": {}", self.what);
        if let Some(after) = &self.after_replay_id {
            let topic = self.topic.unwrap_or("any topic");
            _ = write!(
                text,
                "; {topic} may have lost events after replay id {after}"
            );
            match &self.until_replay_id {
                Some(until) => _ = write!(text, " up to {until}"),
                None => text.push_str(" up to the end of the file"),
            }
        }
        text
    }
}

/// A run of events that are missing. The fields are the keys in JSON.
#[derive(Debug, Serialize)]
pub(super) struct LossRow<'a> {
    kind: &'static str,
    tenant: Option<&'a str>,
    topic: Option<&'a str>,
    events: u64,
    after_replay_id: Option<String>,
    until_replay_id: Option<String>,
    settled: bool,
}

impl<'a> LossRow<'a> {
    pub(super) fn new(tenant: Option<&'a str>, loss: &'a LossReport, settled: bool) -> Self {
        Self {
            kind: "loss",
            tenant,
            topic: loss.name.as_deref(),
            events: loss.events,
            after_replay_id: position_id(loss.after),
            until_replay_id: position_id(loss.until),
            settled,
        }
    }
}

impl Record for LossRow<'_> {
    fn text(&self) -> String {
        let plural = if self.events == 1 { "" } else { "s" };
        let settled = if self.settled { " (settled)" } else { "" };
        format!(
            "lost: {} event{plural} of {} after replay id {} up to {}{settled}",
            HumanCount(self.events),
            self.topic.unwrap_or("a topic whose name is lost"),
            self.after_replay_id.as_deref().unwrap_or_default(),
            self.until_replay_id.as_deref().unwrap_or_default(),
        )
    }
}

/// Writes what is missing, one run of events to a line.
pub(super) fn write_losses<W: AsyncWrite + Unpin>(output: &mut Output<W>, losses: &[LossRow<'_>]) {
    losses.iter().for_each(|loss| output.record(loss));
}

/// Sets what follows apart, for people.
fn blank_line<W: AsyncWrite + Unpin>(output: &mut Output<W>) {
    if output.format() == Format::Text {
        output.document("");
    }
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// A position as a replay id; `None` for the one before every event.
fn replay_id(number: u64) -> Option<String> {
    position_id(number).filter(|_| number != 0)
}

fn position_id(number: u64) -> Option<String> {
    Position::new(number).map(|position| position.replay_id().to_string())
}
