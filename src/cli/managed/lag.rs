//! How far a subscriber is behind, as it is shown.

use std::time::Duration;

use serde::Serialize;

use crate::proto::admin::Lag;

/// How far a subscriber is behind. The fields are keys in JSON.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct LagCells {
    events_behind: u64,
    seconds_behind: f64,
    /// Null when there is nothing to lose.
    seconds_to_loss: Option<f64>,
}

impl From<Lag> for LagCells {
    fn from(lag: Lag) -> Self {
        let seconds = |millis: u64| millis as f64 / 1_000.0;
        Self {
            events_behind: lag.events,
            seconds_behind: seconds(lag.behind_ms),
            seconds_to_loss: lag.can_lose.then_some(seconds(lag.time_to_loss_ms)),
        }
    }
}

impl LagCells {
    /// Events, for how long, and how long until the first is lost.
    pub(super) fn cells(&self) -> [String; 3] {
        let none = || "-".to_owned();
        match self.events_behind {
            0 => ["0".into(), none(), none()],
            events => [
                events.to_string(),
                rounded(self.seconds_behind),
                self.seconds_to_loss.map_or_else(none, rounded),
            ],
        }
    }

    /// The same in words.
    pub(in crate::cli) fn text(&self) -> String {
        match self.cells() {
            [events, behind, _] if behind == "-" => format!("{events} events behind"),
            [events, behind, left] if left == "-" => format!("{events} events, {behind} behind"),
            [events, behind, left] => format!("{events} events, {behind} behind, {left} to loss"),
        }
    }
}

/// A time to the second: what is shorter is no lag to speak of.
fn rounded(seconds: f64) -> String {
    let whole = Duration::from_secs(seconds.max(0.0) as u64);
    jiff::SignedDuration::try_from(whole)
        .map_or_else(|_| format!("{whole:?}"), |time| format!("{time:#}"))
}
