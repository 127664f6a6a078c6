//! The function as a process: an environment built from nothing, its output line by line, and what it uses.

use crate::{PATIENCE, lock};
use std::{
    collections::VecDeque,
    ffi::OsStr,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::Notify,
    time::timeout,
};

/// How many lines of output are kept: the newest ones.
const LINES_KEPT: usize = 10_000;

/// A process that is to be started.
pub struct Process(Command);

impl Process {
    /// A program, which will know no other variables than it is given.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self(command)
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Sets variables.
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        self.0.envs(variables);
        self
    }

    /// Sets the working directory.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.0.current_dir(directory.into());
        self
    }

    /// Starts it. It is killed when the handle is dropped.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn start(mut self) -> Running {
        let started = Instant::now();
        let mut child = match self.0.spawn() {
            Ok(child) => child,
            Err(error) => panic!("{:?}: {error}", self.0.as_std().get_program()),
        };
        let output = Output::of(child.stdout.take());
        let errors = Output::of(child.stderr.take());
        Running { pid: child.id().expect("it was just started"), started, output, errors, child }
    }
}

/// A process that was started, and is killed when this is dropped.
pub struct Running {
    pid: u32,
    started: Instant,
    output: Arc<Output>,
    errors: Arc<Output>,
    child: Child,
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The newest lines on its standard output, ten thousand at most.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.output.lines).kept.iter().cloned().collect()
    }

    /// The newest lines on its standard error, ten thousand at most.
    pub fn error_lines(&self) -> Vec<String> {
        lock(&self.errors.lines).kept.iter().cloned().collect()
    }

    /// How many lines it has written to standard output.
    pub fn line_count(&self) -> u64 {
        lock(&self.output.lines).count
    }

    /// Waits until it has written so many lines to standard output, and gives the newest ones.
    ///
    /// # Panics
    /// When it has not within [`PATIENCE`].
    pub async fn wait_for_lines(&self, count: u64) -> Vec<String> {
        let wait = async {
            loop {
                let mut written = std::pin::pin!(self.output.written.notified());
                written.as_mut().enable();
                if self.line_count() >= count {
                    return;
                }
                written.await;
            }
        };
        if timeout(PATIENCE, wait).await.is_err() {
            panic!("{} lines of {count}; standard error: {:?}", self.line_count(), self.error_lines());
        }
        self.lines()
    }

    /// Waits until it ends by itself and its output has been read.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub async fn ended(&mut self) -> ExitStatus {
        let status =
            timeout(PATIENCE, self.child.wait()).await.expect("it ends in time").expect("it can be waited for");
        for output in [&self.output, &self.errors] {
            timeout(PATIENCE, output.ended()).await.expect("its output ends with it");
        }
        status
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it and waits until it is gone.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    /// The memory that it uses now, in bytes (Linux).
    pub fn resident(&self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most memory that it has used, in bytes (Linux).
    pub fn peak_resident(&self) -> u64 {
        self.status("VmHWM:")
    }

    /// How many files it has open (Linux).
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map(Iterator::count).unwrap_or_default()
    }

    /// The CPU time that it has used, in steps of ten milliseconds (Linux).
    pub fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // The fields after the name, which is in brackets: user and system time are the 12th and 13th of them.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(10 * ticks)
    }

    fn status(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        1024 * line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default()
    }
}

/// What a process writes, line by line.
#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    written: Notify,
}

#[derive(Default)]
struct Lines {
    kept: VecDeque<String>,
    count: u64,
    ended: bool,
}

impl Output {
    fn of(pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let (shared, pipe) = (Arc::clone(&output), pipe.expect("the output is piped"));
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                {
                    let mut lines = lock(&shared.lines);
                    if lines.kept.len() == LINES_KEPT {
                        lines.kept.pop_front();
                    }
                    lines.kept.push_back(text);
                    lines.count += 1;
                }
                shared.written.notify_waiters();
            }
            lock(&shared.lines).ended = true;
            shared.written.notify_waiters();
        });
        output
    }

    async fn ended(&self) {
        loop {
            let mut written = std::pin::pin!(self.written.notified());
            written.as_mut().enable();
            if lock(&self.lines).ended {
                return;
            }
            written.await;
        }
    }
}
