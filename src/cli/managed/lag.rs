//! How far a subscriber is behind, as it is shown.

use std::time::Duration;

use serde::Serialize;

use crate::proto::admin::Lag;

/// How far a subscriber is behind. The fields are keys in JSON.
#[derive(Debug, Default, Serialize)]
pub(in crate::cli) struct LagCells {
    /// Null when it is not known.
    events_behind: Option<u64>,
    seconds_behind: Option<f64>,
    /// Null when there is nothing to lose, or it is not known.
    seconds_to_loss: Option<f64>,
}

impl From<Option<Lag>> for LagCells {
    fn from(lag: Option<Lag>) -> Self {
        let Some(lag) = lag else {
            return Self::default();
        };
        let seconds = |millis: u64| millis as f64 / 1_000.0;
        Self {
            events_behind: Some(lag.events),
            seconds_behind: Some(seconds(lag.behind_ms)),
            seconds_to_loss: lag.can_lose.then_some(seconds(lag.time_to_loss_ms)),
        }
    }
}

impl LagCells {
    /// Events, for how long, and how long until the first is lost; a dash for what is not known.
    pub(super) fn cells(&self) -> [String; 3] {
        let none = || "-".to_owned();
        let or_dash = |seconds: Option<f64>| seconds.map_or_else(none, rounded);
        match self.events_behind {
            None => [none(), none(), none()],
            Some(0) => ["0".into(), none(), none()],
            Some(events) => [
                events.to_string(),
                or_dash(self.seconds_behind),
                or_dash(self.seconds_to_loss),
            ],
        }
    }

    /// The same in words.
    pub(in crate::cli) fn text(&self) -> String {
        match self.cells() {
            [events, ..] if events == "-" => "lag unknown".to_owned(),
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
