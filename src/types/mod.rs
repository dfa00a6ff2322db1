//! The vocabulary that every layer shares: parsed once, trusted afterwards.
//!
//! Each type has one fallible constructor and no setters, so a value that exists is valid. Nothing
//! here does I/O, reads a clock or knows another module.

pub mod event;
pub mod limits;
pub mod moment;
pub mod platform_id;
pub mod principal;
pub mod replay_id;
pub mod rpc_id;
pub mod schema_id;
pub mod subscription;
pub mod tenant;
pub mod topic;

pub use event::{EventError, EventView};
pub use moment::{Moment, MomentError};
pub use platform_id::{PlatformId, PlatformIdError};
pub use principal::{Grants, Principal, SignedIn, TopicPattern};
pub use replay_id::{Position, ReplayId, ReplayIdError};
pub use rpc_id::RpcId;
pub use schema_id::{SchemaId, SchemaIdError};
pub use subscription::{
    Replay, ReplayError, RunState, RunStateError, Start, Takeover, TakeoverError,
};
pub use tenant::{TenantId, TenantIdError};
pub use topic::{TopicId, TopicKind, TopicName, TopicNameError};
