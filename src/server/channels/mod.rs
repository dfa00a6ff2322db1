//! The file of channels: applied at the start, and at no other time.

pub mod file;

use std::{path::Path, sync::Arc};

use anyhow::Context;

use crate::{
    broker::{ApplyOptions, ApplyOutcome, Broker},
    types::{Grants, Principal, SignedIn, TenantId},
};

/// Makes the tenant's channels be as the file at `path` lists them. Those that it does not name stay, since
/// administrators make channels too.
pub(super) async fn apply(broker: &Broker, tenant: TenantId, path: &Path) -> anyhow::Result<()> {
    let channels = file::read(path)?;
    let gateway = Principal {
        tenant,
        name: "gateway".into(),
        grants: Arc::new(Grants::default()),
        signed_in: SignedIn::default(),
    };
    let applied = broker.apply_channels(&gateway, channels, ApplyOptions::default());
    let applied = applied
        .await
        .with_context(|| format!("the channels of {} cannot be applied", path.display()))?;
    for channel in applied {
        if channel.outcome != ApplyOutcome::Unchanged {
            let (name, file) = (channel.name, path.display());
            tracing::info!(channel = %name, %file, "{} a channel", channel.outcome);
        }
    }
    Ok(())
}
