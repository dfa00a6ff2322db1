//! What the gateway is told: settings from a file, the environment and flags, checked once.
//!
//! A setting is a key in a section: `data_dir` in `[server]`. The layers, each over the one before:
//! the defaults of [`limits`](crate::types::limits), a TOML file, the environment ([`mod@env`]),
//! flags. [`load`] reads them all and resolves them into [`Settings`], or reports every problem
//! there is: a key that does not exist, a value that is none, settings that do not go together.
//! Nothing else in the process looks at a raw value again.
//!
//! No setting is a secret, so values are shown as they are: certificates, keys and tokens are named
//! by their files. A URL with a password in it is refused, and the password shown as `***`.
//!
//! This module says what a setting may be, not what it does: whether a directory can be written or
//! a certificate fits its key shows when they are used.

pub mod env;
mod file;
mod flags;
mod keys;
mod load;
mod problem;
mod rules;
mod settings;
mod show;
mod unknown;
mod value;

pub use flags::ServeFlags;
pub use load::{Effective, load};
pub use problem::{Layer, Problem, Problems};
pub use settings::Settings;

#[cfg(test)]
mod tests;
