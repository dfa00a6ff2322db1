//! What a first start makes and later ones find: a tenant, an administrator's token, certificates.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;

use super::Config;
use crate::{
    auth::token::TokenStore,
    clock::{Clock, Timestamp},
    event_log::DataDir,
    metadata::{
        Expected, MetadataStore, Scope,
        embedded::SERVER_FILE,
        records::{self, Stored, TenantRecord},
    },
    net::{
        dev_certs,
        profile::{PROFILE_FILE, Profile, ProfileError},
        tls::{self, Alpn},
        whole_file::{self, is_disk_full},
    },
    types::{Grants, TenantId, TopicPattern},
};

/// What the TLS listeners show, and the file with the authority that clients have to trust.
pub(super) struct Certificate {
    pub(super) ca: PathBuf,
    pub(super) grpc: Arc<rustls::ServerConfig>,
    pub(super) https: Arc<rustls::ServerConfig>,
}

impl Certificate {
    fn read(ca: &Path, cert: &Path, key: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            ca: std::path::absolute(ca).context("the certificate's path")?,
            grpc: tls::server_config(cert, key, Alpn::Grpc)?,
            https: tls::server_config(cert, key, Alpn::Https)?,
        })
    }
}

/// The configured certificate, or a development certificate kept in `home`.
pub(super) fn certificate(
    config: &Config,
    home: &Path,
    now: Timestamp,
) -> anyhow::Result<Certificate> {
    if let (Some(cert), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) {
        // Clients trust whoever issued it; the chain is the best that can be handed to them.
        return Certificate::read(cert, cert, key);
    }
    let dir = home.join(dev_certs::DIR_NAME);
    let made = dev_certs::ensure(&dir, &[], now)?;
    if made.created {
        tracing::info!("made a development certificate in {}", dir.display());
    }
    Certificate::read(&made.ca, &made.cert, &made.key)
}

/// The gateway's own tenant: the oldest, which a first start makes.
pub(super) async fn tenant(
    store: &dyn MetadataStore,
    clock: &dyn Clock,
) -> anyhow::Result<TenantId> {
    let tenants = records::list::<TenantRecord>(store, Scope::Server).await?;
    if let Some(TenantRecord { id, .. }) = oldest(&tenants) {
        return id
            .parse()
            .with_context(|| format!("the stored tenant id {id:?}"));
    }
    let mut random = [0; 12];
    getrandom::fill(&mut random).context("the system has no randomness")?;
    let id = TenantId::from_random(random);
    let record = TenantRecord {
        id: id.to_string(),
        created_at_ms: clock.now().as_millis(),
    };
    store
        .write(
            Scope::Server,
            vec![records::change(&record, Expected::Absent)],
        )
        .await?;
    tracing::info!(tenant_id = %id, "made the tenant");
    Ok(id)
}

/// Refuses a directory whose tenants are not those of its `server.redb`: with a new tenant, or that
/// of another directory, a gateway would serve nothing of what is there and say nothing about it.
pub(super) async fn check_tenants(
    store: &dyn MetadataStore,
    data_dir: &DataDir,
) -> anyhow::Result<()> {
    let known = records::list::<TenantRecord>(store, Scope::Server).await?;
    let has_files = |tenant: &TenantId| {
        let files = std::fs::read_dir(data_dir.tenant_dir(*tenant));
        files.is_ok_and(|mut files| files.next().is_some())
    };
    let ids: HashSet<_> = known.iter().map(|known| known.record.id.as_str()).collect();
    let there = data_dir.tenants().context("cannot list the tenants")?;
    let mut strangers: Vec<_> = there
        .into_iter()
        .filter(|tenant| !ids.contains(tenant.as_str()) && has_files(tenant))
        .collect();
    strangers.sort_by_key(ToString::to_string);
    let Some(stranger) = strangers.first() else {
        return Ok(());
    };
    let stranger = data_dir.tenant_dir(*stranger);
    let server = data_dir.path().join(SERVER_FILE);
    let (stranger, server) = (stranger.display(), server.display());
    let own = oldest(&known).and_then(|own| own.id.parse().ok());
    anyhow::ensure!(
        own.is_some_and(|own| has_files(&own)),
        "{stranger} holds files of a tenant that {server} does not know: that file is missing or of \
         another data directory; put back the one that belongs here, or start with an empty data \
         directory"
    );
    tracing::warn!(
        tenants = strangers.len(),
        "{stranger} is of a tenant that {server} does not know; it is left alone"
    );
    Ok(())
}

fn oldest(tenants: &[Stored<TenantRecord>]) -> Option<&TenantRecord> {
    let records = tenants.iter().map(|found| &found.record);
    records.min_by_key(|record| (record.created_at_ms, &record.id))
}

/// The administrator's token: the one in the profile, or a new one if there is no profile.
pub(super) async fn access_token(
    tokens: &TokenStore,
    tenant: TenantId,
    home: &Path,
) -> anyhow::Result<String> {
    match Profile::read(home) {
        // A profile of another data directory was copied here: its token opens nothing.
        Ok(profile) if profile.tenant_id == tenant => return Ok(profile.access_token),
        Ok(_) | Err(ProfileError::Missing(_)) => {}
        Err(error) => {
            anyhow::bail!("{error}; remove it to have a new administrator's token made");
        }
    }
    let grants = Grants {
        publish: vec![TopicPattern::every()],
        subscribe: vec![TopicPattern::every()],
        change_events: true,
        admin: true,
    };
    let (_, token) = tokens.create(tenant, "administrator", grants, None).await?;
    tracing::info!("made an administrator's token; it is in the profile");
    Ok(token.expose().to_owned())
}

/// Writes the profile into `home`.
///
/// A full disk must not keep anyone from reading: an earlier profile stays then, which tells how to
/// reach this gateway too, unless its addresses have changed.
pub(super) fn write_profile(home: &Path, profile: &Profile) -> anyhow::Result<()> {
    let earlier = Profile::read(home);
    match (profile.write(home), earlier) {
        (Err(error), Ok(earlier)) if is_disk_full(&error) => {
            if earlier != *profile {
                tracing::warn!(
                    "the disk is full: {PROFILE_FILE} still tells the addresses of an earlier run"
                );
            }
            Ok(())
        }
        (written, _) => {
            written.with_context(|| format!("cannot write {}", home.join(PROFILE_FILE).display()))
        }
    }
}

/// Writes the file that tells scripts how to reach the gateway: readable by its owner alone, and
/// never seen half-written.
pub(super) fn write_ready_file(path: &Path, profile: &Profile) -> anyhow::Result<()> {
    let mut ready = serde_json::to_value(profile).context("the ready file")?;
    ready["pid"] = std::process::id().into();
    let text = format!("{ready}\n");
    whole_file::write(path, text.as_bytes(), whole_file::SECRET)
        .with_context(|| format!("cannot write the ready file {}", path.display()))
}
