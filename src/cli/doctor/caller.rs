//! Who calls: where the settings come from, whether they sign in, and whether the gateway takes the
//! token; and whether both clocks agree, which tokens and certificates depend on.

use std::time::Duration;

use tokio::io::AsyncWrite;
use tonic::{Code, metadata::MetadataMap};

use super::{
    Check, Problem, Report, answered,
    way::{CERTIFICATE_FIX, HTTP2_FIX, wants_certificate},
};
use crate::{
    cli::exit::{Exit, Failure},
    client::{CallError, ConnectError, Connection, CredentialSource, Endpoint, Grant, SignInError},
    clock::{Clock, SystemClock},
    proto::{TopicInfo, TopicRequest},
    types::TopicName,
};

/// Who calls, and what the first call came to.
pub(super) struct Caller {
    pub(super) connection: Connection,
    /// What is said of the topic that was asked about.
    pub(super) answer: Result<TopicInfo, CallError>,
}

/// Asked about where no topic is named: whether there is one is all the same.
const ANY_TOPIC: &str = "/event/Any__e";
/// Clocks that differ by no more agree: a gateway tells its time in whole seconds.
const CLOCK_AGREES: Duration = Duration::from_secs(5);

pub(super) fn settings(endpoint: Result<Endpoint, Failure>) -> Result<Endpoint, Problem> {
    let endpoint = endpoint.map_err(|failure| {
        let fix = "mend it where it was given, as an option, a variable or in a settings file: `tidegate \
                   doctor --help` has the list";
        Problem::new(failure.exit(), failure, fix)
    })?;
    match endpoint.check_plaintext() {
        Ok(()) => Ok(endpoint),
        Err(error) => {
            let fix = "use https://, or force it with --allow-plaintext";
            Err(Problem::new(Exit::Usage, error, fix))
        }
    }
}

/// Where calls go, and by what they are signed in.
pub(super) fn described(endpoint: &Endpoint) -> String {
    let by = match &endpoint.credentials {
        CredentialSource::Fixed(_) => "by a token".to_owned(),
        CredentialSource::SignIn(sign_in) => match &sign_in.grant {
            Grant::ClientCredentials { login, client } => {
                format!("as the client {} at {login}", client.id)
            }
            Grant::JwtBearer {
                login, username, ..
            } => format!("as {username} by an assertion at {login}"),
            Grant::RefreshToken { login, .. } => format!("by a refresh token at {login}"),
            Grant::Password {
                login, username, ..
            } => format!("as {username} at {login}"),
            Grant::Command(_) => "by a command that prints a token".to_owned(),
            Grant::Profile(directory) => format!("by the profile in {}", directory.display()),
        },
    };
    let trusted = match &endpoint.ca_file {
        Some(path) => format!("trusting {}", path.display()),
        None => "trusting what browsers trust".to_owned(),
    };
    format!("{} {by}, {trusted}", endpoint.url)
}

pub(super) async fn look<W: AsyncWrite + Unpin>(
    report: &mut Report<'_, W>,
    endpoint: &Endpoint,
    topic: Option<&TopicName>,
) -> Result<Caller, Failure> {
    let connected = endpoint.connect().await.map_err(not_signed_in);
    let connection = report.passed(Check::SignIn, connected).await?;
    let tenant = connection.tenant_id();
    report
        .ok(Check::SignIn, "there is a token".to_owned())
        .await?;

    let of_token = connection.token_tenant_id();
    let agrees = match of_token.filter(|of_token| *of_token != tenant) {
        None => Ok(()),
        Some(of_token) => Err(Problem::new(
            Exit::NotPermitted,
            format!("calls name {tenant}, and the token is of {of_token}"),
            format!("leave --tenant and TIDEGATE_TENANT out, or set {of_token}"),
        )),
    };
    report.passed(Check::OrgId, agrees).await?;
    let of = match of_token {
        Some(_) => "which the token is of",
        None => "which the token says nothing of",
    };
    let (long, short) = (tenant.as_str(), tenant.as_short_str());
    report
        .ok(Check::OrgId, format!("{long}, in short {short}, {of}"))
        .await?;

    let request = TopicRequest {
        topic_name: topic.map_or_else(|| ANY_TOPIC.to_owned(), TopicName::to_string),
    };
    let mut client = connection.pub_sub();
    let (told, answer) = match answered(client.get_topic(request)).await {
        Ok(answer) => (answer.metadata().clone(), Ok(answer.into_inner())),
        Err(status) => (status.metadata().clone(), Err(CallError::from(status))),
    };
    let taken = match &answer {
        // With TLS 1.3 a server says so after the client believes to be connected.
        Err(error) if wants_certificate(&error.to_string()) => {
            Err(Problem::new(Exit::Unreachable, error, CERTIFICATE_FIX))
        }
        Err(error) if error.code() == Code::DeadlineExceeded => Err(Problem::new(
            Exit::Unreachable,
            error,
            "something answers there, and does not do what is asked: look at the gateway's log, and at \
             what is on the way",
        )),
        Err(error) if error.is_connection_lost() => Err(Problem::new(
            Exit::Unreachable,
            error,
            "this may be no gateway: check the port in --endpoint, and its log",
        )),
        Err(error) if error.code() == Code::Unauthenticated => Err(Problem::new(
            Exit::NotPermitted,
            error,
            "the token may be used up, revoked or another gateway's: sign in anew, or make one with \
             `tidegate token create`",
        )),
        Err(error) if error.code() == Code::Unimplemented => {
            Err(Problem::new(Exit::Unreachable, error, HTTP2_FIX))
        }
        _ => Ok(()),
    };
    report.passed(Check::Token, taken).await?;
    report.ok(Check::Token, "the gateway takes it").await?;
    clock(report, &told).await?;
    Ok(Caller { connection, answer })
}

