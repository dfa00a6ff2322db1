//! Services that everything above may use: how the process stops, certificates and TLS, and the
//! profile by which clients on the same machine find a gateway.

#[cfg(feature = "client")]
pub mod child_group;
#[cfg(feature = "server")]
pub mod dev_certs;
pub mod profile;
pub mod shutdown;
#[cfg(feature = "server")]
pub mod tls;
pub mod whole_file;
