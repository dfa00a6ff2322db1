//! Bodies of requests to sign in: bounded in size and time, and text in UTF-8.

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_ENCODING, CONTENT_TYPE},
    },
};
use percent_encoding::percent_decode_str;
use tokio::time::timeout;

use crate::types::limits::{FORM_PARAMETERS_MAX, SIGN_IN_BODY_BYTES_MAX, SIGN_IN_BODY_TIMEOUT};

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body has another content type than {0}")]
    Type(&'static str),
    #[error("the body has another charset than UTF-8")]
    Charset,
    #[error("the body is compressed")]
    Compressed,
    #[error("the body is larger than {SIGN_IN_BODY_BYTES_MAX} bytes, or broken off")]
    TooLarge,
    #[error("the body did not arrive within {SIGN_IN_BODY_TIMEOUT:?}")]
    TooSlow,
    #[error("the body is not text in UTF-8")]
    NotText,
    #[error("the form is malformed, or has a parameter more than once")]
    Form,
}

impl BodyError {
    /// The status of a refusal.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Type(_) | Self::Charset | Self::Compressed => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NotText | Self::Form => StatusCode::BAD_REQUEST,
        }
    }
}

/// The body of a request as text, if it is of the content type `wanted`.
pub(super) async fn text(request: Request, wanted: &'static str) -> Result<String, BodyError> {
    let (parts, body) = request.into_parts();
    check_type(&parts.headers, wanted)?;
    String::from_utf8(bytes(body).await?).map_err(|_| BodyError::NotText)
}

async fn bytes(body: Body) -> Result<Vec<u8>, BodyError> {
    let reading = to_bytes(body, SIGN_IN_BODY_BYTES_MAX);
    let read = timeout(SIGN_IN_BODY_TIMEOUT, reading).await;
    let bytes = read.map_err(|_| BodyError::TooSlow)?;
    Ok(bytes.map_err(|_| BodyError::TooLarge)?.into())
}

fn check_type(headers: &HeaderMap, wanted: &'static str) -> Result<(), BodyError> {
    let encoding = headers.get(CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Err(BodyError::Compressed);
    }
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let mut parts = content_type.unwrap_or_default().split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    if !essence.eq_ignore_ascii_case(wanted) {
        return Err(BodyError::Type(wanted));
    }
    for parameter in parts {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let is_utf8 = ["utf-8", "utf8", "us-ascii"]
            .iter()
            .any(|charset| value.trim().trim_matches('"').eq_ignore_ascii_case(charset));
        if name.trim().eq_ignore_ascii_case("charset") && !is_utf8 {
            return Err(BodyError::Charset);
        }
    }
    Ok(())
}

/// Parameters of a form or a query, by name.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// The form in the body of a request.
    pub(super) async fn read(request: Request) -> Result<Self, BodyError> {
        let text = text(request, "application/x-www-form-urlencoded").await?;
        Self::parse(&text)
    }

    /// The parameters in `text`. Each is there once, as RFC 6749 §3.2 asks.
    pub(super) fn parse(text: &str) -> Result<Self, BodyError> {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in text
            .trim_end_matches(['\r', '\n'])
            .split('&')
            .filter(|pair| !pair.is_empty())
        {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(value)?);
            let is_there = parameters.iter().any(|(known, _)| *known == name);
            if is_there || parameters.len() >= FORM_PARAMETERS_MAX {
                return Err(BodyError::Form);
            }
            parameters.push((name, value));
        }
        Ok(Self(parameters))
    }

    /// The parameter of this name, unless it is absent or empty, which RFC 6749 says is the same.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// The text of a parameter's name or value, or of credentials that are encoded like it.
pub(super) fn decode(text: &str) -> Result<String, BodyError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    Ok(decoded.map_err(|_| BodyError::NotText)?.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_decoded_and_empty_ones_are_absent() {
        let form = Form::parse("a=1+2%2B3&b=%C3%A9&c=&d&grant_type=urn:ietf:x\r\n")
            .ok()
            .unwrap();
        assert_eq!(form.get("a"), Some("1 2+3"));
        assert_eq!(form.get("b"), Some("é"));
        assert_eq!(
            (form.get("c"), form.get("d"), form.get("e")),
            (None, None, None)
        );
        assert_eq!(form.get("grant_type"), Some("urn:ietf:x"));
    }

    #[test]
    fn a_repeated_parameter_and_other_text_than_utf8_are_refused() {
        assert_eq!(Form::parse("a=1&b=2&a=1").err(), Some(BodyError::Form));
        assert_eq!(Form::parse("a=1&%61=1").err(), Some(BodyError::Form));
        assert_eq!(Form::parse("a=%FF").err(), Some(BodyError::NotText));
        let many: Vec<_> = (0..=FORM_PARAMETERS_MAX)
            .map(|n| format!("p{n}=1"))
            .collect();
        assert_eq!(Form::parse(&many.join("&")).err(), Some(BodyError::Form));
        assert!(Form::parse(&many[1..].join("&")).is_ok());
    }

    fn typed(content_type: &str) -> Result<(), BodyError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        check_type(&headers, "text/xml")
    }

    #[test]
    fn other_types_charsets_and_encodings_are_refused() {
        for good in [
            "text/xml",
            "Text/XML; charset=UTF-8",
            "text/xml;charset=\"utf-8\"; x",
        ] {
            assert_eq!(typed(good), Ok(()), "{good}");
        }
        for wrong in ["", "text/plain", "text/xmlx", "application/json"] {
            assert_eq!(typed(wrong), Err(BodyError::Type("text/xml")), "{wrong}");
        }
        assert_eq!(typed("text/xml; charset=utf-16"), Err(BodyError::Charset));
        assert_eq!(
            check_type(&HeaderMap::new(), "text/xml"),
            Err(BodyError::Type("text/xml"))
        );
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/xml".parse().unwrap());
        headers.insert(CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(check_type(&headers, "text/xml"), Err(BodyError::Compressed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_end_is_waited_for_and_not_for_ever() {
        let endless =
            Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, BodyError>>());
        assert_eq!(bytes(endless).await, Err(BodyError::TooSlow));
        let large = Body::from(vec![b'a'; SIGN_IN_BODY_BYTES_MAX + 1]);
        assert_eq!(bytes(large).await, Err(BodyError::TooLarge));
        let largest = Body::from(vec![b'a'; SIGN_IN_BODY_BYTES_MAX]);
        assert_eq!(
            bytes(largest).await.map(|bytes| bytes.len()),
            Ok(SIGN_IN_BODY_BYTES_MAX)
        );
    }

    proptest! {
        #[test]
        fn a_form_never_panics(text in ".{0,200}") {
            _ = Form::parse(&text);
        }

        #[test]
        fn a_form_of_delimiters_never_panics(text in "[a%&=+0-9F]{0,200}") {
            _ = Form::parse(&text);
        }
    }
}
