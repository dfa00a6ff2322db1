//! A gateway of the bench's own: this program, serving from a directory that goes with it.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child as Process, Command, Stdio},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    error::BenchError,
    load::{schema, topic},
    target::Target,
};
use crate::{
    client::{Endpoint, Profile},
    event_log::Durability,
};

/// What the gateway is started with.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The program, which is this one.
    pub program: PathBuf,
    /// Where its directory is made; on the disk that is to be measured.
    pub parent_dir: PathBuf,
    /// When it acknowledges.
    pub durability: Durability,
    /// Whether it is called over TLS.
    pub tls: bool,
}

/// Where a gateway has its data.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// In a directory that goes with the gateway.
    Temporary,
    /// In this one, which stays, as does what is in it.
    Kept(&'a Path),
}

/// A running gateway. It ends, and a temporary directory goes, when this is dropped.
#[derive(Debug)]
pub struct Child {
    process: Mutex<Process>,
    id: u32,
    dir: PathBuf,
    /// Removed with the child.
    _temporary: Option<tempfile::TempDir>,
    tls: bool,
    start_time: Duration,
}

impl Child {
    /// The data directory in a kept place.
    pub const DATA_DIR: &str = "data";

    /// Starts a gateway with this many topics of the load, and returns once it answers.
    ///
    /// # Errors
    ///
    /// If it cannot be started, ends, or takes too long.
    pub async fn start(
        options: &ChildOptions,
        place: Place<'_>,
        topics: usize,
    ) -> Result<Self, BenchError> {
        let failed = || BenchError::io("cannot make a directory for the gateway");
        let (dir, temporary) = match place {
            Place::Kept(dir) => (std::path::absolute(dir).map_err(failed())?, None),
            Place::Temporary => {
                let made = tempfile::Builder::new()
                    .prefix("tidegate-bench-")
                    .tempdir_in(&options.parent_dir);
                let made = made.map_err(failed())?;
                let dir = std::path::absolute(made.path()).map_err(failed())?;
                (dir, Some(made))
            }
        };
        prepare(&dir, topics).map_err(failed())?;
        let began = Instant::now();
        let process = spawn(options, &dir)
            .map_err(BenchError::io("cannot start a gateway to be measured"))?;
        let mut child = Self {
            id: process.id(),
            process: Mutex::new(process),
            dir,
            _temporary: temporary,
            tls: options.tls,
            start_time: Duration::ZERO,
        };
        let deadline = began + START_TIMEOUT;
        while !child.dir.join(READY_FILE).exists() {
            child.ensure_running(Duration::ZERO).await?;
            if Instant::now() > deadline {
                return Err(child.failed("did not get ready"));
            }
            tokio::time::sleep(START_POLL).await;
        }
        child.start_time = began.elapsed();
        Ok(child)
    }

    /// How long it took until it answered.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// How to reach it, with this many topics of the load.
    pub async fn target(&self, topics: usize) -> Result<Target, BenchError> {
        let profile = Profile::read(&self.dir.join(Self::DATA_DIR));
        let profile = profile.map_err(|_| self.failed("left no profile"))?;
        let addr = match self.tls {
            true => profile.grpc_tls_addr.map(|addr| format!("https://{addr}")),
            false => profile.grpc_addr.map(|addr| format!("http://{addr}")),
        };
        let url = addr.and_then(|addr| addr.parse().ok());
        let url = url.ok_or_else(|| self.failed("does not listen"))?;
        let endpoint = Endpoint {
            ca_file: Some(profile.ca_pem.clone()),
            ..Endpoint::new(url, profile.credentials())
        };
        Target::new(endpoint, topics).await
    }

    /// Where it shows its metrics.
    pub(super) fn http_addr(&self) -> Result<SocketAddr, BenchError> {
        let profile = Profile::read(&self.dir.join(Self::DATA_DIR));
        let addr = profile.ok().and_then(|profile| profile.http_addr);
        addr.ok_or_else(|| self.failed("does not listen"))
    }

