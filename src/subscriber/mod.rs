//! The subscriber: a client that never loses its place, against this gateway and the hosted endpoint
//! alike.
//!
//! [`Subscriber::builder`] says what to subscribe to and where the position is kept.
//! [`Subscriber::start`] begins; what comes is read as a stream of [`Item`]s, and each event is
//! told to be handled by [`Delivery::done`]; or a [`Handler`] is run for each event, with retries and dead
//! letters. Either way:
//!
//! - **Streams that break are opened again**, behind the last event that was received: after an error,
//!   an end, or too long a silence. Waits grow, and differ, so that many clients do not come back in
//!   step. What cannot pass (no such topic, no right to it) is told at once.
//! - **The position is saved** once everything before it is handled, and while nothing comes, too: a
//!   quiet topic's position does not age out. The next process goes on there.
//! - **A position that is refused** is left as [`RejectedReplay`] says, once, and the [`Gap`] is told.
//! - **A token that expired** is renewed once, and the stream resumed where it was.
//! - **Flow control needs one number**: how many events may be in flight. More are asked for as fast as
//!   events are handled.
//! - **Each event is decoded by its own schema**; one that cannot be is told as such, alone.
//!
//! Delivery is at least once: after a crash the events since the last saved position come again, and a
//! publisher that retries stores an event twice. With a store of event ids ([`dedupe`](DedupeStore))
//! an event that is recorded as handled is not handled again.
//!
//! # Examples
//!
//! ```no_run
//! use tidegate::{client::Endpoint, subscriber::{CheckpointFile, Item, Start, Subscriber}};
//!
//! # async fn example(endpoint: Endpoint) -> Result<(), Box<dyn std::error::Error>> {
//! let connection = endpoint.connect().await?;
//! let tenant = connection.tenant_id();
//! let mut events = Subscriber::builder(connection)
//!     .topic("/event/OrderCreated__e".parse()?)
//!     .start_at(Start::Earliest)
//!     .checkpoints(CheckpointFile::open("orders.checkpoint", tenant)?)
//!     .build()?
//!     .start();
//! while let Some(item) = events.next().await? {
//!     if let Item::Event(event) = item {
//!         println!("{}", event.json()?);
//!         event.done();
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Source: the public Pub/Sub API Developer Guide, "Subscribe", "Event Message Durability", "Handle
//! Errors".

mod builder;
mod change;
mod checkpoint;
mod dead_letter;
mod dedupe;
mod ending;
mod error;
mod event;
mod events;
mod flow;
mod handler;
mod item;
mod lane;
mod metrics;
mod progress;
mod redelivery;
mod replay_id;
mod run;
mod saving;
mod schemas;
mod state;
mod status;
mod stream;
mod task;
mod wire;

pub use builder::{Builder, RejectedReplay, Subscriber};
pub use change::{ChangeEvent, Field, RecordChange};
pub use checkpoint::{Checkpoint, CheckpointFile, CheckpointStore};
pub use dead_letter::{
    DeadLetter, DeadLetterDirectory, DeadLetterStore, LetterId, LetterIdError, MemoryDeadLetters,
};
pub use dedupe::{DedupeStore, DedupeWindow};
pub use error::SubscribeError;
pub use event::{DecodeError, Delivery, Event};
pub use events::{Events, ItemStream, Monitor};
pub use handler::{Attempt, Handler, HandlerFn, Order, Outcome, RetryPolicy, handler_fn};
pub use item::{Disconnected, Gap, Item, Reconnected};
pub use replay_id::{OpaqueReplayId, OpaqueReplayIdError, ReplayIdTextError, Start, StartError};
pub use run::{Notice, Redriven, Run};
pub use state::{Changes, MemoryState, StateFile, StateStore, StoreError};
pub use status::{Counters, State, Status};
pub use wire::ManagedKey;

// A scripted gateway takes the server's half of the RPC library.
#[cfg(all(test, feature = "server"))]
mod tests;
