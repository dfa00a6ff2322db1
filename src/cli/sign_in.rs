//! How a command signs in: from flags, the environment, or a file of connection settings.
//!
//! Each of the three may name one way to sign in; the first that names one decides. What that way needs
//! besides, such as a login host, may come from any of them.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::exit::Failure;
use crate::{
    client::{ClientSecret, Grant, Secret},
    types::limits::PROFILE_BYTES_MAX,
};

/// The options of signing in, and of the way there.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Signing in")]
pub(super) struct SignInArgs {
    /// Take settings from this file, or from ~/.config/tidegate/profiles/NAME.toml: any of these
    /// options by its long name, with _ for - [env: TIDEGATE_PROFILE]
    #[arg(long, value_name = "NAME|FILE")]
    pub(super) profile: Option<String>,
    /// Sign in at this host [env: TIDEGATE_LOGIN_URL]
    #[arg(long, value_name = "URL")]
    login_url: Option<String>,
    /// Sign in as this client application [env: TIDEGATE_CLIENT_ID]
    // Commands about users and clients have arguments of these names.
    #[arg(id = "sign_in_client_id", long = "client-id", value_name = "ID")]
    client_id: Option<String>,
    /// Its secret is in this file [env: TIDEGATE_CLIENT_SECRET has the secret itself]
    #[arg(long, value_name = "FILE")]
    client_secret_file: Option<PathBuf>,
    /// Sign in as this user [env: TIDEGATE_USERNAME]
    #[arg(id = "sign_in_username", long = "username", value_name = "NAME")]
    username: Option<String>,
    /// The user's password is in this file [env: TIDEGATE_PASSWORD has the password itself]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Sign in by an assertion that this RSA key signs [env: TIDEGATE_JWT_KEY]
    #[arg(long, value_name = "FILE")]
    jwt_key: Option<PathBuf>,
    /// Sign in by the refresh token in this file [env: TIDEGATE_REFRESH_TOKEN has the token itself]
    #[arg(long, value_name = "FILE")]
    refresh_token_file: Option<PathBuf>,
    /// Take the access token that this command prints [env: TIDEGATE_TOKEN_COMMAND]
    #[arg(long, value_name = "CMD")]
    token_command: Option<String>,
    /// Connect through this HTTP proxy [env: HTTPS_PROXY, unless NO_PROXY names the host]
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Show this certificate when connecting [env: TIDEGATE_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// Its private key [env: TIDEGATE_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
}

/// Settings of one layer, all optional. The fields are the keys of a settings file.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) endpoint: Option<String>,
    pub(super) ca: Option<PathBuf>,
    pub(super) token: Option<String>,
    pub(super) instance_url: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) login_url: Option<String>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<String>,
    pub(super) client_secret_file: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    pub(super) password_file: Option<PathBuf>,
    pub(super) jwt_key: Option<PathBuf>,
    pub(super) refresh_token: Option<String>,
    pub(super) refresh_token_file: Option<PathBuf>,
    pub(super) token_command: Option<String>,
    pub(super) proxy: Option<String>,
    pub(super) client_cert: Option<PathBuf>,
    pub(super) client_key: Option<PathBuf>,
}

/// What a layer may sign in by, and what says so.
const KINDS: [(Kind, &str); 5] = [
    (Kind::Token, "a token"),
    (Kind::Command, "a token command"),
    (Kind::Jwt, "a JWT key"),
    (Kind::Refresh, "a refresh token"),
    (Kind::Password, "a password"),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Token,
    Command,
    Jwt,
    Refresh,
    Password,
    ClientCredentials,
}