    /// Has it end well, and returns once it has.
    ///
    /// # Errors
    ///
    /// If it does not end in time, or not well.
    pub async fn stop(&self) -> Result<(), BenchError> {
        let asked = kill_process(Pid::from_child(&self.process()), Signal::TERM);
        asked
            .map_err(io::Error::from)
            .map_err(BenchError::io("cannot stop the gateway"))?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            match self.process().try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(None) if Instant::now() < deadline => {}
                _ => return Err(self.failed("did not stop well")),
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    /// Seconds of processor time it has used.
    pub fn cpu_seconds(&self) -> Result<f64, BenchError> {
        let stat = self.proc("stat")?;
        // The name, in parentheses, may hold anything.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: Vec<u64> = ticks.filter_map(|field| field.parse().ok()).collect();
        match ticks[..] {
            [user, system] => Ok((user + system) as f64 / TICKS_PER_SECOND),
            _ => Err(self.failed("has ended")),
        }
    }

    /// The most memory it has had, in MB of 2^20 bytes.
    pub fn peak_memory_mb(&self) -> Result<f64, BenchError> {
        self.memory_of("VmHWM:")
    }

    /// The memory it has, in MB of 2^20 bytes.
    pub fn memory_mb(&self) -> Result<f64, BenchError> {
        self.memory_of("VmRSS:")
    }

    fn memory_of(&self, key: &str) -> Result<f64, BenchError> {
        let status = self.proc("status")?;
        let value = status.lines().find_map(|line| line.strip_prefix(key));
        let kb = value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<f64>().ok());
        Ok(kb.ok_or_else(|| self.failed("has ended"))? / 1_024.0)
    }

    /// Fails with the end of what the gateway wrote, if it has ended or does within `grace`.
    pub async fn ensure_running(&self, grace: Duration) -> Result<(), BenchError> {
        let deadline = Instant::now() + grace;
        loop {
            if !matches!(self.process().try_wait(), Ok(None)) {
                return Err(self.failed("ended"));
            }
            if Instant::now() >= deadline {
                return Ok(());
            }
            tokio::time::sleep(START_POLL).await;
        }
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().expect("no holder of this lock panics")
    }

    fn proc(&self, file: &str) -> Result<String, BenchError> {
        let path = format!("/proc/{}/{file}", self.id);
        fs::read_to_string(path).map_err(|_| self.failed("has ended"))
    }

    fn failed(&self, what: &'static str) -> BenchError {
        let output = fs::read_to_string(self.dir.join(OUTPUT_FILE)).unwrap_or_default();
        let lines: Vec<&str> = output.lines().collect();
        let last = lines.len().saturating_sub(OUTPUT_LINES_MAX);
        BenchError::Child {
            what,
            output: lines[last..].join("; "),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Nothing in it is worth a clean end.
        let mut process = self.process();
        _ = process.kill();
        _ = process.wait();
    }
}

/// Makes what a gateway finds where it starts.
fn prepare(dir: &Path, topics: usize) -> io::Result<()> {
    let schemas_dir = dir.join("schemas");
    fs::create_dir_all(&schemas_dir)?;
    for number in 0..topics {
        let topic = topic(number);
        let name = topic.trim_start_matches("/event/");
        fs::write(schemas_dir.join(format!("{name}.avsc")), schema(number))?;
    }
    match fs::remove_file(dir.join(READY_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn spawn(options: &ChildOptions, dir: &Path) -> io::Result<Process> {
    let durability = match options.durability {
        Durability::Sync => "sync",
        Durability::Os => "os",
    };
    let mut command = Command::new(&options.program);
    command
        .current_dir(dir)
        // No setting of whoever runs this is one of the gateway's.
        .env_clear()
        .env("TIDEGATE_EVENT_LOG__DURABILITY", durability)
        // A history that was made long ago is still one.
        .env("TIDEGATE_EVENT_LOG__RETENTION", "87600h")
        .args([
            "serve",
            "--data-dir",
            Child::DATA_DIR,
            "--ready-file",
            READY_FILE,
        ]);
    for listener in [
        "--grpc-tls-addr",
        "--grpc-addr",
        "--http-addr",
        "--https-addr",
    ] {
        command.args([listener, "127.0.0.1:0"]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(dir.join(OUTPUT_FILE))?)
        .spawn()
}

const READY_FILE: &str = "ready.json";
const OUTPUT_FILE: &str = "output";
/// How much of what a gateway wrote is told when it fails.
const OUTPUT_LINES_MAX: usize = 3;
/// How long a gateway may take to start or stop: with a history of any size it takes seconds.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How often it is looked whether it has, or has ended.
const START_POLL: Duration = Duration::from_millis(2);
/// What Linux counts processor time in for programs, on every machine.
const TICKS_PER_SECOND: f64 = 100.0;
