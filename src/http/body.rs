//! Reading the bodies of requests: bounded in size and time, and in bytes over all callers.

use std::sync::Arc;

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use futures_util::StreamExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::error::{ApiError, kinds};
use crate::{
    net::shutdown::ShutdownSignal,
    types::limits::{HTTP_BODIES_BYTES, HTTP_BODY_TIMEOUT, PUBLISH_ROOM_WAIT},
};

/// Reads bodies, with one bound for all of them together. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Bodies {
    /// A permit for each byte that may be held.
    room: Arc<Semaphore>,
    shutdown: ShutdownSignal,
}

/// A body in UTF-8, and the room it takes.
#[derive(Debug)]
pub(super) struct JsonBody {
    text: String,
    _room: Option<OwnedSemaphorePermit>,
}

impl JsonBody {
    /// What the client sent.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl Bodies {
    /// Reads none once `shutdown` begins: a slow body would hold up the stop.
    pub(super) fn new(shutdown: ShutdownSignal) -> Self {
        Self {
            room: Arc::new(Semaphore::new(HTTP_BODIES_BYTES)),
            shutdown,
        }
    }

    /// Reads a body of JSON that has at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// An [`ApiError`] for another content type or encoding, a body that is larger or slower than
    /// it may be, one that is not UTF-8, and while the gateway stops.
    pub(super) async fn json(
        &self,
        headers: &HeaderMap,
        body: Body,
        bytes_max: usize,
    ) -> Result<JsonBody, ApiError> {
        check_type(headers)?;
        let stated = headers
            .get(header::CONTENT_LENGTH)
            .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        // Refused before it is sent, if the client waits for that.
        if stated.is_some_and(|length| length > bytes_max as u64) {
            return Err(too_large(bytes_max));
        }
        let mut shutdown = self.shutdown.clone();
        let read = tokio::select! {
            biased;
            () = shutdown.recv() => {
                return Err(kinds::UNAVAILABLE.error("the gateway is stopping; nothing was stored"));
            }
            read = timeout(HTTP_BODY_TIMEOUT, self.read(body, bytes_max)) => read,
        };
        let (bytes, room) = read.map_err(|_| {
            kinds::TIMEOUT.error(format!(
                "the body was not sent within {HTTP_BODY_TIMEOUT:?}"
            ))
        })??;
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            kinds::JSON_PARSER.error(format!("the body is not UTF-8 at byte {at}"))
        })?;
        Ok(JsonBody { text, _room: room })
    }

    async fn read(
        &self,
        body: Body,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), ApiError> {
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::new();
        let mut room: Option<OwnedSemaphorePermit> = None;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| {
                kinds::INVALID_INPUT
                    .error("the body ended early")
                    .because(error)
            })?;
            if bytes.len() + chunk.len() > bytes_max {
                return Err(too_large(bytes_max));
            }
            let len = u32::try_from(chunk.len()).expect("a chunk is smaller than the largest body");
            let more = Arc::clone(&self.room).acquire_many_owned(len);
            // Bodies that hold each other up are not waited for until they are given up.
            let more = timeout(PUBLISH_ROOM_WAIT, more).await.map_err(|_| {
                kinds::UNAVAILABLE.error(
                    "the gateway has no room for the body for now; nothing was stored, try again",
                )
            })?;
            let more = more.expect("the semaphore is never closed");
            match &mut room {
                Some(room) => room.merge(more),
                None => room = Some(more),
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((bytes, room))
    }
}

/// Holds the body to be JSON in UTF-8, not compressed.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let mut parts = value(header::CONTENT_TYPE).unwrap_or_default().split(';');
    let essence = parts.next().unwrap_or_default().trim();
    let is_utf8 = parts.all(|parameter| {
        let parameter = parameter.trim().to_ascii_lowercase();
        let charset = parameter.strip_prefix("charset=");
        charset.is_none_or(|charset| ["utf-8", "utf8"].contains(&charset.trim_matches('"')))
    });
    if !essence.eq_ignore_ascii_case("application/json") || !is_utf8 {
        return Err(kinds::UNSUPPORTED_MEDIA_TYPE
            .error("the Content-Type of an event is application/json, in UTF-8"));
    }
    match value(header::CONTENT_ENCODING) {
        None | Some("identity") => Ok(()),
        Some(_) => {
            Err(kinds::UNSUPPORTED_MEDIA_TYPE
                .error("a request with a Content-Encoding is not read"))
        }
    }
}

fn too_large(bytes_max: usize) -> ApiError {
    kinds::TOO_LARGE.error(format!("the body has more than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::{HeaderName, StatusCode};
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;
    use crate::net::shutdown::Shutdown;

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
    fn only_json_in_utf8_is_read() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(
                check_type(&headers(&[(header::CONTENT_TYPE, good)])).is_ok(),
                "{good}"
            );
        }
        for bad in [
            "",
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json; charset=utf-16",
            "application/jsonp",
        ] {
            let refused = check_type(&headers(&[(header::CONTENT_TYPE, bad)])).unwrap_err();
            assert_eq!(
                refused.status(),
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "{bad}"
            );
        }
        let mut compressed = json_type();
        compressed.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert!(check_type(&compressed).is_err());
        assert!(check_type(&HeaderMap::new()).is_err());
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_and_gives_its_room_back() {
        let (_shutdown, signal) = Shutdown::new();
        let bodies = Bodies::new(signal);
        let body = bodies
            .json(&json_type(), chunks(&["{\"a\"", ":1}"]), 7)
            .await
            .unwrap();
        assert_eq!(body.text(), "{\"a\":1}");
        assert_eq!(bodies.room.available_permits(), HTTP_BODIES_BYTES - 7);
        drop(body);
        assert_eq!(bodies.room.available_permits(), HTTP_BODIES_BYTES);

        let refused = bodies
            .json(&json_type(), chunks(&["1234", "5678"]), 7)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(bodies.room.available_permits(), HTTP_BODIES_BYTES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_waits_for_room_and_not_for_long() {
        let (_shutdown, signal) = Shutdown::new();
        let bodies = Bodies::new(signal);
        let others = (HTTP_BODIES_BYTES - 6) as u32;
        let others = Arc::clone(&bodies.room).acquire_many_owned(others).await;
        let headers = json_type();
        let refused = bodies.json(&headers, chunks(&["1234", "5678"]), 8).await;
        assert_eq!(
            refused.unwrap_err().status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
        let reading = bodies.json(&headers, chunks(&["1234", "5678"]), 8);
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
            .json(&stated, body, 7)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_body_is_given_up_in_time_and_at_once_when_the_gateway_stops() {
        let (shutdown, signal) = Shutdown::new();
        let bodies = Bodies::new(signal);
        let pending = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
        let refused = bodies.json(&json_type(), pending(), 7).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::REQUEST_TIMEOUT);

        let headers = json_type();
        let reading = bodies.json(&headers, pending(), 7);
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
            .json(&json_type(), body, 100)
            .await
            .unwrap_err();
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(refused.to_string().contains("byte 7"), "{refused}");
    }
}
