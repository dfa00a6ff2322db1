//! Where a subscription starts, as its request says.

use axum::http::HeaderMap;

use crate::{
    http::error::{ApiError, kinds},
    types::{Position, ReplayId, Start},
};

/// What clients send when they come back.
const LAST_EVENT_ID: &str = "last-event-id";

/// The start that `headers` ask for, else `query`, else the latest.
///
/// # Errors
///
/// An [`ApiError`] for a text that is no start, and for a parameter that does not exist.
pub(super) fn start(headers: &HeaderMap, query: Option<&str>) -> Result<Start, ApiError> {
    let from = from(query.unwrap_or_default())?;
    let mut ids = headers.get_all(LAST_EVENT_ID).iter();
    let Some(id) = ids.next() else {
        return Ok(from);
    };
    if ids.next().is_some() {
        return Err(kinds::INVALID_INPUT.error("Last-Event-ID is there more than once"));
    }
    match id.to_str().map(str::trim) {
        // A client that was told no id yet sends none.
        Ok("") => Ok(from),
        Ok(id) => Ok(Start::After(position(id)?)),
        Err(_) => Err(malformed()),
    }
}

fn from(query: &str) -> Result<Start, ApiError> {
    let mut start = None;
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let Some(from) = parameter.strip_prefix("from=").filter(|_| start.is_none()) else {
            return Err(kinds::INVALID_INPUT
                .error("the only parameter is from, once: latest, earliest or a replay id"));
        };
        start = Some(match from {
            "latest" => Start::Latest,
            "earliest" => Start::Earliest,
            id => Start::After(position(id)?),
        });
    }
    Ok(start.unwrap_or(Start::Latest))
}

/// The position that a replay id in hex stands for, in either case and length.
fn position(hex: &str) -> Result<Position, ApiError> {
    if !hex.bytes().all(|c| c.is_ascii_hexdigit()) || hex.len() > 2 * ReplayId::LEN {
        return Err(malformed());
    }
    let bytes: Option<Vec<u8>> = hex
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect();
    let bytes = bytes
        .filter(|_| hex.len().is_multiple_of(2))
        .ok_or_else(malformed)?;
    ReplayId::parse(&bytes).map_err(|error| malformed().because(error))
}

fn malformed() -> ApiError {
    kinds::INVALID_REPLAY_ID.error("a replay id is 16 or 20 hex digits, as in the id of an event")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "0000000000004dff0000";

    fn after() -> Start {
        Start::After(Position::in_block(77, 255).unwrap())
    }

    fn of(last_event_id: Option<&str>, query: Option<&str>) -> Result<Start, &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert(LAST_EVENT_ID, id.parse().unwrap());
        }
        start(&headers, query).map_err(|error| error.code())
    }

    #[test]
    fn the_latest_is_where_a_client_starts_that_says_nothing() {
        assert_eq!(of(None, None), Ok(Start::Latest));
        assert_eq!(of(Some(""), Some("")), Ok(Start::Latest));
        assert_eq!(of(None, Some("from=latest")), Ok(Start::Latest));
    }

    #[test]
    fn an_id_is_known_in_both_lengths_and_cases_and_the_header_wins() {
        for id in [ID, "0000000000004DFF0000", "0000000000004dff"] {
            assert_eq!(of(Some(id), Some("from=earliest")), Ok(after()), "{id}");
            assert_eq!(of(None, Some(&format!("from={id}"))), Ok(after()), "{id}");
        }
        assert_eq!(of(Some(""), Some("from=earliest")), Ok(Start::Earliest));
    }

    #[test]
    fn anything_else_is_refused() {
        for id in [
            "x",
            "00",
            "0",
            "latest",
            "0000000000004dff0001",
            "00000000000000000000000000000000",
            "ffffffffffffffff0000",
            "+000000000004dff0000",
        ] {
            assert_eq!(of(Some(id), None), Err("INVALID_REPLAY_ID"), "{id}");
        }
        assert_eq!(of(None, Some("from=")), Err("INVALID_REPLAY_ID"));
        for query in [
            "form=latest",
            "from=latest&from=latest",
            "from=latest&x=1",
            "from",
        ] {
            assert_eq!(of(None, Some(query)), Err("INVALID_INPUT"), "{query}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,24}", hex in "[0-9a-fA-F]{0,24}") {
            _ = from(&format!("from={text}"));
            _ = from(&text);
            if let Ok(position) = position(&hex) {
                let shown = position.replay_id().to_string();
                prop_assert!(shown.starts_with(&hex.to_lowercase()[..16]));
            }
        }
    }
}
