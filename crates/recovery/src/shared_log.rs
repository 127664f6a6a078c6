//! A period of the function's log, read once for all tenants.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::delivery::Delivery;
use crate::function_log::FunctionLog;
use crate::logs::{DISORDER, LogError};

/// The number of deliveries that are kept at most.
const MAX_DELIVERIES: usize = 500_000;
/// Old hashes are forgotten whenever this number of deliveries was added.
const FORGET_EVERY: usize = 10_000;

/// A line of a delivery.
#[derive(Clone, Copy)]
pub(crate) struct Line {
    /// CloudWatch's time for the line.
    pub(crate) filed: Timestamp,
    /// A hash of the text.
    pub(crate) id: u64,
    pub(crate) delivery: Delivery,
}

/// The lines that were read so far.
#[derive(Default)]
struct Lines {
    /// The lines of each tenant, by its name in lower case.
    tenants: HashMap<String, Vec<Line>>,
    /// The latest lines, so that none is added twice.
    recent: HashSet<(Timestamp, u64)>,
    count: usize,
    /// The end of the period that was read.
    until: Timestamp,
}

/// A period of the function's log in memory, split by tenant. The end of the period moves when the delivery log of a
/// tenant looks for new deliveries: whatever the number of tenants that wait, the log is read once.
#[derive(Debug)]
pub struct SharedLog {
    log: FunctionLog,
    since: Timestamp,
    lines: RwLock<Lines>,
    /// The start of the last read.
    last_read: Mutex<Instant>,
}

impl SharedLog {
    /// Reads a period. If it has too many lines, or if time does not suffice, [`until`](Self::until) is earlier than the
    /// end.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn read(
        log: FunctionLog,
        (since, until): (Timestamp, Timestamp),
        pause_at: Instant,
    ) -> Result<Arc<Self>, LogError> {
        let lines = RwLock::new(Lines { until: since, ..Lines::default() });
        let shared = Self { log, since, lines, last_read: Mutex::new(Instant::now()) };
        if shared.add(since, until, Some(pause_at)).await? {
            shared.write().until = until;
        }
        Ok(Arc::new(shared))
    }

    /// Returns the start of the period.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns the end of the period.
    pub fn until(&self) -> Timestamp {
        self.lines().until
    }

    /// Passes each delivery of a tenant, whose name is in lower case, to `found`, until it breaks.
    pub(crate) fn each(&self, tenant: &str, since: Timestamp, mut found: impl FnMut(&Line) -> ControlFlow<()>) {
        let lines = self.lines();
        let own = lines.tenants.get(tenant).into_iter().flatten();
        let _ = own.filter(|line| line.filed >= since).try_for_each(&mut found);
    }

    /// Reads the lines that were written since the last read, unless another caller has done so since this call began.
    pub(crate) async fn refresh(&self) -> Result<(), LogError> {
        let called = Instant::now();
        let mut last_read = self.last_read.lock().await;
        if *last_read > called {
            return Ok(());
        }
        let started = Instant::now();
        let from = self.until().saturating_sub(DISORDER).unwrap_or(self.since).max(self.since);
        self.add(from, Timestamp::MAX, None).await?;
        *last_read = started;
        Ok(())
    }

    /// Reads a period, with `pause_at` only until then and until there are too many lines. Returns `true` if it was
    /// read to its end.
    async fn add(&self, since: Timestamp, until: Timestamp, pause_at: Option<Instant>) -> Result<bool, LogError> {
        let mut is_complete = true;
        let found = |filed: Timestamp, text: &str| {
            let mut lines = self.write();
            if pause_at.is_some_and(|time| time <= Instant::now() || lines.count >= MAX_DELIVERIES) {
                is_complete = false;
                return ControlFlow::Break(());
            }
            lines.until = lines.until.max(filed);
            if let Some((tenants, delivery)) = self.log.parse(filed, text) {
                lines.add(&tenants, Line { filed, id: hash(text), delivery });
            }
            ControlFlow::Continue(())
        };
        self.log.read(since, until, found).await?;
        self.write().forget();
        Ok(is_complete)
    }

    fn lines(&self) -> RwLockReadGuard<'_, Lines> {
        self.lines.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Lines> {
        self.lines.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    /// Adds a line to the tenants that it belongs to, unless it was added before.
    fn add(&mut self, tenants: &[String], line: Line) {
        if tenants.is_empty() || !self.recent.insert((line.filed, line.id)) {
            return;
        }
        self.count += 1;
        if self.count.is_multiple_of(FORGET_EVERY) {
            self.forget();
        }
        for tenant in tenants {
            self.tenants.entry(tenant.clone()).or_default().push(line);
        }
    }

    /// Forgets which lines were read, except for the latest ones: later reads begin with those.
    fn forget(&mut self) {
        let from = self.until.saturating_sub(DISORDER).unwrap_or(self.until);
        self.recent.retain(|(filed, _)| *filed >= from);
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("count", &self.count).finish_non_exhaustive()
    }
}

/// Returns a hash of a line, which identifies the line among those of its time.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}
