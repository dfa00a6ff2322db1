//! Which gateway a command talks to, and as whom: from flags, the environment, or the profile that
//! a gateway on this machine left in its data directory.
//!
//! The profile's token is only ever sent to the gateway that the profile describes.

use std::path::{Path, PathBuf};

use super::{
    exit::Failure,
    sign_in::{Environment, Layers, Settings, SignInArgs, proxy_of, variable},
};
use crate::{
    client::{
        ClientCertificate, Connection, CredentialSource, Credentials, Endpoint, EndpointUrl, Grant,
        Profile, ProfileError, SignIn, connect::tenant_of_token, profile::PROFILE_FILE,
    },
    types::TenantId,
};

/// Where a data directory is when nothing says so.
const DATA_DIR_DEFAULT: &str = "./tidegate-data";

/// The options of every command that talks to a gateway.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct ConnectionArgs {
    /// Call the gateway at this URL, such as https://127.0.0.1:7443 [env: TIDEGATE_ENDPOINT]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Trust the certificate authority in this PEM file [env: TIDEGATE_CA]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Call with this access token; others on this machine can read it here, so prefer the
    /// environment [env: TIDEGATE_TOKEN]
    #[arg(long, value_name = "TOKEN")]
    token: Option<String>,
    /// Name this URL as the tenant's with each call [env: TIDEGATE_INSTANCE_URL]
    #[arg(long, value_name = "URL")]
    instance_url: Option<String>,
    /// Call as this tenant; a token usually begins with its tenant's id [env: TIDEGATE_TENANT]
    #[arg(long, value_name = "ID")]
    tenant: Option<String>,
    /// Find what was not given in the profile of the gateway with this data directory
    /// [default: ./tidegate-data] [env: TIDEGATE_SERVER__DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Send events and the token in the clear to another machine, if the URL is http://
    #[arg(long)]
    allow_plaintext: bool,
    #[command(flatten)]
    sign_in: Box<SignInArgs>,
}

