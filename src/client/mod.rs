//! The client side of a connection to this gateway or to the hosted endpoint.
//!
//! [`Endpoint::connect`] makes one HTTP/2 connection, which every call shares and which mends itself
//! after a break; each call carries who makes it. Errors are typed and know whether a second try
//! can help. Nothing here reads the environment: what to connect to is passed in.
//!
//! What is sent and received is the caller's business; so is resuming a stream after a break.
//!
//! Source: the public Pub/Sub API Developer Guide, "Include Authorization Headers" and "Handle
//! Errors".

pub mod backoff;
pub mod connect;
pub mod dial;
pub mod error;
pub(crate) mod http;
mod managed;
#[cfg(feature = "cli")]
mod probe;
pub mod profile;
pub mod sign_in;
mod subscription;

pub use backoff::Backoff;
pub use connect::{Connection, Credentials, Endpoint, EndpointUrl, EndpointUrlError};
pub use dial::{ClientCertificate, Proxy, ProxyUrl, ProxyUrlError};
pub use error::{CallError, ClientError, ConnectError};
pub use managed::ManagedSubscription;
pub use profile::{Profile, ProfileError};
pub use sign_in::{
    ClientSecret, CredentialSource, Grant, LoginUrl, LoginUrlError, Secret, SignIn, SignInError,
};
pub use subscription::{Granted, Subscription, Wishes};

// A gateway to connect to takes the server's half of the RPC library.
#[cfg(all(test, feature = "server"))]
mod tests;
