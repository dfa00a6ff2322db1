//! What a client makes of a [`Profile`]: where to call, as whom, and which URLs may see the token.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use super::{
    connect::{Credentials, Endpoint, EndpointUrl},
    sign_in::{CredentialSource, Grant, SignIn},
};

pub use crate::net::profile::{PROFILE_FILE, Profile, ProfileError};

impl Profile {
    /// The URL to call: that of the listener with TLS if there is one.
    pub fn endpoint(&self) -> Option<EndpointUrl> {
        let (scheme, addr) = match (self.grpc_tls_addr, self.grpc_addr) {
            (Some(addr), _) => ("https", addr),
            (None, Some(addr)) => ("http", addr),
            (None, None) => return None,
        };
        let url = format!("{scheme}://{}", reachable(addr));
        Some(url.parse().expect("an address makes a URL"))
    }

    /// Whether `url` is a gRPC listener of this gateway, so that it may see the token.
    pub fn describes(&self, url: &EndpointUrl) -> bool {
        let listener = if url.is_plaintext() {
            self.grpc_addr
        } else {
            self.grpc_tls_addr
        };
        let Some(addr) = listener.map(reachable) else {
            return false;
        };
        let is_same_host = match url.host().parse::<IpAddr>() {
            Ok(host) => host == addr.ip() || (host.is_loopback() && addr.ip().is_loopback()),
            Err(_) => url.is_loopback() && addr.ip().is_loopback(),
        };
        is_same_host && url.port() == addr.port()
    }

    /// Whom the profile lets call.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            access_token: self.access_token.clone(),
            tenant_id: self.tenant_id,
            instance_url: self.instance_url.clone(),
        }
    }
}

impl Endpoint {
    /// The gateway on this machine with this data directory, called as its profile lets call. The token
    /// is read again from there if it is not taken any more.
    ///
    /// # Errors
    ///
    /// [`ProfileError`]; [`ProfileError::NoListener`] if it listens for no gRPC.
    pub fn of_profile(data_dir: &Path) -> Result<Self, ProfileError> {
        let profile = Profile::read(data_dir)?;
        let url = profile.endpoint();
        let url = url.ok_or_else(|| ProfileError::NoListener(data_dir.to_owned()))?;
        let sign_in = SignIn {
            grant: Grant::Profile(data_dir.to_owned()),
            instance_url: None,
            tenant_id: None,
        };
        Ok(Self {
            ca_file: Some(profile.ca_pem),
            ..Self::new(url, CredentialSource::SignIn(sign_in))
        })
    }
}

/// The address to connect to: one that listens on every interface is reached over loopback.
fn reachable(addr: SocketAddr) -> SocketAddr {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Profile {
        Profile {
            grpc_tls_addr: Some("127.0.0.1:7443".parse().unwrap()),
            grpc_addr: Some("127.0.0.1:7011".parse().unwrap()),
            http_addr: None,
            https_addr: Some("127.0.0.1:7081".parse().unwrap()),
            ca_pem: "tidegate-data/ca.pem".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            access_token: "00D000000000001!secret".into(),
            instance_url: "https://localhost:7081".into(),
        }
    }

    #[test]
    fn the_token_is_for_this_gateway_only() {
        let profile = sample();
        let describes = |url: &str| profile.describes(&url.parse().unwrap());
        assert!(describes("https://127.0.0.1:7443"));
        assert!(describes("https://localhost:7443"));
        assert!(describes("http://[::1]:7011"));
        assert!(!describes("http://127.0.0.1:7443"), "another listener");
        assert!(!describes("https://127.0.0.1:443"), "another port");
        assert!(!describes("https://gateway.example.com:7443"));
        assert!(!describes("https://10.0.0.1:7443"));
    }

    #[test]
    fn a_listener_on_every_interface_is_reached_over_loopback() {
        let mut profile = sample();
        profile.grpc_tls_addr = Some("0.0.0.0:7443".parse().unwrap());
        let url = profile.endpoint().unwrap();
        assert_eq!(url.to_string(), "https://127.0.0.1:7443");
        assert!(profile.describes(&url));
        profile.grpc_tls_addr = None;
        assert_eq!(
            profile.endpoint().unwrap().to_string(),
            "http://127.0.0.1:7011"
        );
        profile.grpc_addr = None;
        assert_eq!(profile.endpoint(), None);
    }
}
