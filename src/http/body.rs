//! Reading the bodies of requests: bounded in size and time, and in bytes over all callers.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::{
    error::{ApiError, kinds},
    room::{Room, Taken},
};
use crate::{
    net::shutdown::ShutdownSignal,
    types::{TenantId, limits::HTTP_BODY_TIMEOUT},
};

/// What a body has to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Its content type, without parameters.
    pub(super) content_type: &'static str,
    /// How many bytes it has at most.
    pub(super) bytes_max: usize,
    /// How long it may take to arrive.
    pub(super) within: Duration,
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// Holds the type that was wanted.
    #[error("the body has another content type than {0}")]
    Type(&'static str),
    #[error("the body has another charset than UTF-8")]
    Charset,
    #[error("the body is compressed")]
    Compressed,
    /// Holds how many bytes it may have.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the body was not sent within {0:?}")]
    TooSlow(Duration),
    #[error("the body ended early")]
    Broken(#[source] axum::Error),
    /// Holds the first byte that is none.
    #[error("the body is not UTF-8 at byte {0}")]
    NotUtf8(usize),
    #[error("the gateway has no room for the body for now; try again")]
    NoRoom,
    #[error("the gateway is stopping")]
    Stopping,
}

impl BodyError {
    /// The status of a refusal.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Type(_) | Self::Charset | Self::Compressed => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) | Self::NotUtf8(_) => StatusCode::BAD_REQUEST,
            Self::NoRoom | Self::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// In the words of those who publish: whatever it is, nothing was stored.
impl From<BodyError> for ApiError {
    fn from(error: BodyError) -> Self {
        let text = error.to_string();
        match error {
            BodyError::Type(_) | BodyError::Charset => kinds::UNSUPPORTED_MEDIA_TYPE
                .error("the Content-Type of an event is application/json, in UTF-8"),
            BodyError::Compressed => {
                kinds::UNSUPPORTED_MEDIA_TYPE.error("a request with a Content-Encoding is not read")
            }
            BodyError::TooLarge(_) => kinds::TOO_LARGE.error(text),
            BodyError::TooSlow(_) => kinds::TIMEOUT.error(text),
            BodyError::Broken(source) => kinds::INVALID_INPUT.error(text).because(source),
            BodyError::NotUtf8(_) => kinds::JSON_PARSER.error(text),
            BodyError::NoRoom => kinds::PUBLISHING_UNAVAILABLE.error(
                "the gateway has no room for the body for now; nothing was stored, try again",
            ),
            BodyError::Stopping => {
                kinds::UNAVAILABLE.error("the gateway is stopping; nothing was stored")
            }
        }
    }
}

/// Reads bodies, with one bound for all of them together. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    room: Room,
    shutdown: ShutdownSignal,
}

/// A body in UTF-8, and the room it takes.
#[derive(Debug)]
pub(super) struct TextBody {
    text: String,
    _room: Taken,
}

impl TextBody {
    /// What the client sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl Bodies {
    /// Reads none once `shutdown` begins: a slow body would hold up the stop.
    pub(super) fn new(shutdown: ShutdownSignal) -> Self {
        Self {
            room: Room::new(),
            shutdown,
        }
    }

    /// Reads a body of JSON that has at most `bytes_max` bytes, from a caller of `tenant`.
    ///
    /// # Errors
    ///
    /// An [`ApiError`], as for [`Bodies::text`].
    pub(super) async fn json(
        &self,
        tenant: TenantId,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
    ) -> Result<TextBody, ApiError> {
        let wanted = Wanted {
            content_type: "application/json",
            bytes_max,
            within: HTTP_BODY_TIMEOUT,
        };
        let room = self.room.taken(Some(tenant));
        Ok(self.read(headers, body, wanted, room).await?)
    }

    /// Reads a body of text from whoever it may be.
    ///
    /// # Errors
    ///
    /// A [`BodyError`] for another content type or encoding, a body that is larger or slower than
    /// it may be, one that is not UTF-8, and while the gateway stops.
    pub(super) async fn text(
        &self,
        headers: &HeaderMap,
        body: Body,
        wanted: Wanted,
    ) -> Result<TextBody, BodyError> {
        let room = self.room.taken(None);
        self.read(headers, body, wanted, room).await
    }

    async fn read(
        &self,
        headers: &HeaderMap,
        body: Body,
        wanted: Wanted,
        room: Taken,
    ) -> Result<TextBody, BodyError> {
        check_type(headers, wanted.content_type)?;
        let stated = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        // Refused before it is sent, if the client waits for that.
        if stated.is_some_and(|length| length > wanted.bytes_max as u64) {
            return Err(BodyError::TooLarge(wanted.bytes_max));
        }
        let mut shutdown = self.shutdown.clone();
        let read = tokio::select! {
            biased;
            () = shutdown.recv() => return Err(BodyError::Stopping),
            read = timeout(wanted.within, collect(body, wanted.bytes_max, room)) => read,
        };
        let (bytes, room) = read.map_err(|_| BodyError::TooSlow(wanted.within))??;
        let text = String::from_utf8(bytes)
            .map_err(|error| BodyError::NotUtf8(error.utf8_error().valid_up_to()))?;
        Ok(TextBody { text, _room: room })
    }
}

/// The bytes of a body, which take `room`.
async fn collect(
    body: Body,
    bytes_max: usize,
    mut room: Taken,
) -> Result<(Vec<u8>, Taken), BodyError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(BodyError::Broken)?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(BodyError::TooLarge(bytes_max));
        }
        let taken = room.more(chunk.len()).await;
        taken.map_err(|_| BodyError::NoRoom)?;
        bytes.extend_from_slice(&chunk);
    }
    Ok((bytes, room))
}

