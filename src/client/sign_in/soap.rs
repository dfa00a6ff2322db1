//! A session id by the SOAP call `login`, for those who have a user name and a password and no client
//! application.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use quick_xml::{Reader, escape::escape, events::Event};

use super::{
    LoginUrl, SignInError, Token,
    oauth::{REASON_CHARS_MAX, without_reason},
};
use crate::client::http::HttpClient;

/// The last version that the hosted service answers.
const PATH: &str = "/services/Soap/u/64.0";

/// Faults that pass. A wrong password is not among them: showing it again may lock its user out.
///
/// Source: the public SOAP API Developer Guide, "ExceptionCode".
const PASSING: [&str; 5] = [
    "LOGIN_RATE_EXCEEDED",
    "REQUEST_LIMIT_EXCEEDED",
    "SERVER_UNAVAILABLE",
    "UNABLE_TO_LOCK_ROW",
    "UNKNOWN_EXCEPTION",
];

pub(super) async fn login(
    http: &HttpClient,
    login: &LoginUrl,
    username: &str,
    password: &str,
) -> Result<Token, SignInError> {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\
         <env:Envelope xmlns:env=\"http://schemas.xmlsoap.org/soap/envelope/\"><env:Body>\
         <n1:login xmlns:n1=\"urn:partner.soap.sforce.com\"><n1:username>{}</n1:username>\
         <n1:password>{}</n1:password></n1:login></env:Body></env:Envelope>",
        escape(username),
        escape(password)
    );
    let mut headers = HeaderMap::new();
    let kind = HeaderValue::from_static("text/xml; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert("SOAPAction", HeaderValue::from_static("login"));
    let answer = http
        .call(Method::POST, &login.at(PATH), headers, Bytes::from(body))
        .await?;
    let text = std::str::from_utf8(&answer.body).unwrap_or_default();
    let host = || login.host().to_owned();
    let Some(access_token) = element(text, "sessionId") else {
        return Err(match element(text, "faultstring") {
            Some(reason) => {
                let code = element(text, "faultcode").unwrap_or_default();
                let code = code.rsplit(':').next().unwrap_or_default();
                let reason = reason.chars().take(REASON_CHARS_MAX).collect();
                let host = host();
                match PASSING.contains(&code) {
                    true => SignInError::NotNow { host, reason },
                    false => SignInError::Refused { host, reason },
                }
            }
            None => without_reason(host(), answer.status),
        });
    };
    Ok(Token {
        access_token,
        instance_url: element(text, "serverUrl").and_then(|url| origin(&url)),
        tenant_id: element(text, "organizationId"),
    })
}

/// The text of the first element with this name, whatever its prefix.
fn element(xml: &str, name: &str) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    let mut is_in = false;
    let mut found = String::new();
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if start.local_name().as_ref() == name => is_in = true,
            Event::End(_) if is_in => return Some(found),
            Event::Text(text) if is_in => found += &text.xml10_content(),
            Event::GeneralRef(reference) if is_in => {
                found += quick_xml::escape::resolve_predefined_entity(&reference)?;
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Scheme and host of a URL.
fn origin(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    Some(format!("{}://{}", url.scheme_str()?, url.authority()?))
}