impl std::fmt::Debug for ConnectionArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectionArgs")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl ConnectionArgs {
    /// Connects to the gateway that flags, environment and profile name.
    ///
    /// # Errors
    ///
    /// [`Failure::Usage`] names everything that is missing or wrong, and what to do.
    pub(super) async fn connect(&self) -> Result<Connection, Failure> {
        // A command that prints a token may be at work.
        super::unless_interrupted(async { Ok(self.endpoint()?.connect().await?) }).await
    }

    /// What to connect to.
    ///
    /// # Errors
    ///
    /// Those of [`Self::connect`] that need no connection.
    pub(super) fn endpoint(&self) -> Result<Endpoint, Failure> {
        self.resolve(&|name| std::env::var_os(name))
    }

    /// Whether a flag says what to connect to.
    pub(super) fn has_endpoint(&self) -> bool {
        self.endpoint.is_some()
    }

    /// What to connect to.
    fn resolve(&self, environment: Environment<'_>) -> Result<Endpoint, Failure> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let flags = Settings {
            endpoint: given(&self.endpoint),
            ca: self.ca.clone(),
            token: given(&self.token),
            instance_url: given(&self.instance_url),
            tenant: given(&self.tenant),
            ..Settings::of_flags(&self.sign_in)
        };
        let file = Settings::of_file(self.sign_in.profile.as_deref(), environment)?;
        let layers = Layers([flags, Settings::of_environment(environment)?, file]);
        let url = layers.first(|layer| &layer.endpoint);
        let url: Option<EndpointUrl> = url
            .map(|url| url.parse())
            .transpose()
            .map_err(|error: crate::client::EndpointUrlError| Failure::Usage(error.to_string()))?;
        let data_dir = data_dir_of(self.data_dir.clone(), environment);
        let endpoint = self.complete(&layers, url, &data_dir)?;
        let proxy = match proxy_of(layers.first(|layer| &layer.proxy), environment) {
            // Whatever is wrong with it, nothing would go through it.
            _ if endpoint.url.is_loopback() && layers.first(|layer| &layer.login_url).is_none() => {
                None
            }
            proxy => proxy?,
        };
        Ok(Endpoint { proxy, ..endpoint })
    }

    fn complete(
        &self,
        layers: &Layers,
        url: Option<EndpointUrl>,
        data_dir: &Path,
    ) -> Result<Endpoint, Failure> {
        let (url, profile) = match url {
            None => {
                let profile = read_profile(data_dir)?;
                let url = profile.endpoint().ok_or_else(|| {
                    Failure::Usage(ProfileError::NoListener(data_dir.to_owned()).to_string())
                })?;
                (url, Some(profile))
            }
            Some(url) => {
                // A profile that cannot be read is no help, and with an endpoint none is needed.
                let profile = Profile::read(data_dir).ok();
                let profile = profile.filter(|profile| profile.describes(&url));
                (url, profile)
            }
        };
        let client_certificate = match (
            layers.first(|layer| &layer.client_cert),
            layers.first(|layer| &layer.client_key),
        ) {
            (None, None) => None,
            (Some(cert_file), Some(key_file)) => Some(ClientCertificate {
                cert_file,
                key_file,
            }),
            _ => {
                return Err(Failure::Usage(
                    "a client certificate and its key go together: --client-cert and --client-key"
                        .into(),
                ));
            }
        };
        let ca_file = layers.first(|layer| &layer.ca);
        Ok(Endpoint {
            credentials: self.credentials(layers, profile.as_ref(), &url, data_dir)?,
            ca_file: ca_file.or_else(|| Some(profile.as_ref()?.ca_pem.clone())),
            client_certificate,
            proxy: None,
            allow_plaintext: self.allow_plaintext,
            url,
        })
    }

    fn credentials(
        &self,
        layers: &Layers,
        profile: Option<&Profile>,
        url: &EndpointUrl,
        data_dir: &Path,
    ) -> Result<CredentialSource, Failure> {
        let instance_url = layers.first(|layer| &layer.instance_url);
        let tenant = layers.first(|layer| &layer.tenant);
        let tenant_id: Option<TenantId> = tenant
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| Failure::Usage(format!("--tenant or TIDEGATE_TENANT: {error}")))?;
        let access_token = layers.first(|layer| &layer.token);
        let grant = match (layers.grant()?, &access_token, profile) {
            (Some(grant), _, _) => Some(grant),
            // Read again from there if it is not taken any more.
            (None, None, Some(_)) => Some(Grant::Profile(data_dir.to_owned())),
            (None, _, _) => None,
        };
        if let Some(grant) = grant {
            return Ok(CredentialSource::SignIn(SignIn {
                grant,
                instance_url,
                tenant_id,
            }));
        }
        let instance_url = instance_url.or_else(|| Some(profile?.instance_url.clone()));
        let tenant_id = tenant_id
            .or_else(|| access_token.as_deref().and_then(tenant_of_token))
            .or_else(|| Some(profile?.tenant_id));
        match (access_token, instance_url, tenant_id) {
            (Some(access_token), Some(instance_url), Some(tenant_id)) => Ok(Credentials {
                access_token,
                tenant_id,
                instance_url,
            }
            .into()),
            (access_token, instance_url, tenant_id) => {
                let missing = [
                    (
                        "an access token: --token or TIDEGATE_TOKEN, or a way to sign in",
                        access_token.is_none(),
                    ),
                    (
                        "the tenant's URL: --instance-url or TIDEGATE_INSTANCE_URL",
                        instance_url.is_none(),
                    ),
                    (
                        "the tenant: --tenant or TIDEGATE_TENANT",
                        tenant_id.is_none(),
                    ),
                ];
                let missing: Vec<&str> = missing
                    .into_iter()
                    .filter_map(|(what, is_missing)| is_missing.then_some(what))
                    .collect();
                Err(Failure::Usage(format!(
                    "calls to {url} need {} ({} is not its profile)",
                    missing.join("; "),
                    data_dir.join(PROFILE_FILE).display()
                )))
            }
        }
    }
}

/// The data directory that a flag names, or the environment, or nobody.
pub(super) fn data_dir(flag: Option<PathBuf>) -> PathBuf {
    data_dir_of(flag, &|name| std::env::var_os(name))
}

fn data_dir_of(flag: Option<PathBuf>, environment: Environment<'_>) -> PathBuf {
    let variable = || variable(environment, "TIDEGATE_SERVER__DATA_DIR").map(PathBuf::from);
    flag.or_else(variable)
        .unwrap_or_else(|| DATA_DIR_DEFAULT.into())
}