/// Holds the body to be of the type `wanted`, in UTF-8 and not compressed.
fn check_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), BodyError> {
    let value = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let encoding = value(header::CONTENT_ENCODING).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(BodyError::Compressed);
    }
    let mut parts = value(header::CONTENT_TYPE).unwrap_or_default().split(';');
    let essence = parts.next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case(wanted) {
        return Err(BodyError::Type(wanted));
    }
    let is_utf8 = parts.all(|parameter| {
        let parameter = parameter.trim().to_ascii_lowercase();
        let charset = parameter.strip_prefix("charset=");
        // ASCII is UTF-8 too.
        charset.is_none_or(|charset| {
            ["utf-8", "utf8", "us-ascii"].contains(&charset.trim().trim_matches('"'))
        })
    });
    match is_utf8 {
        true => Ok(()),
        false => Err(BodyError::Charset),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::{HeaderName, StatusCode};
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::{
        broker::tests::engines::tenant,
        net::shutdown::Shutdown,
        types::limits::{HTTP_BODIES_BYTES, PUBLISH_ROOM_WAIT},
    };

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    fn json_type() -> HeaderMap {
        headers(&[(header::CONTENT_TYPE, "application/json")])
    }

    fn chunks(chunks: &[&'static str]) -> Body {
        let chunks: Vec<_> = chunks
            .iter()
            .map(|chunk| Ok::<_, Infallible>(*chunk))
            .collect();
        Body::from_stream(stream::iter(chunks))
    }

    #[test]
    fn only_the_wanted_type_in_utf8_is_read() {
        for wanted in ["application/json", "text/xml"] {
            for good in [
                wanted.to_owned(),
                wanted.to_uppercase(),
                format!("{wanted}; charset=UTF-8"),
                format!("{wanted};charset=\"utf-8\"; x"),
                format!("{wanted}; charset=us-ascii"),
            ] {
                let good = headers(&[(header::CONTENT_TYPE, &good)]);
                assert!(check_type(&good, wanted).is_ok(), "{good:?}");
            }
            for bad in [
                "",
                "text/plain",
                "application/x-www-form-urlencoded",
                &format!("{wanted}; charset=utf-16"),
                &format!("{wanted}p"),
            ] {
                let bad = headers(&[(header::CONTENT_TYPE, bad)]);
                let refused = check_type(&bad, wanted).unwrap_err();
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                assert_eq!(refused.status(), status, "{bad:?}");
                assert_eq!(ApiError::from(refused).status(), status);
            }
        }
        let compressed = headers(&[
            (header::CONTENT_TYPE, "text/xml"),
            (header::CONTENT_ENCODING, "gzip"),
        ]);
        let refused = check_type(&compressed, "text/xml");
        assert!(matches!(refused, Err(BodyError::Compressed)));
        assert!(check_type(&HeaderMap::new(), "text/xml").is_err());
    }

    #[test]
    fn an_error_has_one_status_for_all_clients() {
        for error in [
            BodyError::Type("text/xml"),
            BodyError::Charset,
            BodyError::Compressed,
            BodyError::TooLarge(1),
            BodyError::TooSlow(Duration::ZERO),
            BodyError::Broken(axum::Error::new(std::io::Error::other("reset"))),
            BodyError::NotUtf8(0),
            BodyError::NoRoom,
            BodyError::Stopping,
        ] {
            assert_eq!(error.status(), ApiError::from(error).status());
        }
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_and_gives_its_room_back() {
        let (_shutdown, signal) = Shutdown::new();
        let bodies = Bodies::new(signal);
        let body = bodies
            .json(tenant(), &json_type(), chunks(&["{\"a\"", ":1}"]), 7)
            .await
            .unwrap();
        assert_eq!(body.text(), "{\"a\":1}");
        assert_eq!(bodies.room.free(), HTTP_BODIES_BYTES - 7);
        drop(body);
        assert_eq!(bodies.room.free(), HTTP_BODIES_BYTES);

        let refused = bodies
            .json(tenant(), &json_type(), chunks(&["1234", "5678"]), 7)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(bodies.room.free(), HTTP_BODIES_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_room_and_not_for_long() {
        let (_shutdown, signal) = Shutdown::new();
        let bodies = Bodies::new(signal);
        let mut others = bodies.room.taken(None);
        others.more(HTTP_BODIES_BYTES - 6).await.unwrap();
        let headers = json_type();
        let refused = bodies
            .json(tenant(), &headers, chunks(&["1234", "5678"]), 8)
            .await;
        assert_eq!(
            refused.unwrap_err().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        let reading = bodies.json(tenant(), &headers, chunks(&["1234", "5678"]), 8);
        let (read, ()) = tokio::join!(reading, async {
            tokio::time::sleep(PUBLISH_ROOM_WAIT / 2).await;
            drop(others);
        });
        assert_eq!(read.unwrap().text(), "12345678");
    }

    #[tokio::test]
    async fn a_stated_length_is_enough_to_be_refused() {
        let (_shutdown, signal) = Shutdown::new();
        let mut stated = json_type();
        stated.insert(header::CONTENT_LENGTH, "8".parse().unwrap());
        let body = Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let refused = Bodies::new(signal)
            .json(tenant(), &stated, body, 7)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_up_in_time_and_at_once_when_the_gateway_stops() {
        let (shutdown, signal) = Shutdown::new();
        let bodies = Bodies::new(signal);
        let pending = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let refused = bodies
            .json(tenant(), &json_type(), pending(), 7)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);

        let headers = json_type();
        let reading = bodies.json(tenant(), &headers, pending(), 7);
        shutdown.begin();
        let before = tokio::time::Instant::now();
        let refused = reading.await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(before.elapsed(), std::time::Duration::ZERO);
    }

    #[tokio::test]
    async fn a_body_that_is_not_utf8_is_no_json() {
        let (_shutdown, signal) = Shutdown::new();
        let body = Body::from(&b"{\"a\": \"\xff\"}"[..]);
        let refused = Bodies::new(signal)
            .json(tenant(), &json_type(), body, 100)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(refused.to_string().contains("byte 7"), "{refused}");
    }
}
