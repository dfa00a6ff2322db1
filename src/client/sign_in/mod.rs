//! Signing in: from what somebody has, or knows, to an access token.
//!
//! | grant | needs | works against |
//! |---|---|---|
//! | client credentials | client id, secret | this gateway, the hosted service |
//! | JWT bearer | client id, user name, RSA key | both |
//! | refresh token | client id, the token | both |
//! | user name and password | those, and a client for OAuth; else by SOAP | both |
//! | a command | whatever prints a token | anything |
//! | a profile | the data directory of a gateway on this machine | this gateway |
//!
//! Secrets are read again from where they are each time: a file that is replaced, or a command that
//! answers otherwise, is enough to go on with a new token.
//!
//! Source: RFC 6749; RFC 7523; the public OAuth and SOAP documentation of the hosted service.

mod assertion;
mod command;
mod oauth;
mod soap;

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use http::Uri;

use super::{
    connect::{Credentials, tenant_of_token},
    dial::is_loopback,
    http::{HttpClient, HttpError},
    profile::{Profile, ProfileError},
};
use crate::{
    clock::Clock,
    net::whole_file,
    types::{TenantId, TenantIdError, limits::CA_FILE_BYTES_MAX},
};

/// How long a login host may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where credentials come from.
#[derive(Clone, Debug)]
pub enum CredentialSource {
    /// They are there, and there are no others.
    Fixed(Credentials),
    /// They are signed in for.
    SignIn(SignIn),
}

impl From<Credentials> for CredentialSource {
    fn from(credentials: Credentials) -> Self {
        Self::Fixed(credentials)
    }
}

/// A way to sign in.
#[derive(Clone, Debug)]
pub struct SignIn {
    /// What is shown.
    pub grant: Grant,
    /// The tenant's URL, if it is not the one that the answer names.
    pub instance_url: Option<String>,
    /// The tenant, if it is not the one that the answer names.
    pub tenant_id: Option<TenantId>,
}

/// What is shown to get a token.
#[derive(Clone, Debug)]
pub enum Grant {
    /// A client application's id and secret, at a login host.
    ClientCredentials {
        /// The login host.
        login: LoginUrl,
        /// The client.
        client: ClientSecret,
    },
    /// An assertion about a user that the client application signs.
    JwtBearer {
        /// The login host.
        login: LoginUrl,
        /// The client's id.
        client_id: String,
        /// The user.
        username: String,
        /// An RSA key in PEM.
        key: Secret,
        /// Whom the assertion is for, if that is not the login host: the hosted service wants its own
        /// `https://login.salesforce.com` from some hosts.
        audience: Option<String>,
    },
    /// A refresh token.
    RefreshToken {
        /// The login host.
        login: LoginUrl,
        /// The client that the token was given to.
        client: ClientSecret,
        /// The token.
        token: Secret,
    },
    /// A user name and a password: by OAuth if there is a client, else by SOAP.
    Password {
        /// The login host.
        login: LoginUrl,
        /// The client.
        client: Option<ClientSecret>,
        /// The user.
        username: String,
        /// Its password.
        password: Secret,
    },
    /// A command that prints a token.
    Command(String),
    /// The profile in this data directory.
    Profile(PathBuf),
}

/// A client application.
#[derive(Clone, Debug)]
pub struct ClientSecret {
    /// Its id.
    pub id: String,
    /// Its secret, if it has one.
    pub secret: Option<Secret>,
}

/// Something that is never shown, or the file that it is in.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The secret.
    Text(String),
    /// A file with it, and perhaps a line end.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("***"),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

impl Secret {
    fn read(&self) -> Result<String, SignInError> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path,
        };
        let refused = |reason: String| SignInError::File {
            path: path.clone(),
            reason,
        };
        let bytes = whole_file::read(path, CA_FILE_BYTES_MAX);
        let bytes = bytes.map_err(|error| refused(error.to_string()))?;
        let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".into()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        match text.is_empty() {
            true => Err(refused("it is empty".into())),
            false => Ok(text.to_owned()),
        }
    }
}

/// Where to sign in: `https://host`, or `http://` on this machine.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginUrl(Uri);

impl LoginUrl {
    /// The URL of a path on the host.
    fn at(&self, path: &str) -> Uri {
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        let scheme = self.0.scheme_str().unwrap_or("https");
        let uri = format!("{scheme}://{authority}{path}").parse();
        uri.expect("a checked host and a path make a URL")
    }

    fn is_plaintext(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }

    fn host(&self) -> &str {
        self.0.host().unwrap_or_default()
    }
}

impl FromStr for LoginUrl {
    type Err = LoginUrlError;

    fn from_str(text: &str) -> Result<Self, LoginUrlError> {
        let uri: Uri = text.parse().map_err(|_| LoginUrlError)?;
        let is_good = matches!(uri.scheme_str(), Some("http" | "https"))
            && uri
                .authority()
                .is_some_and(|host| !host.as_str().contains('@'))
            && uri.query().is_none()
            && matches!(uri.path(), "" | "/");
        is_good.then_some(Self(uri)).ok_or(LoginUrlError)
    }
}

impl fmt::Display for LoginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self
            .0
            .authority()
            .map_or("", |authority| authority.as_str());
        write!(
            f,
            "{}://{authority}",
            self.0.scheme_str().unwrap_or("https")
        )
    }
}

impl fmt::Debug for LoginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginUrl({self})")
    }
}

/// Text that is no login host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a login host looks like https://login.example.com, without a path")]
pub struct LoginUrlError;

