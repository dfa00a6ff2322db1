//! The way to the gateway: its host's addresses, a connection, and what TLS makes of it.

use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::io::AsyncWrite;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::{Check, Problem, Report};
use crate::{
    cli::{
        exit::{Exit, Failure},
        output,
    },
    client::{ConnectError, Endpoint},
    clock::{Clock, SystemClock, Timestamp},
};

/// A certificate that is good for less is warned of.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 86_400);
/// Names of a certificate that are shown.
const NAMES_SHOWN_MAX: usize = 5;

pub(super) async fn look<W: AsyncWrite + Unpin>(
    report: &mut Report<'_, W>,
    endpoint: &Endpoint,
) -> Result<(), Failure> {
    let host = endpoint.url.host();
    if let Some(proxy) = endpoint.proxy_to_gateway() {
        let found = format!("the proxy {proxy} looks {host} up");
        report.skipped(Check::Dns, found).await?;
    } else if host.parse::<std::net::IpAddr>().is_ok() {
        let found = format!("{host} is an address");
        report.skipped(Check::Dns, found).await?;
    } else {
        let looked_up = endpoint.look_up().await;
        let found = match looked_up {
            Ok(found) if found.is_empty() => Err("it has no address".to_owned()),
            Ok(found) => Ok(found),
            Err(error) => Err(error.to_string()),
        };
        let found = found.map_err(|reason| {
            let fix = "check --endpoint for a typing error, and this machine's name server; behind a \
                       proxy, name it with --proxy";
            Problem::new(Exit::Unreachable, format!("{host} is not found: {reason}"), fix)
        });
        let found = report.passed(Check::Dns, found).await?;
        let addresses: Vec<String> = found.iter().map(|addr| addr.ip().to_string()).collect();
        report
            .ok(Check::Dns, format!("{host} is {}", addresses.join(", ")))
            .await?;
    }

    let began_at = Instant::now();
    let reached = endpoint.reach().await.map_err(unreachable);
    let stream = report.passed(Check::Connection, reached).await?;
    let taken = began_at.elapsed();
    let by = match endpoint.proxy_to_gateway() {
        Some(proxy) => format!("through the proxy {proxy} "),
        None => String::new(),
    };
    let found = format!("connected to {} {by}within {taken:.1?}", endpoint.url);
    report.ok(Check::Connection, found).await?;

    if endpoint.url.is_plaintext() {
        let found = "http:// has none: events and the token are in the clear";
        return match endpoint.url.is_loopback() {
            true => report.skipped(Check::Tls, found).await,
            false => {
                let fix = "use https://";
                report.warning(Check::Tls, found.into(), fix).await
            }
        };
    }
    let handshake = endpoint.shake_hands(stream).await;
    let shown = handshake.shown.first().and_then(Shown::of);
    let session = handshake
        .session
        .map_err(|error| untrusted(&error, shown.as_ref()));
    let session = report.passed(Check::Tls, session).await?;
    let spoken = session.is_http2.then_some(()).ok_or_else(|| {
        let found = format!("{} speaks {} and no HTTP/2", endpoint.url, session.version);
        Problem::new(Exit::Unreachable, found, HTTP2_FIX)
    });
    report.passed(Check::Tls, spoken).await?;
    let Some(shown) = shown else {
        return report.ok(Check::Tls, session.version).await;
    };
    let found = match handshake.shown.len() - 1 {
        0 => format!("{}; {shown}", session.version),
        more => format!("{}; {shown}; {more} more in its chain", session.version),
    };
    match shown.remaining(SystemClock.now()) < EXPIRES_SOON {
        true => {
            report
                .warning(Check::Tls, found, "renew it before then")
                .await
        }
        false => report.ok(Check::Tls, found).await,
    }
}

/// Whether an error says that a certificate is to be shown.
pub(super) fn wants_certificate(said: &str) -> bool {
    let said = said.to_lowercase();
    said.contains("certificaterequired") || said.contains("certificate required")
}

pub(super) const CERTIFICATE_FIX: &str = "show a certificate with --client-cert and --client-key";

