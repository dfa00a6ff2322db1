//! Forms that sign in, and the bodies they come in.

use axum::{extract::Request, http::StatusCode};
use percent_encoding::percent_decode_str;

use crate::{
    http::body::{Bodies, BodyError, TextBody, Wanted},
    types::limits::{FORM_PARAMETERS_MAX, SIGN_IN_BODY_BYTES_MAX, SIGN_IN_BODY_TIMEOUT},
};

/// Why a form was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FormError {
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error("the body is not text in UTF-8")]
    NotText,
    #[error("the form is malformed, or has a parameter more than once")]
    Form,
}

impl FormError {
    /// The status of a refusal, and its word in OAuth.
    pub(super) fn refusal(&self) -> (StatusCode, &'static str) {
        let status = match self {
            Self::Body(error) => error.status(),
            Self::NotText | Self::Form => StatusCode::BAD_REQUEST,
        };
        match status {
            StatusCode::SERVICE_UNAVAILABLE => (status, "temporarily_unavailable"),
            status => (status, "invalid_request"),
        }
    }
}

/// The body of a request as text, if it is of the content type `content_type`.
pub(super) async fn text(
    bodies: &Bodies,
    request: Request,
    content_type: &'static str,
) -> Result<TextBody, BodyError> {
    let (parts, body) = request.into_parts();
    let wanted = Wanted {
        content_type,
        bytes_max: SIGN_IN_BODY_BYTES_MAX,
        within: SIGN_IN_BODY_TIMEOUT,
    };
    bodies.text(&parts.headers, body, wanted).await
}

/// Parameters of a form or a query, by name.
pub(super) struct Form {
    parameters: Vec<(String, String)>,
    /// Kept for its room, which the parameters take as well.
    _body: Option<TextBody>,
}

impl Form {
    /// The form in the body of a request.
    pub(super) async fn read(bodies: &Bodies, request: Request) -> Result<Self, FormError> {
        let body = text(bodies, request, "application/x-www-form-urlencoded").await?;
        let form = Self::parse(body.text())?;
        Ok(Self {
            _body: Some(body),
            ..form
        })
    }

    /// The parameters in `text`. Each is there once, as RFC 6749 §3.2 asks.
    pub(super) fn parse(text: &str) -> Result<Self, FormError> {
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
                return Err(FormError::Form);
            }
            parameters.push((name, value));
        }
        Ok(Self {
            parameters,
            _body: None,
        })
    }

    /// The parameter of this name, unless it is absent or empty, which RFC 6749 says is the same.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }
}

/// The text of a parameter's name or value, or of credentials that are encoded like it.
pub(super) fn decode(text: &str) -> Result<String, FormError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    Ok(decoded.map_err(|_| FormError::NotText)?.into_owned())
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
        let many: Vec<_> = (0..=FORM_PARAMETERS_MAX)
            .map(|n| format!("p{n}=1"))
            .collect();
        for form in ["a=1&b=2&a=1", "a=1&%61=1", &many.join("&")] {
            let refused = Form::parse(form).err();
            assert!(matches!(refused, Some(FormError::Form)), "{form}");
        }
        let refused = Form::parse("a=%FF").err();
        assert!(matches!(refused, Some(FormError::NotText)));
        assert!(Form::parse(&many[1..].join("&")).is_ok());
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
