//! The id of one execution of an RPC, which its responses, errors and log lines share.

use std::fmt;

/// A random UUID as text. Made when a call arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RpcId([u8; RpcId::LEN]);

impl RpcId {
    /// Characters of the text.
    pub const LEN: usize = 36;

    /// Makes a new id.
    pub fn random() -> Self {
        let mut text = [0; Self::LEN];
        uuid::Uuid::new_v4().hyphenated().encode_lower(&mut text);
        Self(text)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a UUID is ASCII")
    }
}

impl fmt::Display for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RpcId({self})")
    }
}