const LOGIN_FIX: &str = "check --login-url: it is the host where one signs in, such as \
                         https://mydomain.my.salesforce.com";

fn not_signed_in(error: ConnectError) -> Problem {
    let fix = match &error {
        ConnectError::SignIn(SignInError::Refused { .. }) => {
            "check the client, the user and their secrets, and whether this way to sign in is allowed \
             to them there"
        }
        ConnectError::SignIn(SignInError::NotNow { .. }) => "try again in a few minutes",
        ConnectError::SignIn(SignInError::Unreachable(reason)) => {
            // Not the URL in front of it, whose host may have any word in it.
            let said = reason.split_once(": ").map_or(&**reason, |(_, said)| said);
            let said = said.to_lowercase();
            if said.contains("the proxy") {
                "check --proxy and HTTPS_PROXY"
            } else if said.contains("certificate") || said.contains("unknownissuer") {
                "name the file of the authority that issued the login host's certificate with --ca"
            } else {
                LOGIN_FIX
            }
        }
        ConnectError::SignIn(SignInError::Nonsense { .. }) => LOGIN_FIX,
        ConnectError::SignIn(SignInError::PlaintextRefused(_)) => {
            "use https:// in --login-url, or force it with --allow-plaintext"
        }
        ConnectError::Credential(_) => {
            "look at the token and the URL as they are given: a line end may have come along"
        }
        ConnectError::SignIn(SignInError::Command(_)) => {
            "run the command by hand: it has to print a token, and nothing else, on standard output"
        }
        ConnectError::SignIn(SignInError::NoTenant | SignInError::Tenant(_)) => {
            "name it with --tenant: an org id begins with 00D and has 15 or 18 characters"
        }
        ConnectError::SignIn(SignInError::NoInstanceUrl) => "name it with --instance-url",
        ConnectError::SignIn(_) => "check the files that are named",
        _ => "check --endpoint",
    };
    Problem::new(Failure::from(error.clone()).exit(), error, fix)
}

pub(super) async fn clock<W: AsyncWrite + Unpin>(
    report: &mut Report<'_, W>,
    told: &MetadataMap,
) -> Result<(), Failure> {
    let date = told.get("date").and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let Some(date) = date else {
        let found = "the gateway does not tell its time";
        return report.skipped(Check::Clock, found).await;
    };
    let here = SystemClock.now().as_millis();
    let apart = here - date.timestamp().as_millisecond();
    let seconds = apart.unsigned_abs().div_ceil(1_000);
    let which = if apart < 0 { "behind" } else { "ahead of" };
    let found = format!("this machine is {seconds} s {which} the gateway");
    let fix = "set this machine's clock, or the gateway's: assertions are good for three minutes, and \
               certificates by the clock";
    match Duration::from_secs(seconds) <= CLOCK_AGREES {
        true => {
            let found = format!("within {} s of the gateway's", CLOCK_AGREES.as_secs());
            report.ok(Check::Clock, found).await
        }
        // No failure: the token was taken by now, and what else fails for it says so itself.
        false => report.warning(Check::Clock, found, fix).await,
    }
}
