//! Compatibility levels: which earlier versions a new one is held against, and in which direction.

use std::{fmt, str::FromStr};

use super::Direction;

/// What a new version of a schema has to be compatible with.
///
/// `backward`: readers with the new version read what was written with the current one; `forward`:
/// readers with the current version read what is written with the new one; `full`: both. The transitive
/// levels ask that of every version that is not retired, not of the current one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Level {
    /// Anything goes.
    None,
    /// The new version reads the current one.
    #[default]
    Backward,
    /// The new version reads every version.
    BackwardTransitive,
    /// The current version reads the new one.
    Forward,
    /// Every version reads the new one.
    ForwardTransitive,
    /// The new and the current version read each other.
    Full,
    /// The new version and every other read each other.
    FullTransitive,
}

impl Level {
    /// Every level.
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// The word for the level, in settings, commands and storage.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Backward => "backward",
            Self::BackwardTransitive => "backward_transitive",
            Self::Forward => "forward",
            Self::ForwardTransitive => "forward_transitive",
            Self::Full => "full",
            Self::FullTransitive => "full_transitive",
        }
    }

    /// In which directions versions are compared.
    pub fn directions(self) -> &'static [Direction] {
        match self {
            Self::None => &[],
            Self::Backward | Self::BackwardTransitive => &[Direction::Backward],
            Self::Forward | Self::ForwardTransitive => &[Direction::Forward],
            Self::Full | Self::FullTransitive => &[Direction::Backward, Direction::Forward],
        }
    }

    /// Whether every version counts and not the current one alone.
    pub fn is_transitive(self) -> bool {
        matches!(
            self,
            Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive
        )
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(text: &str) -> Result<Self, LevelError> {
        let mut levels = Self::ALL.into_iter();
        levels
            .find(|level| level.as_str() == text)
            .ok_or(LevelError)
    }
}

/// The text is no compatibility level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a compatibility level is none, backward, backward_transitive, forward, forward_transitive, full or \
     full_transitive"
)]
pub struct LevelError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_named_as_they_are_read() {
        for level in Level::ALL {
            assert_eq!(level.as_str().parse(), Ok(level));
            assert!(LevelError.to_string().contains(level.as_str()));
        }
        assert_eq!("BACKWARD".parse::<Level>(), Err(LevelError));
        assert_eq!(Level::default(), Level::Backward);
    }
}
