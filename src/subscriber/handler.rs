//! What is done with each event, what it may come to, and how often it is tried.

use std::{fmt, sync::Arc, time::Duration};

use super::Event;
use crate::client::Backoff;

/// Handles events. Called for one event after the other, or for several at once, as [`Order`] says.
///
/// A handler that panics, or takes longer than [`RetryPolicy::timeout`], failed this time. Its future is
/// dropped at the timeout, and when the subscriber ends: what it does should bear to be cut off at an
/// await, since the event is handled again then.
pub trait Handler: Send + Sync {
    /// Handles an event; `attempt` tells how often it was tried.
    fn handle(&self, event: &Arc<Event>, attempt: Attempt) -> impl Future<Output = Outcome> + Send;
}

/// What came of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is handled.
    Done,
    /// It failed this time, for this reason; it is tried again after a while.
    Retry(String),
    /// No further try will help, for this reason: it becomes a dead letter.
    Park(String),
}

/// What fails is tried again.
impl<E: fmt::Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) => Self::Retry(error.to_string()),
        }
    }
}

/// A try at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Counted from 1, in this process.
    pub number: u32,
}

/// A handler that is a function.
pub struct HandlerFn<F>(F);

/// Makes a handler of a function that returns a future.
///
/// # Examples
///
/// ```
/// use tidegate::subscriber::{Outcome, handler_fn};
///
/// let handler = handler_fn(async |event| match event.json() {
///     Ok(order) => {
///         println!("{order}");
///         Outcome::Done
///     }
///     Err(error) => Outcome::Park(error.to_string()),
/// });
/// # let _: &dyn std::any::Any = &handler;
/// ```
pub fn handler_fn<F, Fut>(handle: F) -> HandlerFn<F>
where
    F: Fn(Arc<Event>) -> Fut + Send + Sync,
    Fut: Future<Output = Outcome> + Send,
{
    HandlerFn(handle)
}

impl<F, Fut> Handler for HandlerFn<F>
where
    F: Fn(Arc<Event>) -> Fut + Send + Sync,
    Fut: Future<Output = Outcome> + Send,
{
    async fn handle(&self, event: &Arc<Event>, _attempt: Attempt) -> Outcome {
        (self.0)(Arc::clone(event)).await
    }
}

impl<F> fmt::Debug for HandlerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerFn").finish_non_exhaustive()
    }
}

/// Tells the key of an event.
type KeyOf = dyn Fn(&Event) -> Option<String> + Send + Sync;

/// Which events wait for which.
#[derive(Clone, Default)]
pub enum Order {
    /// Each waits for all of its topic before it: one that fails holds up the rest until it is handled
    /// or parked.
    #[default]
    InOrder,
    /// Each waits for those with its key before it; other keys go on. An event without a key waits for
    /// none.
    PerKey(Arc<KeyOf>),
    /// None waits.
    Unordered,
}

impl Order {
    /// Keeps the order of events with the same value of a field, such as `Order_Number__c`. Events
    /// whose field is null have no key.
    pub fn by_field(field: impl Into<String>) -> Self {
        let field = field.into();
        Self::PerKey(Arc::new(move |event| {
            match event.json().ok()?.get(&field)? {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            }
        }))
    }

    /// Keeps the order of change events of the same record. One of several records waits for those of
    /// its first.
    pub fn by_record() -> Self {
        Self::PerKey(Arc::new(|event| {
            let payload = event.json().ok()?;
            let ids = payload.get("ChangeEventHeader")?.get("recordIds")?;
            Some(ids.get(0)?.as_str()?.to_owned())
        }))
    }

    /// What the event waits for; `None` if it waits for nothing.
    pub(super) fn key(&self, event: &Event) -> Option<String> {
        match self {
            Self::InOrder => Some(String::new()),
            Self::PerKey(key_of) => key_of(event),
            Self::Unordered => None,
        }
    }
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InOrder => "InOrder",
            Self::PerKey(_) => "PerKey",
            Self::Unordered => "Unordered",
        })
    }
}

/// How often and how long an event is tried.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// The wait after the first failure; each further one is twice as long, with some chance.
    pub first_wait: Duration,
    /// The longest wait.
    pub longest_wait: Duration,
    /// Tries after which an event becomes a dead letter; without a number, it is tried for ever.
    pub attempts_max: Option<u32>,
    /// How long one try may take; without one, as long as it likes.
    pub timeout: Option<Duration>,
}

impl Default for RetryPolicy {
    /// Ten tries over some 17 minutes, of five minutes each at most.
    fn default() -> Self {
        Self {
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(5 * 60),
            attempts_max: Some(10),
            timeout: Some(Duration::from_secs(5 * 60)),
        }
    }
}

impl RetryPolicy {
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.first_wait, self.longest_wait)
    }
}
