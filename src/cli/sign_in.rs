//! How a command signs in: from flags, the environment, or a file of connection settings.
//!
//! Each of the three may name one way to sign in; the first that names one decides. What that way needs
//! besides, such as a login host, may come from any of them.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::exit::Failure;
use crate::{
    client::{ClientSecret, Grant, LoginUrlError, Proxy, ProxyUrlError, Secret},
    net::whole_file,
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
    /// Address that assertion to this URL and not to the login host [env: TIDEGATE_JWT_AUDIENCE]
    #[arg(long, value_name = "URL")]
    jwt_audience: Option<String>,
    /// Sign in by the refresh token in this file [env: TIDEGATE_REFRESH_TOKEN has the token itself]
    #[arg(long, value_name = "FILE")]
    refresh_token_file: Option<PathBuf>,
    /// Take the access token that this command prints [env: TIDEGATE_TOKEN_COMMAND]
    #[arg(long, value_name = "CMD")]
    token_command: Option<String>,
    /// Connect through this HTTP proxy, but not to this machine or to what NO_PROXY names
    /// [env: HTTPS_PROXY]
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
    pub(super) jwt_audience: Option<String>,
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
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

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
            jwt_audience: args.jwt_audience,
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
        let path = |name: &str| variable(environment, name).map(PathBuf::from);
        let text = |name: &str| text_variable(environment, name);
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
            jwt_audience: text("TIDEGATE_JWT_AUDIENCE")?,
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
        let name = match flag {
            Some(name) => Some(name.to_owned()),
            None => text_variable(environment, "TIDEGATE_PROFILE")?,
        };
        let Some(name) = name.filter(|name| !name.is_empty()) else {
            return Ok(Self::default());
        };
        let path = match name.contains('/') || name.ends_with(".toml") {
            true => PathBuf::from(&name),
            false => config_dir(environment)?.join(format!("tidegate/profiles/{name}.toml")),
        };
        Self::read(&path)
    }

    fn read(path: &Path) -> Result<Self, Failure> {
        let refused = |reason: String| {
            Failure::Usage(format!("the settings file {}: {reason}", path.display()))
        };
        let bytes = whole_file::read(path, PROFILE_BYTES_MAX);
        let bytes = bytes.map_err(|error| refused(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".into()))?;
        // The parser's own words may quote the file, which may hold secrets.
        let table: toml::Table = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text
                .bytes()
                .take(start)
                .filter(|&byte| byte == b'\n')
                .count();
            refused(format!(
                "line {line} is no TOML, wanted lines such as `key = \"value\"`"
            ))
        })?;
        if let Some((key, _)) = table.iter().find(|(_, value)| !value.is_str()) {
            return Err(refused(format!(
                "the value of `{key}` is no text in quotes"
            )));
        }
        let settings = Self::deserialize(table);
        // Every value is text: what is left to be wrong is a name.
        let settings = settings.map_err(|error| refused(error.message().to_owned()))?;
        let has_secrets = [
            &settings.token,
            &settings.client_secret,
            &settings.password,
            &settings.refresh_token,
        ];
        #[cfg(unix)]
        if has_secrets.into_iter().any(Option::is_some) {
            use std::os::unix::fs::PermissionsExt;
            let metadata = std::fs::metadata(path);
            if metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
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

    /// A secret: as it is, or the file that it is in, whichever layer has one first.
    fn secret(
        &self,
        name: &str,
        text: impl Fn(&Settings) -> &Option<String>,
        file: impl Fn(&Settings) -> &Option<PathBuf>,
    ) -> Result<Option<Secret>, Failure> {
        for layer in &self.0 {
            match (text(layer), file(layer)) {
                (None, None) => {}
                (Some(text), None) => return Ok(Some(Secret::Text(text.clone()))),
                (None, Some(file)) => return Ok(Some(Secret::File(file.clone()))),
                (Some(_), Some(_)) => {
                    return Err(Failure::Usage(format!(
                        "there are both a {name} and a file with one; give one of them"
                    )));
                }
            }
        }
        Ok(None)
    }

    /// How to sign in; `None` if nothing says so, or a token is there.
    pub(super) fn grant(&self) -> Result<Option<Grant>, Failure> {
        let kinds = self.0.iter().map(Settings::kinds);
        let Some(kinds) = kinds.into_iter().find(|kinds| !kinds.is_empty()) else {
            // Whoever is named here is not to be taken for somebody else.
            let named = [
                ("a login host", self.first(|layer| &layer.login_url)),
                ("a client", self.first(|layer| &layer.client_id)),
                ("a user", self.first(|layer| &layer.username)),
            ];
            let Some((what, _)) = named.into_iter().find(|(_, value)| value.is_some()) else {
                return Ok(None);
            };
            return Err(Failure::Usage(format!(
                "{what} is named and nothing to sign in with there; give a client secret, a \
                 password, an RSA key or a refresh token: --client-secret-file, --password-file, \
                 --jwt-key or --refresh-token-file"
            )));
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
                .map_err(|error: LoginUrlError| Failure::Usage(error.to_string()))
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
                "client secret",
                |layer| &layer.client_secret,
                |layer| &layer.client_secret_file,
            )
        };
        let client = || {
            Ok::<_, Failure>(ClientSecret {
                id: needed_client()?,
                secret: secret()?,
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
                    audience: self.first(|layer| &layer.jwt_audience),
                }
            }
            Kind::Refresh => {
                let token = self.secret(
                    "refresh token",
                    |layer| &layer.refresh_token,
                    |layer| &layer.refresh_token_file,
                )?;
                Grant::RefreshToken {
                    login: login()?,
                    client: client()?,
                    token: token.expect("it is what names this way"),
                }
            }
            Kind::Password => {
                let password = self.secret(
                    "password",
                    |layer| &layer.password,
                    |layer| &layer.password_file,
                )?;
                let client = match client_id() {
                    Some(_) => Some(client()?),
                    None => None,
                };
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

pub(super) fn variable(environment: Environment<'_>, name: &str) -> Option<OsString> {
    environment(name).filter(|value| !value.is_empty())
}

pub(super) fn text_variable(
    environment: Environment<'_>,
    name: &str,
) -> Result<Option<String>, Failure> {
    let text = variable(environment, name).map(OsString::into_string);
    text.transpose()
        .map_err(|_| Failure::Usage(format!("the environment variable {name} is not UTF-8")))
}

fn config_dir(environment: Environment<'_>) -> Result<PathBuf, Failure> {
    let dir = variable(environment, "XDG_CONFIG_HOME").map(PathBuf::from);
    let dir = dir.or_else(|| Some(PathBuf::from(variable(environment, "HOME")?).join(".config")));
    dir.ok_or_else(|| {
        Failure::Usage("there is no home directory to find the profile in; name its file".into())
    })
}

/// The proxy that is named, or else the environment's; and where either does not lead.
pub(super) fn proxy_of(
    named: Option<String>,
    environment: Environment<'_>,
) -> Result<Option<Proxy>, Failure> {
    let first = |[upper, lower]: [&str; 2]| match text_variable(environment, upper)? {
        None => text_variable(environment, lower),
        found => Ok(found),
    };
    let Some(url) = named.map_or_else(
        || first(["HTTPS_PROXY", "https_proxy"]),
        |url| Ok(Some(url)),
    )?
    else {
        return Ok(None);
    };
    // Where a proxy is named so, others take it for one that speaks HTTP.
    let url = match url.contains("://") {
        true => url,
        false => format!("http://{url}"),
    };
    let url = url
        .parse()
        .map_err(|error: ProxyUrlError| Failure::Usage(error.to_string()))?;
    let except = first(["NO_PROXY", "no_proxy"])?.unwrap_or_default();
    Ok(Some(Proxy { url, except }))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::ffi::OsStringExt};

    use super::*;
    use crate::cli::exit::Exit;

    #[track_caller]
    fn usage<T>(result: Result<T, Failure>) -> String {
        let failure = result.err().expect("a refusal");
        assert_eq!(failure.exit(), Exit::Usage);
        failure.to_string()
    }

    fn environment(name: &str, variables: &[(&str, &str)]) -> Option<OsString> {
        let found = variables.iter().find(|(known, _)| *known == name)?;
        Some(found.1.into())
    }

    fn grant(variables: &[(&str, &str)]) -> Result<Option<Grant>, Failure> {
        let settings = Settings::of_environment(&|name| environment(name, variables))?;
        Layers([Settings::default(), settings, Settings::default()]).grant()
    }

    #[test]
    fn whoever_is_named_is_not_taken_for_somebody_else() {
        for (variable, wanted) in [
            ("TIDEGATE_LOGIN_URL", "a login host is named"),
            ("TIDEGATE_CLIENT_ID", "a client is named"),
            ("TIDEGATE_USERNAME", "a user is named"),
        ] {
            let refusal = usage(grant(&[(variable, "https://login.example.com")]));
            assert!(refusal.contains(wanted), "{refusal}");
            assert!(refusal.contains("--client-secret-file"), "{refusal}");
        }
        let token = [("TIDEGATE_CLIENT_ID", "x"), ("TIDEGATE_TOKEN", "y")];
        assert!(grant(&token).unwrap().is_none());
        assert!(grant(&[]).unwrap().is_none());
    }

    #[test]
    fn a_way_to_sign_in_names_what_it_lacks_and_what_it_has_twice() {
        let login = ("TIDEGATE_LOGIN_URL", "https://login.example.com");
        let client = ("TIDEGATE_CLIENT_ID", "shop");
        for (variables, wanted) in [
            (&[("TIDEGATE_CLIENT_SECRET", "s3cret")][..], "--login-url"),
            (
                &[login, ("TIDEGATE_CLIENT_SECRET", "s3cret")],
                "--client-id",
            ),
            (&[login, ("TIDEGATE_PASSWORD", "s3cret")], "--username"),
            (&[login, client, ("TIDEGATE_JWT_KEY", "k")], "--username"),
            (
                &[
                    login,
                    client,
                    ("TIDEGATE_CLIENT_SECRET", "s3cret"),
                    ("TIDEGATE_CLIENT_SECRET_FILE", "f"),
                ],
                "both a client secret and a file",
            ),
            (
                &[
                    ("TIDEGATE_PASSWORD", "s3cret"),
                    ("TIDEGATE_REFRESH_TOKEN", "s3cret"),
                ],
                "both a refresh token and a password",
            ),
        ] {
            let refusal = usage(grant(variables));
            assert!(refusal.contains(wanted), "{refusal}");
            assert!(!refusal.contains("s3cret"), "{refusal}");
        }
        let jwt = [
            login,
            client,
            ("TIDEGATE_USERNAME", "me"),
            ("TIDEGATE_JWT_KEY", "k"),
            ("TIDEGATE_JWT_AUDIENCE", "https://login.salesforce.com"),
        ];
        let Some(Grant::JwtBearer { audience, .. }) = grant(&jwt).unwrap() else {
            panic!("another way");
        };
        assert_eq!(audience.as_deref(), Some("https://login.salesforce.com"));
    }

    #[test]
    fn a_settings_file_is_read_or_told_what_is_wrong_with_it_and_not_what_it_says() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("odd.toml");
        let read = |text: &str| {
            fs::write(&path, text).unwrap();
            Settings::of_file(Some(path.to_str().unwrap()), &|_| None)
        };
        for (text, wanted) in [
            ("password = 87654321", "the value of `password` is no text"),
            ("token = [\"hunter2\"]", "the value of `token` is no text"),
            ("client_id = \"x\"\npassword = hunter2", "line 2 is no TOML"),
            ("password = \"hunter2", "line 1 is no TOML"),
            ("hunter2", "line 1 is no TOML"),
            ("pasword = \"hunter2\"", "unknown field `pasword`"),
        ] {
            let refusal = usage(read(text));
            assert!(refusal.contains(wanted), "{refusal}");
            assert!(refusal.contains("odd.toml"), "{refusal}");
            let is_told = refusal.contains("hunter2") || refusal.contains("87654321");
            assert!(!is_told, "{refusal}");
        }
        let settings = read("password = \"hunter2\"").unwrap();
        assert_eq!(settings.password.as_deref(), Some("hunter2"));
        let refusal = usage(Settings::of_file(Some("/dev/zero"), &|_| None));
        assert!(refusal.contains("not a regular file"), "{refusal}");
    }

    #[test]
    fn a_profile_is_found_by_its_name_and_an_empty_one_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let profiles = directory.path().join("tidegate/profiles");
        fs::create_dir_all(&profiles).unwrap();
        fs::write(profiles.join("prod.eu.toml"), "client_id = \"eu\"").unwrap();
        let home = directory.path().to_str().unwrap();
        let with = |name: &str| {
            let variables = [("TIDEGATE_PROFILE", name), ("XDG_CONFIG_HOME", home)];
            Settings::of_file(None, &|name| environment(name, &variables))
        };
        assert_eq!(with("prod.eu").unwrap().client_id.as_deref(), Some("eu"));
        assert_eq!(with("").unwrap().client_id, None);
        let refusal = usage(with("nobody"));
        assert!(refusal.contains("profiles/nobody.toml"), "{refusal}");
        let odd =
            |name: &str| (name == "TIDEGATE_PROFILE").then(|| OsString::from_vec(b"\xff".to_vec()));
        let refusal = usage(Settings::of_file(None, &odd));
        assert!(refusal.contains("not UTF-8"), "{refusal}");
    }

    #[test]
    fn a_proxy_comes_with_where_it_does_not_lead() {
        let variables = [("https_proxy", "proxy:3128"), ("NO_PROXY", "a.example")];
        let environment = |name: &str| environment(name, &variables);
        let proxy = proxy_of(None, &environment).unwrap().unwrap();
        assert_eq!(proxy.url.to_string(), "http://proxy:3128");
        assert_eq!(proxy.except, "a.example");
        let proxy = proxy_of(Some("http://other:1".into()), &environment);
        assert_eq!(proxy.unwrap().unwrap().url.to_string(), "http://other:1");
        let refusal = usage(proxy_of(Some("socks5://other:1".into()), &environment));
        assert!(refusal.contains("http://host:port"), "{refusal}");
    }
}
