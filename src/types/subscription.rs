//! Where a subscription starts, and how a managed one may be configured.

use super::Position;

/// The position a subscription starts after, as a subscriber names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// After the newest event at the moment of asking.
    Latest,
    /// At the oldest event that is retained.
    Earliest,
    /// After this position.
    After(Position),
}

/// Defines an enum of words that configurations are written in.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $error:ident, $what:literal: $($(#[$word_doc:meta])* $word:ident = $text:literal,)*) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name {
            $($(#[$word_doc])* $word,)*
        }

        impl $name {
            /// The word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $error;

            /// Reads the word in either case.
            fn from_str(text: &str) -> Result<Self, $error> {
                $(if text.eq_ignore_ascii_case($text) {
                    return Ok(Self::$word);
                })*
                Err($error)
            }
        }

        /// The text is not one of the words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error("{} is one of {}", $what, [$($text),*].join(", "))]
        pub struct $error;
    };
}

words! {
    /// Where a managed subscription goes on that has no position, or one that is no longer valid.
    Replay, ReplayError, "a replay":
    /// After the newest event.
    #[default]
    Latest = "LATEST",
    /// At the oldest event that is retained.
    Earliest = "EARLIEST",
}

impl Replay {
    /// The start it stands for.
    pub fn start(self) -> Start {
        match self {
            Self::Latest => Start::Latest,
            Self::Earliest => Start::Earliest,
        }
    }
}

words! {
    /// Whether a managed subscription may be subscribed to.
    RunState, RunStateError, "a state":
    /// It may.
    #[default]
    Run = "RUN",
    /// Its streams end and none begins.
    Stop = "STOP",
}

words! {
    /// Which of two streams has a managed subscription.
    Takeover, TakeoverError, "a takeover":
    /// The one that has it: the other is refused.
    #[default]
    Refuse = "refuse",
    /// The newest: the other ends.
    Newest = "newest",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_either_case_and_others_are_refused() {
        assert_eq!("latest".parse(), Ok(Replay::Latest));
        assert_eq!("EARLIEST".parse(), Ok(Replay::Earliest));
        assert_eq!("Stop".parse(), Ok(RunState::Stop));
        assert_eq!("newest".parse(), Ok(Takeover::Newest));
        let error = "PAUSE".parse::<RunState>().unwrap_err();
        assert_eq!(error.to_string(), "a state is one of RUN, STOP");
        assert!("".parse::<Replay>().is_err());
    }
}
