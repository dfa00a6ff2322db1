//! The profile: what a gateway leaves in its data directory so that clients on the same machine
//! find it and may call it.
//!
//! It holds an access token in the clear, so it is readable by its owner only, and it is replaced
//! as a whole, so that no reader sees half of it.

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::whole_file;
use crate::types::{TenantId, limits::PROFILE_BYTES_MAX};

/// Name of the profile within the data directory.
pub const PROFILE_FILE: &str = "profile.json";

/// How to reach a gateway on this machine, and as whom.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The gRPC listener with TLS.
    pub grpc_tls_addr: Option<SocketAddr>,
    /// The gRPC listener without TLS.
    pub grpc_addr: Option<SocketAddr>,
    /// The HTTP listener.
    pub http_addr: Option<SocketAddr>,
    /// The HTTPS listener.
    pub https_addr: Option<SocketAddr>,
    /// The file that holds the authority which issued the certificate.
    pub ca_pem: PathBuf,
    /// The tenant of the token.
    #[serde(with = "tenant_text")]
    pub tenant_id: TenantId,
    /// An access token with every right.
    pub access_token: String,
    /// The tenant's URL.
    pub instance_url: String,
}

impl fmt::Debug for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Profile")
            .field("grpc_tls_addr", &self.grpc_tls_addr)
            .field("grpc_addr", &self.grpc_addr)
            .field("http_addr", &self.http_addr)
            .field("https_addr", &self.https_addr)
            .field("ca_pem", &self.ca_pem)
            .field("tenant_id", &self.tenant_id)
            .field("access_token", &"***")
            .field("instance_url", &self.instance_url)
            .finish()
    }
}

impl Profile {
    /// Reads the profile of the gateway with this data directory.
    ///
    /// # Errors
    ///
    /// [`ProfileError`]; [`ProfileError::Missing`] if no gateway was ever started there.
    pub fn read(data_dir: &Path) -> Result<Self, ProfileError> {
        let path = data_dir.join(PROFILE_FILE);
        let bytes = match whole_file::read(&path, PROFILE_BYTES_MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ProfileError::Missing(path));
            }
            Err(error) => {
                return Err(ProfileError::Unreadable {
                    path,
                    reason: error.to_string(),
                });
            }
            Ok(bytes) => bytes,
        };
        // The parser's own words may quote the file, which holds a token.
        serde_json::from_slice(&bytes).map_err(|error| ProfileError::Malformed {
            path,
            line: error.line(),
        })
    }

    /// Writes the profile into a data directory, in the place of an earlier one.
    ///
    /// # Errors
    ///
    /// The file system's; an earlier profile is still there.
    pub fn write(&self, data_dir: &Path) -> io::Result<()> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        whole_file::write(&data_dir.join(PROFILE_FILE), &json, whole_file::SECRET)
    }
}

/// Why there is no profile to go by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProfileError {
    /// No gateway was ever started with this data directory.
    #[error("there is no profile at {}", .0.display())]
    Missing(PathBuf),
    /// The gateway of this data directory listens for no gRPC.
    #[error("the gateway of {} has no gRPC listener; start it with one", .0.display())]
    NoListener(PathBuf),
    /// The file system refused.
    #[error("the profile {} cannot be read: {reason}", path.display())]
    Unreadable {
        /// The profile.
        path: PathBuf,
        /// What the file system says.
        reason: String,
    },
    /// The file is something else.
    #[error("line {line} of {} is not what a gateway writes", path.display())]
    Malformed {
        /// The profile.
        path: PathBuf,
        /// Line of the file, from 1.
        line: usize,
    },
}

/// A tenant id as its 18 characters.
mod tenant_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::types::TenantId;

    pub(super) fn serialize<S: Serializer>(id: &TenantId, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(id.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<TenantId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

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
    fn a_profile_is_read_back_and_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PROFILE_FILE);
        fs::write(&path, "an earlier one that anybody may read").unwrap();
        sample().write(directory.path()).unwrap();
        assert_eq!(Profile::read(directory.path()), Ok(sample()));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let names = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(names, 1, "nothing else is left behind");
    }

    #[test]
    fn what_is_not_a_profile_is_named_without_quoting_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(PROFILE_FILE);
        assert_eq!(
            Profile::read(directory.path()),
            Err(ProfileError::Missing(path.clone()))
        );
        fs::write(&path, "{\n\"access_token\": secret}").unwrap();
        let error = Profile::read(directory.path()).unwrap_err();
        assert!(matches!(error, ProfileError::Malformed { line: 2, .. }));
        assert!(!format!("{error} {error:?}").contains("secret"));
        fs::write(&path, vec![b' '; 100_000]).unwrap();
        assert!(matches!(
            Profile::read(directory.path()),
            Err(ProfileError::Unreadable { .. })
        ));
    }

    #[test]
    fn the_token_is_never_shown() {
        assert!(!format!("{:?}", sample()).contains("secret"));
    }
}
