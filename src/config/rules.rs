//! What settings must be together: rules that no single value can break.

use std::net::SocketAddr;

use super::{
    load::Effective,
    problem::{Layer, Problem},
};

/// What contradicts what. A rule that looks at a key in `broken` is passed over: its value is not
/// the one that was meant.
pub(super) fn broken_by(effective: &Effective, broken: &[String]) -> Vec<Problem> {
    let sound = |key: &str| !broken.iter().any(|broken| broken == key);
    let mut problems = Vec::new();
    if sound("tls.cert_file") && sound("tls.key_file") {
        problems.extend(half_a_certificate(effective));
        if sound("server.insecure_listen") {
            problems.extend(exposed_listeners(effective));
        }
    }
    problems.extend(shared_address(effective));
    problems.extend(no_listener(effective));
    problems.retain(|problem| problem.key.as_deref().is_none_or(sound));
    problems
}

/// A listener's key, its address if it is on, and whether it speaks TLS.
struct Listener {
    name: &'static str,
    addr: SocketAddr,
    tls: bool,
}

fn listeners(effective: &Effective) -> impl Iterator<Item = Listener> {
    let server = &effective.settings.gateway;
    [
        ("grpc_tls_addr", server.grpc_tls_addr, true),
        ("grpc_addr", server.grpc_addr, false),
        ("http_addr", server.http_addr, false),
        ("https_addr", server.https_addr, true),
    ]
    .into_iter()
    .filter_map(|(name, addr, tls)| {
        Some(Listener {
            name,
            addr: addr?,
            tls,
        })
    })
}

fn half_a_certificate(effective: &Effective) -> Option<Problem> {
    let tls = &effective.settings.gateway.tls;
    let (given, missing) = match (&tls.cert_file, &tls.key_file) {
        (Some(_), None) => ("cert_file", "key_file"),
        (None, Some(_)) => ("key_file", "cert_file"),
        _ => return None,
    };
    Some(Problem {
        layer: effective.layer("tls", given).clone(),
        key: Some(format!("tls.{given}")),
        found: format!("it without tls.{missing}"),
        wanted: "both or neither".to_owned(),
    })
}

fn exposed_listeners(effective: &Effective) -> Vec<Problem> {
    let settings = &effective.settings;
    if settings.insecure_listen {
        return Vec::new();
    }
    let has_certificate = settings.gateway.tls.cert_file.is_some();
    listeners(effective)
        .filter(|listener| !listener.addr.ip().to_canonical().is_loopback())
        .filter(|listener| !listener.tls || !has_certificate)
        .map(|listener| {
            let addr = listener.addr;
            let (what, instead) = if listener.tls {
                (
                    "with a development certificate",
                    "tls.cert_file and tls.key_file set",
                )
            } else {
                ("in plaintext", "the TLS listener used instead")
            };
            Problem {
                layer: effective.layer("server", listener.name).clone(),
                key: Some(format!("server.{}", listener.name)),
                found: format!("\"{addr}\", which is beyond this machine, {what}"),
                wanted: format!(
                    "a loopback address, {instead}, or server.insecure_listen = true to risk it"
                ),
            }
        })
        .collect()
}

fn shared_address(effective: &Effective) -> Option<Problem> {
    let listeners: Vec<_> = listeners(effective)
        .filter(|listener| listener.addr.port() != 0)
        .collect();
    listeners.iter().enumerate().find_map(|(index, listener)| {
        let earlier = listeners[..index]
            .iter()
            .find(|earlier| earlier.addr == listener.addr)?;
        // Blame the one that was moved, not the one that was always there.
        let blamed = match effective.layer("server", listener.name) {
            Layer::Default => earlier,
            _ => listener,
        };
        let other = if blamed.name == listener.name {
            earlier
        } else {
            listener
        };
        Some(Problem {
            layer: effective.layer("server", blamed.name).clone(),
            key: Some(format!("server.{}", blamed.name)),
            found: format!(
                "\"{}\", which is that of server.{}",
                blamed.addr, other.name
            ),
            wanted: "an address of its own".to_owned(),
        })
    })
}

fn no_listener(effective: &Effective) -> Option<Problem> {
    if listeners(effective).next().is_some() {
        return None;
    }
    Some(Problem {
        layer: effective.layer("server", "grpc_tls_addr").clone(),
        key: Some("server.grpc_tls_addr".to_owned()),
        found: "every listener switched off".to_owned(),
        wanted: "an address for at least one".to_owned(),
    })
}
