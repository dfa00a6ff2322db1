//! The manual: how Tidegate is built and what it promises, in chapters.
//!
//! Nothing here is code. The chapters stand beside it so that they are read and changed with it.
//!
//! 1. [`architecture`]: the way of an event from a publisher to every subscriber.
//! 2. [`wire`]: what clients of the Pub/Sub API can rely on, and where this gateway chose.
//! 3. [`managed`]: subscriptions whose position the gateway keeps.
//! 4. [`filters`]: which of a topic's events a subscriber gets.
//! 5. [`channels`]: several topics that are subscribed to as one.
//! 6. [`http`]: publishing and subscribing without gRPC.
//! 7. [`schemas`]: how event types come to be and change, and what is refused.
//! 8. [`sign_in`]: how clients come by access tokens, and how those end.
//! 9. [`durability`]: what an acknowledgement means, and what recovery does.
//! 10. [`removal`]: how events go away, by age or by order, and what that leaves behind.
//! 11. [`idempotence`]: events that are sent again, and stored once.
//! 12. [`patterns`]: what to build out of events, and when not to.
//! 13. [`operations`]: files, metrics, health and what to do about messages.

#[doc = include_str!("architecture.md")]
pub mod architecture {}

#[doc = include_str!("wire.md")]
pub mod wire {}

#[doc = include_str!("managed.md")]
pub mod managed {}

#[doc = include_str!("filters.md")]
pub mod filters {}

#[doc = include_str!("channels.md")]
pub mod channels {}

#[doc = include_str!("http.md")]
pub mod http {}

#[doc = include_str!("schemas.md")]
pub mod schemas {}

#[doc = include_str!("durability.md")]
pub mod durability {}

#[doc = include_str!("removal.md")]
pub mod removal {}

#[doc = include_str!("sign_in.md")]
pub mod sign_in {}

#[doc = include_str!("idempotence.md")]
pub mod idempotence {}

#[doc = include_str!("patterns.md")]
pub mod patterns {}

#[doc = include_str!("operations.md")]
pub mod operations {}
