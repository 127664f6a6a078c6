//! A supervised process: a complete environment, its output by line, and its resource usage.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::{TIMEOUT, lock};

/// The number of output lines to keep.
const MAX_LINES: usize = 10_000;

/// A process to start.
pub struct Process(Command);

impl Process {
    /// Creates a process that inherits no environment variables.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        Self(command)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.0.arg(arg);
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// Sets environment variables.
    #[must_use]
    pub fn envs<N: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self {
        self.0.envs(variables);
        self
    }

    /// Sets the working directory.
    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.0.current_dir(directory);
        self
    }

    /// Starts the process. It is killed when the returned handle is dropped.
    #[track_caller]
    pub fn start(mut self) -> RunningProcess {
        let started = Instant::now();
        let mut child = self.0.spawn().unwrap_or_else(|error| panic!("{:?}: {error}", self.0.as_std().get_program()));
        let stdout = Output::read(child.stdout.take().unwrap());
        let stderr = Output::read(child.stderr.take().unwrap());
        RunningProcess { pid: child.id().unwrap(), started, stdout, stderr, child }
    }
}

/// A started process, killed on drop.
pub struct RunningProcess {
    pid: u32,
    started: Instant,
    stdout: Arc<Output>,
    stderr: Arc<Output>,
    child: Child,
}

impl RunningProcess {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The moment of the start.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The latest lines of standard output, at most ten thousand.
    pub fn stdout_lines(&self) -> Vec<String> {
        lock(&self.stdout.lines).latest.iter().cloned().collect()
    }

    /// The latest lines of standard error, at most ten thousand.
    pub fn stderr_lines(&self) -> Vec<String> {
        lock(&self.stderr.lines).latest.iter().cloned().collect()
    }

    /// The number of lines written to standard output.
    pub fn stdout_line_count(&self) -> u64 {
        lock(&self.stdout.lines).count
    }

    /// Waits until standard output has a number of lines. Returns the latest lines.
    pub async fn wait_for_lines(&self, count: u64) -> Vec<String> {
        if timeout(TIMEOUT, self.stdout.wait_until(|lines| lines.count >= count)).await.is_err() {
            panic!("{} of {count} lines; standard error: {:?}", self.stdout_line_count(), self.stderr_lines());
        }
        self.stdout_lines()
    }

    /// Waits until the process exits and its output is read.
    pub async fn wait(&mut self) -> ExitStatus {
        let exit = async {
            let status = self.child.wait().await.unwrap();
            self.stdout.wait_until(|lines| lines.complete).await;
            self.stderr.wait_until(|lines| lines.complete).await;
            status
        };
        timeout(TIMEOUT, exit).await.unwrap_or_else(|_| panic!("the process still runs after {TIMEOUT:?}"))
    }

    /// Returns `true` if the process has not exited.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal to the process, for example `TERM`.
    pub fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.pid());
        let status = std::process::Command::new("sh").args(["-c", &kill]).status();
        assert!(status.is_ok_and(|status| status.success()), "{kill}");
    }

    /// Kills the process and waits for its end.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    /// The resident memory in bytes (Linux).
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The peak of the resident memory in bytes (Linux).
    pub fn peak_resident_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// The number of open files (Linux).
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid)).map(Iterator::count).unwrap_or_default()
    }

    /// The CPU time, in steps of 10 ms (Linux).
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // User and system time are the 12th and 13th fields after the name, which is in parentheses.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
        let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(10 * ticks)
    }

    fn status_bytes(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        1024 * line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default()
    }
}

/// The lines of an output stream.
#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Notify,
}

#[derive(Default)]
struct Lines {
    latest: VecDeque<String>,
    count: u64,
    complete: bool,
}

impl Output {
    fn read(pipe: impl AsyncRead + Unpin + Send + 'static) -> Arc<Self> {
        let output = Arc::new(Self::default());
        let shared = Arc::clone(&output);
        tokio::spawn(async move {
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).await.is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                {
                    let mut lines = lock(&shared.lines);
                    if lines.latest.len() == MAX_LINES {
                        lines.latest.pop_front();
                    }
                    lines.latest.push_back(text);
                    lines.count += 1;
                }
                shared.changed.notify_waiters();
            }
            lock(&shared.lines).complete = true;
            shared.changed.notify_waiters();
        });
        output
    }

    async fn wait_until(&self, condition: impl Fn(&Lines) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            if condition(&lock(&self.lines)) {
                return;
            }
            changed.await;
        }
    }
}
