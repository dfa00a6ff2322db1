//! `POST /services/Soap/u/{version}`: the SOAP call `login`, and a fault for every other.
//!
//! Clients read the answer by the order and the names of its elements, so it is text with blanks. A
//! refusal is HTTP 500 with a fault, as SOAP 1.1 §6.2 asks; a sign-in that is locked out gets the one
//! of a wrong password, whose text names both.

mod request;

use std::fmt::Display;

use axum::{
    extract::{Path, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use quick_xml::escape::escape;

use super::{Login, body, origin::Origin, source};
use crate::{
    auth::sign_in::{Session, SignInError},
    http::body::{Bodies, BodyError},
};
use request::{RequestError, parse};

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
enum LoginRefusal {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the header host is missing or malformed")]
    Host,
    #[error("the version in the path is malformed: it looks like 64.0")]
    Version,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    SignIn(#[from] SignInError),
}

/// Answers a SOAP call.
pub(super) async fn soap(
    State(login): State<Login>,
    State(bodies): State<Bodies>,
    Path(version): Path<String>,
    request: Request,
) -> Response {
    let answer = log_in(&login, &bodies, &version, request).await;
    let (status, body) = match answer {
        Ok(body) => (StatusCode::OK, body),
        Err(refusal) => (StatusCode::INTERNAL_SERVER_ERROR, refusal.fault()),
    };
    let headers = [
        (header::CONTENT_TYPE, "text/xml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, body).into_response()
}

async fn log_in(
    login: &Login,
    bodies: &Bodies,
    version: &str,
    request: Request,
) -> Result<String, LoginRefusal> {
    let origin = Origin::of(&request).ok_or(LoginRefusal::Host)?;
    if !is_version(version) {
        return Err(LoginRefusal::Version);
    }
    let source = source(&request);
    let api = if request.uri().path().starts_with("/services/Soap/c/") {
        Api::Enterprise
    } else {
        Api::Partner
    };
    let body = body::text(bodies, request, "text/xml").await?;
    let credentials = parse(body.text())?;
    let (username, password) = (credentials.username.trim(), &*credentials.password);
    let result = login.sign_in.password(source, None, username, password);
    let result = result.await;
    login.metrics.ended("soap", source, &result);
    Ok(answer(&result?, api, &origin.url(), version))
}

/// Which of the two interfaces of the hosted service a client was made from.
#[derive(Clone, Copy, Debug)]
enum Api {
    Partner,
    Enterprise,
}

impl Api {
    fn namespace(self) -> &'static str {
        match self {
            Self::Partner => "urn:partner.soap.sforce.com",
            Self::Enterprise => "urn:enterprise.soap.sforce.com",
        }
    }

    fn letter(self) -> char {
        match self {
            Self::Partner => 'u',
            Self::Enterprise => 'c',
        }
    }
}

fn is_version(text: &str) -> bool {
    let is_number =
        |text: &str| (1..=4).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_digit());
    match text.split_once('.') {
        Some((major, minor)) => is_number(major) && is_number(minor),
        None => is_number(text),
    }
}

/// The result of `login`. Some clients count its elements: none is moved, left out or put in front.
fn answer(session: &Session, api: Api, login_url: &str, version: &str) -> String {
    let identity = &session.identity;
    let (namespace, letter) = (api.namespace(), api.letter());
    let organization = identity.tenant.as_str();
    let short = identity.tenant.as_short_str();
    let user_id = escape(&*identity.user_id);
    let username = escape(&*identity.username);
    let session_id = escape(session.access_token.expose());
    let seconds = session.lifetime.as_secs();
    let server_url = format!("{login_url}/services/Soap/{letter}/{version}/{short}");
    let metadata_url = format!("{login_url}/services/Soap/m/{version}/{short}");
    let nothing = r#" xsi:nil="true""#;
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="{namespace}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><loginResponse><result><metadataServerUrl>{metadata_url}</metadataServerUrl><passwordExpired>false</passwordExpired><sandbox>false</sandbox><serverUrl>{server_url}</serverUrl><sessionId>{session_id}</sessionId><userId>{user_id}</userId><userInfo><accessibilityMode>false</accessibilityMode><chatterExternal>false</chatterExternal><currencySymbol>$</currencySymbol><orgAttachmentFileSizeLimit>5242880</orgAttachmentFileSizeLimit><orgDefaultCurrencyIsoCode>USD</orgDefaultCurrencyIsoCode><orgDefaultCurrencyLocale>en_US</orgDefaultCurrencyLocale><orgDisallowHtmlAttachments>false</orgDisallowHtmlAttachments><orgHasPersonAccounts>false</orgHasPersonAccounts><organizationId>{organization}</organizationId><organizationMultiCurrency>false</organizationMultiCurrency><organizationName>Tidegate</organizationName><profileId{nothing}/><roleId{nothing}/><sessionSecondsValid>{seconds}</sessionSecondsValid><userDefaultCurrencyIsoCode{nothing}/><userEmail{nothing}/><userFullName>{username}</userFullName><userId>{user_id}</userId><userLanguage>en_US</userLanguage><userLocale>en_US</userLocale><userName>{username}</userName><userTimeZone>GMT</userTimeZone><userType>Standard</userType><userUiSkin>Theme3</userUiSkin></userInfo></result></loginResponse></soapenv:Body></soapenv:Envelope>"#
    )
}

impl LoginRefusal {
    fn fault(&self) -> String {
        const INVALID_LOGIN: &str =
            "Invalid username, password, security token; or user locked out.";
        match self {
            Self::SignIn(SignInError::Busy | SignInError::Unavailable(_))
            | Self::Body(BodyError::NoRoom | BodyError::Stopping) => {
                login_fault("SERVER_UNAVAILABLE", "Signing in is not possible for now.")
            }
            // Anything else that is wrong is not told apart.
            Self::SignIn(_) => login_fault("INVALID_LOGIN", INVALID_LOGIN),
            Self::Body(_) | Self::Host | Self::Version | Self::Request(_) => {
                fault("soapenv:Client", self, "")
            }
        }
    }
}

fn login_fault(code: &str, message: &str) -> String {
    let detail = format!(
        r#"<detail><sf:LoginFault xsi:type="sf:LoginFault"><sf:exceptionCode>{code}</sf:exceptionCode><sf:exceptionMessage>{message}</sf:exceptionMessage></sf:LoginFault></detail>"#
    );
    fault(
        &format!("sf:{code}"),
        format_args!("{code}: {message}"),
        &detail,
    )
}

fn fault(code: &str, text: impl Display, detail: &str) -> String {
    let text = text.to_string();
    let text = escape(&*text);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:sf="urn:fault.partner.soap.sforce.com" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><soapenv:Fault><faultcode>{code}</faultcode><faultstring>{text}</faultstring>{detail}</soapenv:Fault></soapenv:Body></soapenv:Envelope>"#
    )
}
