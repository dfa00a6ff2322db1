//! The real gateway as a child process.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use serde::Deserialize;
use tempfile::TempDir;

use super::wait;

/// A running `tidegate serve` on ports of its own. Killed when dropped; its standard error is shown
/// when the test fails.
pub(crate) struct Gateway {
    child: Child,
    ready: Ready,
    settings: Settings,
    place: Place,
    /// Holds the ready file, the standard error of every run, and mostly the data directory.
    dir: TempDir,
    runs: usize,
}

/// What the ready file says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Ready {
    pub(crate) grpc_tls_addr: String,
    pub(crate) grpc_addr: String,
    pub(crate) http_addr: String,
    pub(crate) https_addr: String,
    pub(crate) ca_pem: PathBuf,
    pub(crate) tenant_id: String,
    pub(crate) access_token: String,
    pub(crate) instance_url: String,
    pub(crate) pid: u32,
}

/// Where it finds what it works with, if that matters.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) data_dir: PathBuf,
    pub(crate) schemas_dir: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            data_dir: "data".into(),
            schemas_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/schemas").into(),
        }
    }
}

/// How to run it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Keep nothing on disk.
    pub(crate) ephemeral: bool,
    /// Environment variables, such as `TIDEGATE_BROKER__KEEPALIVE`.
    pub(crate) environment: Vec<(&'static str, &'static str)>,
}

impl Gateway {
    /// Starts a gateway that keeps its events on disk.
    pub(crate) fn start() -> Self {
        Self::start_with(Settings::default())
    }

    /// Starts a gateway that keeps nothing: for what has nothing to do with the disk.
    pub(crate) fn ephemeral() -> Self {
        Self::start_with(Settings {
            ephemeral: true,
            ..Settings::default()
        })
    }

    /// Starts a gateway with these settings.
    pub(crate) fn start_with(settings: Settings) -> Self {
        let dir = new_dir();
        let place = Place {
            data_dir: dir.path().join("data"),
            ..Place::default()
        };
        Self::start_in(dir, place, settings)
    }

    /// Starts a gateway with these settings at `place`.
    pub(crate) fn start_at(place: Place, settings: Settings) -> Self {
        Self::start_in(new_dir(), place, settings)
    }

    fn start_in(dir: TempDir, place: Place, settings: Settings) -> Self {
        let (child, ready) = run(dir.path(), &place, &settings, 0);
        Self {
            child,
            ready,
            settings,
            place,
            dir,
            runs: 1,
        }
    }

    /// Ends the process at once, as `kill -9` does, and starts another on the same data.
    pub(crate) fn kill_and_restart(&mut self) {
        self.kill();
        self.restart();
    }

    /// Ends the process at once, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("the gateway can be killed");
        self.child.wait().expect("the gateway can be waited for");
    }

    /// Starts a process on the same data after the one before has ended.
    pub(crate) fn restart(&mut self) {
        (self.child, self.ready) = run(self.dir.path(), &self.place, &self.settings, self.runs);
        self.runs += 1;
    }

    /// Starts a process on the same data, at the addresses of the one before, which clients know.
    pub(crate) fn restart_in_place(&mut self) {
        for (variable, addr) in [
            ("TIDEGATE_SERVER__GRPC_ADDR", &self.ready.grpc_addr),
            ("TIDEGATE_SERVER__GRPC_TLS_ADDR", &self.ready.grpc_tls_addr),
            ("TIDEGATE_SERVER__HTTP_ADDR", &self.ready.http_addr),
            ("TIDEGATE_SERVER__HTTPS_ADDR", &self.ready.https_addr),
        ] {
            // Settings are written down in tests; these few live as long as the process of one.
            let addr: &'static str = addr.clone().leak();
            self.settings.environment.push((variable, addr));
        }
        self.restart();
    }

    /// Asks the process to stop, as `kill` does, without waiting for it.
    pub(crate) fn terminate(&self) {
        let pid = self.ready.pid.to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(status.expect("`kill` can be run").success());
    }

    /// Whether the process ended by itself, and how.
    pub(crate) fn wait_for_end(&mut self) -> std::process::ExitStatus {
        wait::until("end of the gateway", || {
            self.child
                .try_wait()
                .expect("the gateway can be waited for")
        })
    }

    /// What the gateway tells those that start it.
    pub(crate) fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Where everything is that it was told to write: its working directory.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where it makes temporary directories.
    pub(crate) fn temporary_dir(&self) -> PathBuf {
        temporary_dir(self.dir.path())
    }

    /// Where it keeps its events.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.place.data_dir.clone()
    }

    /// `tidegate` with these arguments, words separated by spaces, for this gateway.
    pub(crate) fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        without_settings(&mut command);
        command
            .args(arguments.split(' '))
            .env("TIDEGATE_SERVER__DATA_DIR", self.data_dir())
            .stdin(Stdio::null());
        command
    }

    /// What the current process wrote to its standard error so far.
    pub(crate) fn log(&self) -> String {
        log(self.dir.path(), self.runs - 1)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the gateway's standard error:\n{}", self.log());
        }
    }
}

/// `tidegate serve` on free ports, without the settings of whoever runs the tests.
pub(crate) fn serve_command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("serve");
    without_settings(&mut command);
    // Arguments would win over what a test sets.
    for listener in ["GRPC_ADDR", "GRPC_TLS_ADDR", "HTTP_ADDR", "HTTPS_ADDR"] {
        command.env(format!("TIDEGATE_SERVER__{listener}"), "127.0.0.1:0");
    }
    command.stdin(Stdio::null());
    command
}

/// Takes the settings of whoever runs the tests out of a command's environment.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
}

fn new_dir() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn run(dir: &Path, place: &Place, settings: &Settings, run: usize) -> (Child, Ready) {
    let ready_file = dir.join("ready.json");
    // Left behind by a process that was killed.
    _ = fs::remove_file(&ready_file);
    let stderr = File::create(log_file(dir, run)).expect("a log file can be made");

    let mut command = serve_command();
    command.arg("--ready-file").arg(&ready_file);
    command.arg("--schemas").arg(&place.schemas_dir);
    if settings.ephemeral {
        command.arg("--ephemeral");
    } else {
        command.arg("--data-dir").arg(&place.data_dir);
    }
    // What a process leaves there that is killed goes with the test.
    let temporary = temporary_dir(dir);
    fs::create_dir_all(&temporary).expect("a directory can be made");
    command.env("TMPDIR", temporary);
    command.envs(settings.environment.iter().copied());
    let mut child = command
        .current_dir(dir)
        .stdout(Stdio::null())
        .stderr(stderr)
        .spawn()
        .expect("the gateway can be run");

    let ready = wait::until("ready file", || {
        if let Ok(text) = fs::read(&ready_file) {
            return Some(serde_json::from_slice(&text).expect("the ready file appears whole"));
        }
        if let Some(status) = child.try_wait().expect("the gateway can be waited for") {
            panic!("the gateway ended with {status}:\n{}", log(dir, run));
        }
        None
    });
    (child, ready)
}

fn temporary_dir(dir: &Path) -> PathBuf {
    dir.join("tmp")
}

fn log_file(dir: &Path, run: usize) -> PathBuf {
    dir.join(format!("stderr-{run}.log"))
}

fn log(dir: &Path, run: usize) -> String {
    fs::read_to_string(log_file(dir, run)).unwrap_or_default()
}
