//! Where a subscription starts, and which events it gets, as its request says.

use axum::http::HeaderMap;
use percent_encoding::percent_decode_str;

use crate::{
    filter::Filter,
    http::error::{ApiError, kinds},
    types::{Moment, MomentError, Position, ReplayId, Start},
};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) from: From,
    /// What events have to match.
    pub(super) filter: Option<Filter>,
}

/// Where a request asks to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    Start(Start),
    /// The events that were appended from then on.
    Time(Moment),
}

/// What clients send when they come back, and what those send that cannot set a header.
const LAST_EVENT_ID: &str = "last-event-id";
const LAST_EVENT_ID_PARAMETER: &str = "lastEventId";

/// What a request asks for: to start where `headers` say, else `query`, else at the latest.
///
/// # Errors
///
/// An [`ApiError`] for a text that is no start or no filter, and for a parameter that does not exist.
pub(super) fn asked(headers: &HeaderMap, query: Option<&str>) -> Result<Asked, ApiError> {
    let asked = Query::parse(query.unwrap_or_default())?;
    let mut ids = headers.get_all(LAST_EVENT_ID).iter();
    let id = ids.next();
    if ids.next().is_some() {
        return Err(kinds::INVALID_INPUT.error("Last-Event-ID is there more than once"));
    }
    let id = id.map(|id| id.to_str().map_err(|_| malformed()));
    let id = id.transpose()?.map(str::trim);
    // A client that was told no id yet sends none, or an empty one.
    let is_id = |id: &&str| !id.is_empty();
    let from = match id.filter(is_id).or(asked.last_event_id.filter(is_id)) {
        Some(id) => From::Start(Start::After(position(id)?)),
        None => asked.from,
    };
    let filter = asked.filter;
    Ok(Asked { from, filter })
}

/// What the query of a request asks for.
struct Query<'a> {
    from: From,
    last_event_id: Option<&'a str>,
    filter: Option<Filter>,
}

impl<'a> Query<'a> {
    fn parse(query: &'a str) -> Result<Self, ApiError> {
        let (mut from, mut last_event_id, mut filter) = (None, None, None);
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("from", start)) if from.is_none() => from = Some(parse_from(start)?),
                Some((LAST_EVENT_ID_PARAMETER, id)) if last_event_id.is_none() => {
                    last_event_id = Some(id);
                }
                Some(("filter", text)) if filter.is_none() => filter = Some(parse_filter(text)?),
                _ => {
                    return Err(kinds::INVALID_INPUT.error(
                        "the only parameters are from (latest, earliest, a replay id or a time), filter \
                         and lastEventId (a replay id), each once",
                    ));
                }
            }
        }
        Ok(Self {
            from: from.unwrap_or(From::Start(Start::Latest)),
            last_event_id,
            filter,
        })
    }
}

/// A filter, with a plus or an escape where it has a space, as forms write it.
fn parse_filter(text: &str) -> Result<Filter, ApiError> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8();
    let text = text.map_err(|_| kinds::INVALID_INPUT.error("the filter is not UTF-8"))?;
    Ok(text.parse::<Filter>()?)
}

fn parse_from(text: &str) -> Result<From, ApiError> {
    // A time has characters that many clients escape.
    let text = percent_decode_str(text).decode_utf8_lossy();
    Ok(match &*text {
        "latest" => From::Start(Start::Latest),
        "earliest" => From::Start(Start::Earliest),
        time if time.starts_with('-') || time.contains(':') => {
            let moment = time.parse();
            From::Time(
                moment
                    .map_err(|error: MomentError| kinds::INVALID_INPUT.error(error.to_string()))?,
            )
        }
        id => From::Start(Start::After(position(id)?)),
    })
}

/// The position that a replay id in hex stands for, in either case and length.
fn position(hex: &str) -> Result<Position, ApiError> {
    let id: ReplayId = hex.parse().map_err(|error| malformed().because(error))?;
    Ok(id.position())
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
        match any(last_event_id, query)? {
            From::Start(start) => Ok(start),
            From::Time(time) => panic!("{time} is no time"),
        }
    }

    fn any(last_event_id: Option<&str>, query: Option<&str>) -> Result<From, &'static str> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            headers.insert(LAST_EVENT_ID, id.parse().unwrap());
        }
        let asked = asked(&headers, query).map_err(|error| error.code())?;
        Ok(asked.from)
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
    fn an_id_in_the_query_counts_as_in_the_header_which_wins() {
        let query = |id| format!("from=earliest&lastEventId={id}");
        assert_eq!(of(None, Some(&query(ID))), Ok(after()));
        assert_eq!(of(Some(""), Some(&query(ID))), Ok(after()));
        assert_eq!(of(Some(ID), Some(&query("0000000000000000"))), Ok(after()));
        assert_eq!(of(None, Some(&query(""))), Ok(Start::Earliest));
        assert_eq!(of(None, Some(&query("x"))), Err("INVALID_REPLAY_ID"));
    }

    #[test]
    fn a_time_is_known_escaped_or_not() {
        let year = From::Time(Moment::At(1_767_225_600_000));
        for time in [
            "2026-01-01T00:00Z",
            "2026-01-01T00%3A00%3A00Z",
            "2026-01-01T02:00+02:00",
            "2026-01-01T02%3A00%2B02%3A00",
        ] {
            assert_eq!(any(None, Some(&format!("from={time}"))), Ok(year), "{time}");
        }
        let ago = From::Time(Moment::Ago(900_000));
        assert_eq!(any(None, Some("from=-15m")), Ok(ago));
        assert_eq!(of(Some(ID), Some("from=-15m")), Ok(after()), "an id wins");
        for no_time in ["-15", "12:00", "2026-01-01T00:00", "-%ff"] {
            let refused = any(None, Some(&format!("from={no_time}")));
            assert_eq!(refused, Err("INVALID_INPUT"), "{no_time}");
        }
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
            "filter=",
            "filter=%ff",
            "filter=a%3D1&filter=a%3D1",
            "from",
            "lastEventId=0000000000000000&lastEventId=0000000000000000",
        ] {
            assert_eq!(of(None, Some(query)), Err("INVALID_INPUT"), "{query}");
        }
    }

    proptest! {
        #[test]
        fn foreign_text_never_panics(text in "\\PC{0,24}", hex in "[0-9a-fA-F]{0,24}") {
            let query = format!("from={text}&lastEventId={text}&filter={text}");
            _ = asked(&HeaderMap::new(), Some(&query));
            _ = asked(&HeaderMap::new(), Some(&text));
            if let Ok(position) = position(&hex) {
                let shown = position.replay_id().to_string();
                prop_assert!(shown.starts_with(&hex.to_lowercase()[..16]));
            }
        }
    }
}