fn read_profile(data_dir: &Path) -> Result<Profile, Failure> {
    Profile::read(data_dir).map_err(|error| {
        let advice = match error {
            ProfileError::Missing(_) => {
                "start a gateway with `tidegate serve`, name its data directory with --data-dir, \
                 or give --endpoint and --token"
            }
            ProfileError::Unreadable { .. } => {
                "use the account that the gateway runs as, or give --endpoint and --token"
            }
            ProfileError::NoListener(_) => "start it with one",
            ProfileError::Malformed { .. } => {
                "give --endpoint and --token, or remove the file and start the gateway again, which \
                 makes it anew"
            }
        };
        Failure::Usage(format!("{error}; {advice}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn profile() -> Profile {
        Profile {
            grpc_tls_addr: Some("127.0.0.1:7443".parse().unwrap()),
            grpc_addr: Some("127.0.0.1:7011".parse().unwrap()),
            http_addr: None,
            https_addr: None,
            ca_pem: "ca-of-profile.pem".into(),
            tenant_id: "00D000000000001".parse().unwrap(),
            access_token: "00D000000000001!of-profile".into(),
            instance_url: "https://of-profile".into(),
        }
    }

    /// The credentials that are there, or in the profile.
    fn credentials(endpoint: &Endpoint) -> Credentials {
        match &endpoint.credentials {
            CredentialSource::Fixed(credentials) => credentials.clone(),
            CredentialSource::SignIn(SignIn {
                grant: Grant::Profile(directory),
                ..
            }) => Profile::read(directory).unwrap().credentials(),
            other => panic!("{other:?}"),
        }
    }

    fn data_dir() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        profile().write(directory.path()).unwrap();
        directory
    }

    fn resolve(
        args: ConnectionArgs,
        environment: &[(&str, &str)],
        data_dir: &Path,
    ) -> Result<Endpoint, Failure> {
        let args = ConnectionArgs {
            data_dir: Some(data_dir.to_owned()),
            ..args
        };
        args.resolve(&|name| {
            let found = environment.iter().find(|(known, _)| *known == name)?;
            Some(found.1.into())
        })
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_profile() {
        let directory = data_dir();
        let of_profile = resolve(ConnectionArgs::default(), &[], directory.path()).unwrap();
        assert_eq!(of_profile.url.to_string(), "https://127.0.0.1:7443");
        assert_eq!(of_profile.ca_file, Some("ca-of-profile.pem".into()));
        assert_eq!(credentials(&of_profile), profile().credentials());

        let environment = [
            ("TIDEGATE_ENDPOINT", "http://localhost:7011"),
            ("TIDEGATE_CA", "ca-of-environment.pem"),
            ("TIDEGATE_TOKEN", "00D000000000002!of-environment"),
            ("TIDEGATE_INSTANCE_URL", "https://of-environment"),
            ("TIDEGATE_TENANT", ""),
        ];
        let of_environment =
            resolve(ConnectionArgs::default(), &environment, directory.path()).unwrap();
        assert_eq!(of_environment.url.to_string(), "http://localhost:7011");
        assert_eq!(of_environment.ca_file, Some("ca-of-environment.pem".into()));
        let credentials = credentials(&of_environment);
        assert_eq!(credentials.access_token, "00D000000000002!of-environment");
        assert_eq!(credentials.instance_url, "https://of-environment");
        let tenant = credentials.tenant_id.as_short_str();
        assert_eq!(tenant, "00D000000000002", "of the token");

        let flags = ConnectionArgs {
            endpoint: Some("https://127.0.0.1:7443".into()),
            token: Some("of-flag".into()),
            tenant: Some("00D000000000003".into()),
            ..ConnectionArgs::default()
        };
        let of_flags = resolve(flags, &environment, directory.path()).unwrap();
        assert_eq!(of_flags.url.to_string(), "https://127.0.0.1:7443");
        let credentials = super::tests::credentials(&of_flags);
        assert_eq!(credentials.access_token, "of-flag");
        assert_eq!(credentials.tenant_id.as_short_str(), "00D000000000003");
        assert_eq!(credentials.instance_url, "https://of-environment");
    }

    #[test]
    fn the_data_directory_may_come_from_the_environment() {
        let directory = data_dir();
        let found = ConnectionArgs::default().resolve(&|name| {
            let path = directory.path().as_os_str().to_owned();
            (name == "TIDEGATE_SERVER__DATA_DIR").then_some(path)
        });
        assert_eq!(credentials(&found.unwrap()), profile().credentials());
    }

    #[test]
    fn the_profiles_token_goes_to_no_other_gateway() {
        let directory = data_dir();
        let args = ConnectionArgs {
            endpoint: Some("https://gateway.example.com:7443".into()),
            ..ConnectionArgs::default()
        };
        let failure = resolve(args, &[], directory.path()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let message = failure.to_string();
        for missing in ["--token", "--instance-url", "--tenant"] {
            assert!(message.contains(missing), "{message}");
        }
        assert!(!message.contains("of-profile"), "{message}");
    }

    #[test]
    fn without_profile_and_endpoint_it_says_how_to_get_one() {
        let directory = tempfile::tempdir().unwrap();
        let failure = resolve(ConnectionArgs::default(), &[], directory.path()).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
        let message = failure.to_string();
        assert!(message.contains("tidegate serve"), "{message}");
        assert!(message.contains("profile.json"), "{message}");
    }

    #[test]
    fn what_is_malformed_is_refused_by_name() {
        let directory = data_dir();
        let with = |environment: &[(&str, &str)]| {
            let failure = resolve(ConnectionArgs::default(), environment, directory.path());
            let failure = failure.unwrap_err();
            assert_eq!(failure.exit(), Exit::Usage);
            failure.to_string()
        };
        assert!(with(&[("TIDEGATE_ENDPOINT", "127.0.0.1:7443")]).contains("https://"));
        assert!(with(&[("TIDEGATE_TENANT", "00D")]).contains("TIDEGATE_TENANT"));
    }

    #[test]
    fn a_token_is_never_shown() {
        let args = ConnectionArgs {
            token: Some("secret".into()),
            ..ConnectionArgs::default()
        };
        assert!(!format!("{args:?}").contains("secret"));
    }
}
