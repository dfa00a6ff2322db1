//! The envelope of a SOAP request, read for the one operation there is.
//!
//! No document type, so no entity of anyone's own; the five that XML has, and characters by number,
//! are all that is replaced. Depth and size are bounded, and what is not looked for is passed over.

use quick_xml::{
    Reader,
    events::{BytesRef, Event},
};

use crate::types::limits::SOAP_DEPTH_MAX;

/// What `login` is called with.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) username: String,
    pub(super) password: String,
}

/// The password is a secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(***)")
    }
}

/// Why a request is not a call of `login`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestError {
    /// Not XML, or not as a whole.
    #[error("the request is not well-formed XML")]
    Malformed,
    /// Something that XML has and this gateway does not read.
    #[error("the request has a document type or an entity, which are not read")]
    Entity,
    /// An encoding that is declared and not read.
    #[error("the request declares another encoding than UTF-8")]
    Encoding,
    /// Elements within elements.
    #[error("the request has elements more than {SOAP_DEPTH_MAX} deep")]
    Depth,
    /// XML that is no envelope with an operation.
    #[error("the request is not a SOAP envelope with one operation in its body")]
    Envelope,
    /// Another operation.
    #[error("no operation available for request {0}; there is login")]
    Operation(String),
    /// Something that the operation takes, missing or repeated.
    #[error("login takes one username and one password, each of text")]
    Arguments,
}

/// Reads a call of `login`.
pub(super) fn parse(text: &str) -> Result<Credentials, RequestError> {
    let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}'));
    reader.config_mut().expand_empty_elements = true;
    let mut found = Found::default();
    loop {
        match reader.read_event().map_err(|_| RequestError::Malformed)? {
            Event::Start(element) => found.start(element.local_name().as_ref())?,
            Event::End(_) => found.end(),
            Event::Text(text) => found.text(&text.xml10_content())?,
            Event::CData(text) => found.text(&text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let mut buffer = [0; 4];
                found.text(resolve(&reference)?.encode_utf8(&mut buffer))?;
            }
            Event::Decl(declaration) => {
                if let Some(encoding) = declaration.encoding() {
                    let encoding = encoding.map_err(|_| RequestError::Malformed)?;
                    if !encoding.eq_ignore_ascii_case("utf-8") {
                        return Err(RequestError::Encoding);
                    }
                }
            }
            Event::DocType(_) => return Err(RequestError::Entity),
            Event::Comment(_) | Event::PI(_) | Event::Empty(_) => {}
            Event::Eof => return found.finish(),
        }
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, RequestError> {
    let character = reference.resolve_char_ref();
    if let Some(character) = character.map_err(|_| RequestError::Malformed)? {
        return Ok(character);
    }
    match &*reference.xml10_content() {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => Err(RequestError::Entity),
    }
}

/// Where the reader is, and what it has passed.
#[derive(Default)]
struct Found {
    /// Local names of the elements it is in.
    path: Vec<String>,
    has_envelope: bool,
    has_body: bool,
    operation: Option<String>,
    username: Option<String>,
    password: Option<String>,
}

impl Found {
    fn start(&mut self, name: &str) -> Result<(), RequestError> {
        if self.path.len() >= SOAP_DEPTH_MAX {
            return Err(RequestError::Depth);
        }
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let envelope_error = Err(RequestError::Envelope);
        match path[..] {
            [] if name != "Envelope" || self.has_envelope => return envelope_error,
            [] => self.has_envelope = true,
            ["Envelope"] if name == "Body" => {
                if self.has_body {
                    return envelope_error;
                }
                self.has_body = true;
            }
            ["Envelope", "Body"] => {
                if self.operation.is_some() {
                    return envelope_error;
                }
                self.operation = Some(name.to_owned());
            }
            ["Envelope", "Body", "login"] => {
                let argument = match name {
                    "username" => &mut self.username,
                    "password" => &mut self.password,
                    _ => return self.enter(name),
                };
                if argument.is_some() {
                    return Err(RequestError::Arguments);
                }
                *argument = Some(String::new());
            }
            ["Envelope", "Body", "login", "username" | "password", ..] => {
                return Err(RequestError::Arguments);
            }
            _ => {}
        }
        self.enter(name)
    }

    fn enter(&mut self, name: &str) -> Result<(), RequestError> {
        self.path.push(name.to_owned());
        Ok(())
    }

    fn end(&mut self) {
        // The reader has compared the names.
        self.path.pop();
    }

    fn text(&mut self, text: &str) -> Result<(), RequestError> {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        match path[..] {
            [] if !text.trim().is_empty() => return Err(RequestError::Malformed),
            ["Envelope", "Body", "login", "username"] => {
                self.username.get_or_insert_default().push_str(text);
            }
            ["Envelope", "Body", "login", "password"] => {
                self.password.get_or_insert_default().push_str(text);
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<Credentials, RequestError> {
        if !self.path.is_empty() {
            return Err(RequestError::Malformed);
        }
        match self.operation {
            None => return Err(RequestError::Envelope),
            Some(operation) if operation != "login" => {
                let operation = operation.chars().take(OPERATION_CHARS_SHOWN).collect();
                return Err(RequestError::Operation(operation));
            }
            Some(_) => {}
        }
        match (self.username, self.password) {
            (Some(username), Some(password)) => Ok(Credentials { username, password }),
            _ => Err(RequestError::Arguments),
        }
    }
}

/// Longer names are cut in faults.
const OPERATION_CHARS_SHOWN: usize = 80;

#[cfg(test)]
mod tests;
