//! The metadata beside the logs: whether they are whole, and belong to them.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use tokio::io::AsyncWrite;

use super::report::DamageRow;
use crate::{
    broker::belonging::mismatches,
    cli::output::{Output, note},
    event_log::embedded::{LogReport, UNNAMED, is_in_use, log_dirs},
    metadata::{
        OpenError, Scope,
        embedded::{Inspected, SERVER_FILE, TENANT_FILE, inspect},
    },
    types::{TenantId, TopicId},
};

/// Looks at the metadata of the tenant whose log is in `log` and was found as `report` says, and
/// whether that is the tenant's log; returns the number of damaged places, each of which it wrote
/// down.
///
/// The log was looked at first: a topic is in the metadata before the log has an event of it, so
/// what a gateway does meanwhile is no mismatch.
pub(super) fn verify_tenant<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    log: &Path,
    report: &LogReport,
    output: &mut Output<W>,
) -> usize {
    let Some(tenant_dir) = log.parent() else {
        return 0;
    };
    let name = tenant_dir.file_name().and_then(|name| name.to_str());
    let Some(tenant) = name.and_then(|name| name.parse::<TenantId>().ok()) else {
        return 0;
    };
    let mut places = 0;
    if let Some(owner) = report.tenant.as_deref().filter(|t| *t != tenant.as_str()) {
        let what = format!("the log belongs to tenant {owner}");
        output.record(&DamageRow::of_file(Some(tenant.as_str()), "log", &what));
        places += 1;
    }
    let path = tenant_dir.join(TENANT_FILE);
    let damage = match inspect(&path, Scope::Tenant(tenant)) {
        // A log without events needs none.
        Err(error) if is_missing(&error) && report.topics.is_empty() => Vec::new(),
        Err(error) => vec![in_words(&error)],
        Ok(found) => {
            let mut damage = found.damage.clone();
            damage.extend(mixed_up(report, &found));
            damage
        }
    };
    places + tell(data_dir, Some(tenant.as_str()), &path, &damage, output)
}

/// Looks at the gateway's own metadata, as [`verify_tenant`] does.
pub(super) fn verify_server<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    output: &mut Output<W>,
) -> usize {
    let path = data_dir.join(SERVER_FILE);
    // What cannot be listed was told when the logs were looked for.
    let logs = log_dirs(data_dir).unwrap_or_default();
    let damage = match inspect(&path, Scope::Server) {
        Err(error) if is_missing(&error) && logs.is_empty() => Vec::new(),
        Err(error) => vec![in_words(&error)],
        Ok(found) => {
            let is_known = |tenant: &TenantId| {
                let mut known = found.tenants.iter();
                known.any(|known| known.id == tenant.as_str())
            };
            let strangers = logs.iter().filter(|(tenant, _)| !is_known(tenant));
            let strangers = strangers
                .map(|(tenant, _)| format!("it does not know tenant {tenant}, which has a log"));
            found.damage.iter().cloned().chain(strangers).collect()
        }
    };
    tell(data_dir, None, &path, &damage, output)
}

/// What shows that the log and the metadata come from different places.
fn mixed_up(report: &LogReport, metadata: &Inspected) -> Vec<String> {
    let named = report.topics.iter().filter(|topic| topic.name != UNNAMED);
    let in_log = named.map(|topic| (TopicId::new(topic.id), topic.name.clone()));
    let in_metadata = metadata.topics.iter().flat_map(|topic| {
        // A deletion that a stop interrupted is finished when the log is opened.
        let ids = topic.former_ids.iter().chain([&topic.id]);
        ids.map(|id| (TopicId::new(*id), topic.name.clone()))
    });
    let found = mismatches(in_log, &in_metadata.collect());
    let found = found.into_iter();
    found
        .map(|mismatch| format!("it does not belong to the log beside it: {mismatch}"))
        .collect()
}

/// Writes down what was found in the file at `path`, unless it may be the work of a gateway that
/// runs; returns how much that is.
fn tell<W: AsyncWrite + Unpin>(
    data_dir: &Path,
    tenant: Option<&str>,
    path: &Path,
    damage: &[String],
    output: &mut Output<W>,
) -> usize {
    if damage.is_empty() {
        return 0;
    }
    let file = path.file_name().map(PathBuf::from).unwrap_or_default();
    let file = file.to_string_lossy();
    if is_in_use(data_dir) {
        note(&format!(
            "{file} is in use by the gateway and was not checked"
        ));
        return 0;
    }
    for what in damage {
        output.record(&DamageRow::of_file(tenant, &file, what));
    }
    note(&format!(
        "A gateway does not start with such a {file}: put back the one that was kept with this log."
    ));
    damage.len()
}

fn is_missing(error: &OpenError) -> bool {
    matches!(error, OpenError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

fn in_words(error: &OpenError) -> String {
    match error {
        error if is_missing(error) => "the file is missing".to_owned(),
        OpenError::Io { source, .. } => format!("it cannot be read: {source}"),
        error => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}
