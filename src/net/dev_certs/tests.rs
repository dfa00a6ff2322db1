use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::{
    clock::{Clock, SystemClock},
    net::tls::tests::handshake,
};

/// The TLS library of the handshakes reads the real clock.
fn today() -> Timestamp {
    SystemClock.now()
}

fn after(days: u64) -> Timestamp {
    let millis = i64::try_from(super::days(days).as_millis()).unwrap();
    Timestamp::from_millis(today().as_millis() + millis)
}

fn fresh() -> (TempDir, DevCerts) {
    let dir = tempfile::tempdir().unwrap();
    let certs = ensure(dir.path(), &[], today()).unwrap();
    assert!(certs.created);
    (dir, certs)
}

fn connects(ca: &Path, certs: &DevCerts, name: &str) -> bool {
    let server = tls::server_config(&certs.cert, &certs.key, Alpn::Grpc).unwrap();
    handshake(server, ca, name, &[b"h2"]).is_ok()
}

#[test]
fn client_that_trusts_the_authority_accepts_the_server_by_its_local_names_only() {
    let (_dir, certs) = fresh();
    for name in LOCAL_NAMES {
        assert!(connects(&certs.ca, &certs, name), "{name}");
    }
    assert!(!connects(&certs.ca, &certs, "events.example.com"));
    assert!(!connects(&certs.ca, &certs, "127.0.0.2"));
}

#[test]
fn client_that_trusts_another_authority_refuses_the_server() {
    let (_other, other) = fresh();
    let (_dir, certs) = fresh();
    assert!(!connects(&other.ca, &certs, "localhost"));
}

#[test]
fn second_call_changes_nothing() {
    let (dir, certs) = fresh();
    let files = ["ca.pem", "ca.key", "server.pem", "server.key"];
    let contents = || files.map(|file| fs::read(dir.path().join(file)).unwrap());
    let before = contents();
    let again = ensure(dir.path(), &["localhost".to_owned()], after(300)).unwrap();
    assert!(!again.created);
    assert_eq!(
        (again.ca, again.cert, again.key),
        (certs.ca, certs.cert, certs.key)
    );
    assert_eq!(contents(), before);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), files.len());
}

#[test]
fn keys_are_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("tls");
    ensure(&dir, &[], today()).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("ca.key")), 0o600);
    assert_eq!(mode(&dir.join("server.key")), 0o600);
}

#[test]
fn draft_left_open_to_all_does_not_lend_its_mode_to_a_key() {
    let dir = tempfile::tempdir().unwrap();
    let draft = dir.path().join("server.tmp");
    fs::write(&draft, "cut off").unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o666)).unwrap();
    let certs = ensure(dir.path(), &[], today()).unwrap();
    let mode = fs::metadata(&certs.key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn new_name_is_added_by_the_same_authority() {
    let (dir, first) = fresh();
    let copy = dir.path().join("copy.pem");
    fs::copy(&first.ca, &copy).unwrap();
    let names = ["events.example.com".to_owned(), "10.1.2.3".to_owned()];
    let second = ensure(dir.path(), &names, today()).unwrap();
    assert!(second.created);
    for name in ["localhost", "events.example.com", "10.1.2.3"] {
        assert!(connects(&copy, &second, name), "{name}");
    }
    assert!(!ensure(dir.path(), &[], today()).unwrap().created);
}

#[test]
fn certificate_is_renewed_thirty_days_before_its_end() {
    let (dir, certs) = fresh();
    let old = fs::read(&certs.cert).unwrap();
    assert!(!ensure(dir.path(), &[], after(397 - 31)).unwrap().created);
    assert!(ensure(dir.path(), &[], after(397 - 29)).unwrap().created);
    assert_ne!(fs::read(&certs.cert).unwrap(), old);
}

#[test]
fn certificate_from_the_future_is_replaced() {
    let (dir, _) = fresh();
    let long_ago = Timestamp::from_millis(0);
    assert!(ensure(dir.path(), &[], long_ago).unwrap().created);
}

#[test]
fn every_time_a_clock_can_show_is_survived() {
    for now in [i64::MIN, -1, 0, i64::MAX] {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp::from_millis(now);
        assert!(ensure(dir.path(), &[], now).unwrap().created);
        assert!(!ensure(dir.path(), &[], now).unwrap().created);
    }
}

#[test]
fn damaged_missing_or_foreign_files_are_made_good() {
    let (dir, certs) = fresh();
    let (_other, other) = fresh();
    for file in [&certs.ca, &certs.cert, &certs.key] {
        fs::write(file, "damaged").unwrap();
        assert!(ensure(dir.path(), &[], today()).unwrap().created);
        fs::remove_file(file).unwrap();
        assert!(ensure(dir.path(), &[], today()).unwrap().created);
        assert!(connects(&certs.ca, &certs, "localhost"));
    }
    for (file, foreign) in [
        (&certs.ca, &other.ca),
        (&certs.cert, &other.cert),
        (&certs.key, &other.key),
    ] {
        fs::copy(foreign, file).unwrap();
        assert!(ensure(dir.path(), &[], today()).unwrap().created);
        assert!(connects(&certs.ca, &certs, "localhost"));
    }
}

#[test]
fn damaged_authority_key_is_refused_and_kept() {
    let (dir, certs) = fresh();
    let key = dir.path().join("ca.key");
    fs::write(&key, "damaged").unwrap();
    fs::remove_file(&certs.cert).unwrap();
    let refused = ensure(dir.path(), &[], today()).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("ca.key is not a private key in PEM")
    );
    assert_eq!(fs::read(&key).unwrap(), b"damaged");
}

#[test]
fn removed_authority_key_makes_way_for_a_new_authority() {
    let (dir, certs) = fresh();
    let old = dir.path().join("old.pem");
    fs::copy(&certs.ca, &old).unwrap();
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    assert!(!ensure(dir.path(), &[], today()).unwrap().created);
    assert!(
        ensure(dir.path(), &["host.test".to_owned()], today())
            .unwrap()
            .created
    );
    assert!(connects(&certs.ca, &certs, "host.test"));
    assert!(!connects(&old, &certs, "host.test"));
}

#[test]
fn name_that_is_no_host_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for name in [
        "",
        "two words",
        "http://localhost",
        "host:7443",
        "*.example.com",
    ] {
        let refused = ensure(dir.path(), &[name.to_owned()], today()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!("found the name {name:?}, wanted a host name or an IP address")
        );
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn file_in_place_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = ensure(&file, &[], today()).unwrap_err();
    assert!(
        refused
            .to_string()
            .starts_with("cannot make the directory ")
    );
}
