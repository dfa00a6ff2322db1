//! The URL that a client reached this gateway by, as it is told back to the client.

use axum::{
    extract::Request,
    http::{HeaderMap, Uri, header::HOST, uri::Authority},
};

use crate::http::Peer;

/// Characters of a host with its port: a DNS name has at most 253.
const HOST_CHARS_MAX: usize = 260;

/// Scheme and host of a request: `https://localhost:7081`.
///
/// The scheme is that of the listener. The host is what the client says; it goes into answers to this
/// client and nowhere else, so only its form matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    is_tls: bool,
    host: String,
}

impl Origin {
    /// The origin of a request; `None` if it does not name its host, or not as a host.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let peer = request.extensions().get::<Peer>();
        Some(Self {
            is_tls: peer.is_some_and(|peer| peer.is_tls),
            host: host(request.uri(), request.headers())?,
        })
    }

    /// The URL, without a slash at its end.
    pub(super) fn url(&self) -> String {
        self.with_scheme(self.is_tls)
    }

    /// Both URLs that an assertion may name: TLS may end before this gateway.
    pub(super) fn audiences(&self) -> [String; 2] {
        [self.with_scheme(true), self.with_scheme(false)]
    }

    fn with_scheme(&self, is_tls: bool) -> String {
        let scheme = if is_tls { "https" } else { "http" };
        format!("{scheme}://{}", self.host)
    }
}

fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let text = match uri.authority() {
        Some(authority) => authority.as_str(),
        None => {
            let mut hosts = headers.get_all(HOST).iter();
            let host = hosts.next()?.to_str().ok()?;
            if hosts.next().is_some() {
                return None;
            }
            host
        }
    };
    let authority: Authority = text.parse().ok()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    // The parser passes over a port that is none.
    let port = text.strip_prefix(authority.host())?;
    let is_port = |port: &str| !port.starts_with('+') && port.parse::<u16>().is_ok();
    let is_host = text.len() <= HOST_CHARS_MAX
        && text.chars().all(is_plain)
        && !authority.host().is_empty()
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    is_host.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(host: &str, is_tls: bool) -> Option<String> {
        let request = Request::builder()
            .uri("/services/oauth2/token")
            .header(HOST, host)
            .extension(Peer {
                address: None,
                is_tls,
            });
        let request = request.body(axum::body::Body::empty()).unwrap();
        Origin::of(&request).map(|origin| origin.url())
    }

    #[test]
    fn a_host_is_told_back_with_the_scheme_of_the_listener() {
        for host in [
            "localhost",
            "localhost:7081",
            "127.0.0.1:80",
            "[::1]:7081",
            "a-b.example",
        ] {
            assert_eq!(origin(host, true), Some(format!("https://{host}")));
            assert_eq!(origin(host, false), Some(format!("http://{host}")));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(300);
        for host in [
            "",
            ":80",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "user@localhost",
            "user:secret@localhost",
            "local host",
            "localhost/path",
            "<b>",
            "a&b",
            "a\"b",
            "?x",
            &long,
        ] {
            assert_eq!(origin(host, true), None, "{host:?}");
        }
    }

    #[test]
    fn one_host_is_named_and_no_second() {
        let request = |hosts: &[&str]| {
            let mut request = Request::builder().uri("/");
            for host in hosts {
                request = request.header(HOST, *host);
            }
            let request = request.body(axum::body::Body::empty()).unwrap();
            Origin::of(&request)
        };
        assert_eq!(request(&[]), None);
        assert_eq!(request(&["a", "b"]), None);
        assert!(request(&["a"]).is_some());
    }
}