/// Looks up a variable of the environment.
type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Settings {
    /// What flags say of signing in.
    pub(super) fn of_flags(args: &SignInArgs) -> Self {
        let args = args.clone();
        Self {
            login_url: args.login_url,
            client_id: args.client_id,
            client_secret_file: args.client_secret_file,
            username: args.username,
            password_file: args.password_file,
            jwt_key: args.jwt_key,
            refresh_token_file: args.refresh_token_file,
            token_command: args.token_command,
            proxy: args.proxy,
            client_cert: args.client_cert,
            client_key: args.client_key,
            ..Self::default()
        }
    }

    /// What the environment says.
    pub(super) fn of_environment(environment: Environment<'_>) -> Result<Self, Failure> {
        let path = |name: &str| {
            let value = environment(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let text = |name: &str| {
            path(name)
                .map(|value| value.into_os_string().into_string())
                .transpose()
                .map_err(|_| {
                    Failure::Usage(format!("the environment variable {name} is not UTF-8"))
                })
        };
        Ok(Self {
            endpoint: text("TIDEGATE_ENDPOINT")?,
            ca: path("TIDEGATE_CA"),
            token: text("TIDEGATE_TOKEN")?,
            instance_url: text("TIDEGATE_INSTANCE_URL")?,
            tenant: text("TIDEGATE_TENANT")?,
            login_url: text("TIDEGATE_LOGIN_URL")?,
            client_id: text("TIDEGATE_CLIENT_ID")?,
            client_secret: text("TIDEGATE_CLIENT_SECRET")?,
            client_secret_file: path("TIDEGATE_CLIENT_SECRET_FILE"),
            username: text("TIDEGATE_USERNAME")?,
            password: text("TIDEGATE_PASSWORD")?,
            password_file: path("TIDEGATE_PASSWORD_FILE"),
            jwt_key: path("TIDEGATE_JWT_KEY"),
            refresh_token: text("TIDEGATE_REFRESH_TOKEN")?,
            refresh_token_file: path("TIDEGATE_REFRESH_TOKEN_FILE"),
            token_command: text("TIDEGATE_TOKEN_COMMAND")?,
            proxy: None,
            client_cert: path("TIDEGATE_CLIENT_CERT"),
            client_key: path("TIDEGATE_CLIENT_KEY"),
        })
    }

    /// Reads the settings file that was named, if one was.
    pub(super) fn of_file(
        flag: Option<&str>,
        environment: Environment<'_>,
    ) -> Result<Self, Failure> {
        let variable = environment("TIDEGATE_PROFILE").and_then(|name| name.into_string().ok());
        let Some(name) = flag.map(str::to_owned).or(variable) else {
            return Ok(Self::default());
        };
        let path = match name.contains(['/', '.']) {
            true => PathBuf::from(&name),
            false => config_dir(environment)?.join(format!("tidegate/profiles/{name}.toml")),
        };
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let refused = |reason: String| {
            Failure::Usage(format!("the settings file {}: {reason}", path.display()))
        };
        let metadata = fs::metadata(path).map_err(|error| refused(error.to_string()))?;
        if metadata.len() > PROFILE_BYTES_MAX {
            return Err(refused(format!(
                "such a file has at most {PROFILE_BYTES_MAX} bytes, this one has {}",
                metadata.len()
            )));
        }
        let text = fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
        // The parser's own words may quote the file, which may hold secrets: only its message.
        let settings: Self =
            toml::from_str(&text).map_err(|error| refused(error.message().to_owned()))?;
        let has_secrets = [
            &settings.token,
            &settings.client_secret,
            &settings.password,
            &settings.refresh_token,
        ];
        #[cfg(unix)]
        if has_secrets.into_iter().any(Option::is_some) {
            use std::os::unix::fs::PermissionsExt;
            if metadata.permissions().mode() & 0o077 != 0 {
                let path = path.display();
                super::output::warn(&format!(
                    "others on this machine can read the secrets in {path}; `chmod 600` keeps them out"
                ));
            }
        }
        Ok(settings)
    }

    fn kinds(&self) -> Vec<Kind> {
        let is_named = |kind: Kind| match kind {
            Kind::Token => self.token.is_some(),
            Kind::Command => self.token_command.is_some(),
            Kind::Jwt => self.jwt_key.is_some(),
            Kind::Refresh => self.refresh_token.is_some() || self.refresh_token_file.is_some(),
            Kind::Password => self.password.is_some() || self.password_file.is_some(),
            Kind::ClientCredentials => {
                self.client_secret.is_some() || self.client_secret_file.is_some()
            }
        };
        let kinds = KINDS.iter().map(|&(kind, _)| kind);
        let named: Vec<Kind> = kinds.filter(|&kind| is_named(kind)).collect();
        // A client's secret goes with a password or a refresh token too.
        match named.is_empty() && is_named(Kind::ClientCredentials) {
            true => vec![Kind::ClientCredentials],
            false => named,
        }
    }
}

/// The layers of settings, the first of which wins.
pub(super) struct Layers(pub(super) [Settings; 3]);

impl Layers {
    /// The first that is set.
    pub(super) fn first<T: Clone>(&self, field: impl Fn(&Settings) -> &Option<T>) -> Option<T> {
        self.0.iter().find_map(|layer| field(layer).clone())
    }

    /// A secret: as it is, or the file that it is in, whichever comes first.
    fn secret(
        &self,
        text: impl Fn(&Settings) -> &Option<String>,
        file: impl Fn(&Settings) -> &Option<PathBuf>,
    ) -> Option<Secret> {
        self.0.iter().find_map(|layer| {
            let text = text(layer).clone().map(Secret::Text);
            text.or_else(|| file(layer).clone().map(Secret::File))
        })
    }

    /// How to sign in; `None` if nothing says so, or a token is there.
    pub(super) fn grant(&self) -> Result<Option<Grant>, Failure> {
        let kinds = self.0.iter().map(Settings::kinds);
        let Some(kinds) = kinds.into_iter().find(|kinds| !kinds.is_empty()) else {
            return Ok(None);
        };
        if let [one, other, ..] = kinds[..] {
            let word = |kind| {
                let known = KINDS.iter().find(|(known, _)| *known == kind);
                known.map_or("client credentials", |(_, word)| word)
            };
            return Err(Failure::Usage(format!(
                "there are both {} and {} to sign in with; give one of them",
                word(one),
                word(other)
            )));
        }
        let missing = |what: &str| Failure::Usage(format!("signing in this way needs {what}"));
        let login = || {
            let text = self.first(|layer| &layer.login_url);
            let text =
                text.ok_or_else(|| missing("a login host: --login-url or TIDEGATE_LOGIN_URL"))?;
            text.parse()
                .map_err(|error: crate::client::LoginUrlError| Failure::Usage(error.to_string()))
        };
        let client_id = || self.first(|layer| &layer.client_id);
        let needed_client = || {
            let id = client_id();
            id.ok_or_else(|| missing("a client: --client-id or TIDEGATE_CLIENT_ID"))
        };
        let username = || {
            let name = self.first(|layer| &layer.username);
            name.ok_or_else(|| missing("a user: --username or TIDEGATE_USERNAME"))
        };
        let secret = || {
            self.secret(
                |layer| &layer.client_secret,
                |layer| &layer.client_secret_file,
            )
        };
        let client = || {
            Ok::<_, Failure>(ClientSecret {
                id: needed_client()?,
                secret: secret(),
            })
        };
        Ok(Some(match kinds[0] {
            Kind::Token => return Ok(None),
            Kind::Command => {
                let command = self.first(|layer| &layer.token_command);
                Grant::Command(command.expect("it is what names this way"))
            }
            Kind::Jwt => {
                let key = self.first(|layer| &layer.jwt_key);
                Grant::JwtBearer {
                    login: login()?,
                    client_id: needed_client()?,
                    username: username()?,
                    key: Secret::File(key.expect("it is what names this way")),
                }
            }
            Kind::Refresh => {
                let token = self.secret(
                    |layer| &layer.refresh_token,
                    |layer| &layer.refresh_token_file,
                );
                Grant::RefreshToken {
                    login: login()?,
                    client: client()?,
                    token: token.expect("it is what names this way"),
                }
            }
            Kind::Password => {
                let password = self.secret(|layer| &layer.password, |layer| &layer.password_file);
                let client = client_id().map(|id| ClientSecret {
                    id,
                    secret: secret(),
                });
                Grant::Password {
                    login: login()?,
                    client,
                    username: username()?,
                    password: password.expect("it is what names this way"),
                }
            }
            Kind::ClientCredentials => Grant::ClientCredentials {
                login: login()?,
                client: client()?,
            },
        }))
    }
}

fn config_dir(environment: Environment<'_>) -> Result<PathBuf, Failure> {
    let variable = |name| environment(name).filter(|value| !value.is_empty());
    let dir = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    let dir = dir.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")));
    dir.ok_or_else(|| {
        Failure::Usage("there is no home directory to find the profile in; name its file".into())
    })
}

/// The proxy of the environment, unless it is not for this host.
pub(super) fn proxy_of(environment: Environment<'_>, host: &str) -> Option<String> {
    let text = |names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| environment(name)?.into_string().ok())
    };
    let proxy = text(["HTTPS_PROXY", "https_proxy"]).filter(|proxy| !proxy.is_empty())?;
    let exempt = text(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    let is_exempt = exempt.split(',').map(str::trim).any(|entry| {
        let domain = entry.trim_start_matches("*.").trim_start_matches('.');
        let is_within = host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        entry == "*" || (!domain.is_empty() && is_within)
    });
    (!is_exempt).then_some(proxy)
}