pub(super) const HTTP2_FIX: &str = "check the port: this may be a gateway's HTTP port or a website; the hosted \
                         service is at https://api.pubsub.salesforce.com:7443";

fn unreachable(error: ConnectError) -> Problem {
    let fix = match &error {
        ConnectError::Refused(_) => "start the gateway, or check the port in --endpoint",
        ConnectError::Timeout { .. } => {
            "a firewall may drop what goes there: ask for the port to be opened, or name a proxy with \
             --proxy"
        }
        ConnectError::Proxy { .. } => {
            "check --proxy, HTTPS_PROXY and whoever it wants to know: http://user:password@host:port"
        }
        _ => "check --endpoint and this machine's network",
    };
    Problem::new(Exit::Unreachable, error, fix)
}

fn untrusted(error: &ConnectError, shown: Option<&Shown>) -> Problem {
    let text = error.to_string();
    // Not the URL, whose host may have any word in it.
    let said = match error {
        ConnectError::Untrusted { reason, .. } | ConnectError::Failed { reason, .. } => {
            reason.to_lowercase()
        }
        _ => String::new(),
    };
    let fix = match error {
        ConnectError::NotTls(_) => "use http:// for a listener in the clear, or check the port",
        ConnectError::Untrusted { .. } if said.contains("not valid for name") => {
            "call the gateway by a name that its certificate is for, in --endpoint"
        }
        ConnectError::Untrusted { .. } if said.contains("expired") => {
            "have the certificate renewed; or set this machine's clock, if that is wrong"
        }
        ConnectError::Untrusted { .. } if said.contains("not valid yet") => {
            "set this machine's clock: the certificate is not good yet by it"
        }
        ConnectError::Untrusted { .. } => {
            "name the file of the authority that issued it with --ca; for a gateway's development \
             certificate that is ca.pem in its data directory"
        }
        ConnectError::CaFile { .. } => "name a file with a certificate in PEM form with --ca",
        ConnectError::File { .. } => "check --client-cert and --client-key",
        _ if wants_certificate(&said) => CERTIFICATE_FIX,
        _ if said.contains("application") => HTTP2_FIX,
        _ => "check the port in --endpoint, and whether something on the way breaks TLS open",
    };
    let found = match shown {
        Some(shown) => format!("{text}; {shown}"),
        None => text,
    };
    let exit = match error.is_usage() {
        true => Exit::Usage,
        false => Exit::Unreachable,
    };
    Problem::new(exit, found, fix)
}

/// A certificate as it is shown to people.
struct Shown {
    names: Vec<String>,
    issuer: String,
    /// Since the epoch.
    until: Duration,
}

impl Shown {
    fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let certificate = certificate.tbs_certificate();
        let names = certificate.get_extension::<SubjectAltName>().ok()?;
        let mut names: Vec<String> = names.map_or_else(Vec::new, |(_, names)| {
            names.0.iter().filter_map(name_of).collect()
        });
        if names.is_empty() {
            names.push(certificate.subject().to_string());
        }
        Some(Self {
            names,
            issuer: certificate.issuer().to_string(),
            until: certificate.validity().not_after.to_unix_duration(),
        })
    }

    fn remaining(&self, now: Timestamp) -> Duration {
        let now = Duration::from_millis(now.as_millis().max(0).unsigned_abs());
        self.until.saturating_sub(now)
    }
}

fn name_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes().len() {
            4 => <[u8; 4]>::try_from(bytes.as_bytes())
                .ok()
                .map(|bytes| std::net::Ipv4Addr::from(bytes).to_string()),
            _ => <[u8; 16]>::try_from(bytes.as_bytes())
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = &self.names[..self.names.len().min(NAMES_SHOWN_MAX)];
        let more = match self.names.len() - names.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let until = i64::try_from(self.until.as_millis()).unwrap_or(i64::MAX);
        write!(
            f,
            "its certificate is for {}{more}, by {}, good until {}",
            names.join(", "),
            self.issuer,
            output::time(until)
        )
    }
}