/// Why there is no token. Holds no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignInError {
    /// There is one token, and no way to another.
    #[error("the access token is fixed, and there is no other to be had")]
    Fixed,
    /// The profile still holds the token that is not taken.
    #[error("the profile in {} holds no newer token", .0.display())]
    NothingNewer(PathBuf),
    /// The profile cannot be read.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// A file that holds a secret, or should.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key that was given as it is cannot sign.
    #[error("the key that signs assertions: {0}")]
    Key(&'static str),
    /// Secrets would cross a network in the clear.
    #[error("{0} is not on this machine, and http:// would send secrets in the clear")]
    PlaintextRefused(LoginUrl),
    /// The login host cannot be reached.
    #[error("the login host cannot be reached: {0}")]
    Unreachable(String),
    /// The login host said no.
    #[error("the login host {host} refused: {reason}")]
    Refused {
        /// The host.
        host: String,
        /// In its words.
        reason: String,
    },
    /// The login host said no for now: it is busy, or was asked too often.
    #[error("the login host {host} refused for now: {reason}")]
    NotNow {
        /// The host.
        host: String,
        /// In its words.
        reason: String,
    },
    /// The login host said something that is no answer.
    #[error("the login host {host} answered {found}, wanted an access token")]
    Nonsense {
        /// The host.
        host: String,
        /// What it answered.
        found: String,
    },
    /// The command that prints a token did not.
    #[error("the token command {0}")]
    Command(String),
    /// The answer names no tenant, and nothing else does.
    #[error("nothing says which tenant the token is of; name it")]
    NoTenant,
    /// The tenant that is named is none.
    #[error("the tenant that the token is said to be of: {0}")]
    Tenant(#[from] TenantIdError),
    /// The answer names no URL of the tenant, and nothing else does.
    #[error("nothing says what the tenant's URL is; name it")]
    NoInstanceUrl,
}

impl SignInError {
    /// Whether the same may be tried again with some hope.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable(_)
            | Self::NotNow { .. }
            | Self::Nonsense { .. }
            | Self::Command(_) => true,
            Self::Fixed
            | Self::NothingNewer(_)
            | Self::Profile(_)
            | Self::File { .. }
            | Self::Key(_)
            | Self::PlaintextRefused(_)
            | Self::Refused { .. }
            | Self::NoTenant
            | Self::Tenant(_)
            | Self::NoInstanceUrl => false,
        }
    }

    /// Whether it was said no to whoever signs in.
    pub fn is_permission(&self) -> bool {
        matches!(
            self,
            Self::Refused { .. } | Self::Fixed | Self::NothingNewer(_)
        )
    }
}

impl From<HttpError> for SignInError {
    fn from(error: HttpError) -> Self {
        Self::Unreachable(error.to_string())
    }
}

/// What an answer says; what it leaves open may be known otherwise.
#[derive(Default)]
struct Token {
    access_token: String,
    instance_url: Option<String>,
    tenant_id: Option<String>,
}

impl CredentialSource {
    /// Credentials from where they come from. `known` are those that are not taken any more.
    ///
    /// # Errors
    ///
    /// [`SignInError`].
    ///
    /// # Cancel safety
    ///
    /// A token may have been made that nobody has.
    pub(super) async fn credentials(
        &self,
        http: &HttpClient,
        clock: &dyn Clock,
        allow_plaintext: bool,
        known: Option<&Credentials>,
    ) -> Result<Credentials, SignInError> {
        match (self, known) {
            (Self::Fixed(credentials), None) => Ok(credentials.clone()),
            (Self::Fixed(_), Some(_)) => Err(SignInError::Fixed),
            (Self::SignIn(sign_in), known) => {
                sign_in
                    .credentials(http, clock, allow_plaintext, known)
                    .await
            }
        }
    }
}

impl SignIn {
    async fn credentials(
        &self,
        http: &HttpClient,
        clock: &dyn Clock,
        allow_plaintext: bool,
        known: Option<&Credentials>,
    ) -> Result<Credentials, SignInError> {
        if let Some(login) = self.grant.login()
            && login.is_plaintext()
            && !is_loopback(&login.0)
            && !allow_plaintext
        {
            return Err(SignInError::PlaintextRefused(login.clone()));
        }
        let token = match &self.grant {
            Grant::Command(command) => command::run(command).await?,
            Grant::Profile(directory) => {
                let credentials = Profile::read(directory)?.credentials();
                if known.is_some_and(|known| known.access_token == credentials.access_token) {
                    return Err(SignInError::NothingNewer(directory.clone()));
                }
                Token {
                    access_token: credentials.access_token,
                    instance_url: Some(credentials.instance_url),
                    tenant_id: Some(credentials.tenant_id.to_string()),
                }
            }
            Grant::Password {
                login,
                client: None,
                username,
                password,
            } => soap::login(http, login, username, &password.read()?).await?,
            grant => oauth::token(http, grant, clock).await?,
        };
        self.complete(token)
    }

    fn complete(&self, token: Token) -> Result<Credentials, SignInError> {
        let of_token = || tenant_of_token(&token.access_token);
        let tenant_id = match (self.tenant_id, &token.tenant_id) {
            (Some(tenant_id), _) => tenant_id,
            (None, Some(text)) => text.parse()?,
            (None, None) => of_token().ok_or(SignInError::NoTenant)?,
        };
        let instance_url = self.instance_url.clone().or(token.instance_url);
        Ok(Credentials {
            tenant_id,
            instance_url: instance_url.ok_or(SignInError::NoInstanceUrl)?,
            access_token: token.access_token,
        })
    }
}

impl Grant {
    fn login(&self) -> Option<&LoginUrl> {
        match self {
            Self::ClientCredentials { login, .. }
            | Self::JwtBearer { login, .. }
            | Self::RefreshToken { login, .. }
            | Self::Password { login, .. } => Some(login),
            Self::Command(_) | Self::Profile(_) => None,
        }
    }
}

#[cfg(all(test, feature = "server"))]
mod tests;
