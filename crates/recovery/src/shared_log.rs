//! The function's log, read once for all tenants.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::delivery_log::{Delivery, DeliveryLog, FILTER, read_line};
use crate::logs::{LogError, Logs};

/// The number of deliveries that are kept at most.
const MAX_DELIVERIES: usize = 500_000;
/// The number of deliveries between two times at which old hashes are forgotten.
const FORGET_EVERY: usize = 10_000;
/// A line appears at most this much later than a line of a later time.
const LATE: SignedDuration = SignedDuration::from_secs(60);
/// The number of tenants that a filter names at most. AWS limits its length to 1,024 characters.
const MAX_NAMED: usize = 8;

/// The tenants whose deliveries are read, and the rule for deliveries without a name.
#[derive(Clone, Debug)]
pub struct TenantNames {
    /// In lower case.
    names: HashSet<String>,
    /// The tenants that own deliveries without a name.
    unnamed: Vec<String>,
    /// Every delivery belongs to the only tenant.
    is_every: bool,
}

impl TenantNames {
    /// Creates the set of all tenants. An on-site installation does not name itself. So deliveries without a name belong
    /// to the only tenant, and otherwise to each tenant whose name is not the identifier of an Online tenant.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: HashSet<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        let is_only = names.len() == 1;
        let unnamed = names.iter().filter(|name| is_only || online_digits(name).is_none()).cloned().collect();
        Self { names, unnamed, is_every: false }
    }

    /// Creates the set of one tenant that owns every delivery.
    pub fn every(name: &str) -> Self {
        Self { is_every: true, ..Self::new([name]) }
    }

    /// Returns the set with only these tenants.
    #[must_use]
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: HashSet<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        let unnamed = self.unnamed.iter().filter(|name| names.contains(*name)).cloned().collect();
        Self { names, unnamed, is_every: self.is_every }
    }

    /// Returns a filter that lets CloudWatch leave out other lines. It only saves transfer: every line is checked here.
    pub(crate) fn filter(&self) -> String {
        // CloudWatch compares letters with regard to case. Digits are enough to tell Online tenants apart.
        let digits: Option<BTreeSet<&str>> = self.names.iter().map(|name| online_digits(name)).collect();
        let Some(digits) = digits.filter(|digits| digits.len() <= MAX_NAMED && !self.is_every) else {
            return FILTER.to_owned();
        };
        let names = digits.into_iter().map(|digits| format!(r#"($.contextIdentifier = "*{digits}")"#));
        let mut conditions: Vec<String> = names.collect();
        if !self.unnamed.is_empty() {
            conditions.push("($.contextIdentifier NOT EXISTS)".to_owned());
            conditions.push(r#"($.contextIdentifier = "Default")"#.to_owned());
        }
        let outcomes = FILTER.trim_start_matches('{').trim_end_matches('}').trim();
        format!("{{ ({outcomes}) && ({}) }}", conditions.join(" || "))
    }
}

/// A line of a delivery.
pub(crate) struct Line {
    /// The time under which CloudWatch files the line.
    pub(crate) filed: Timestamp,
    /// A hash of the text.
    pub(crate) id: u64,
    pub(crate) delivery: Delivery,
}

#[derive(Default)]
struct Lines {
    tenants: HashMap<String, Vec<Line>>,
    /// The lines of the last minute that was read, so that none is added twice.
    recent: HashSet<(Timestamp, u64)>,
    count: usize,
    until: Timestamp,
}

/// A period of the function's log in memory, split by tenant. The end of the period moves when a
/// [`DeliveryLog`] of this log looks for new deliveries: whatever the number of tenants that wait, the log is read once.
#[derive(Debug)]
pub struct SharedLog {
    logs: Logs,
    log_group: String,
    names: TenantNames,
    since: Timestamp,
    lines: RwLock<Lines>,
    /// The start of the last read.
    last_read: Mutex<Instant>,
}

impl Lines {
    /// Forgets which lines were read more than a minute before the end.
    fn forget(&mut self) {
        let from = self.until.saturating_sub(LATE).unwrap_or(self.until);
        self.recent.retain(|(filed, _)| *filed >= from);
    }
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("count", &self.count).finish_non_exhaustive()
    }
}

impl SharedLog {
    /// Reads a period. If it has too many lines, or if time does not suffice, [`until`](Self::until) is earlier than the
    /// end.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn read(
        logs: Logs,
        log_group: impl Into<String>,
        names: TenantNames,
        (since, until): (Timestamp, Timestamp),
        pause_at: Instant,
    ) -> Result<Arc<Self>, LogError> {
        let lines = RwLock::new(Lines { until: since, ..Lines::default() });
        let last_read = Mutex::new(Instant::now());
        let log = Self { logs, log_group: log_group.into(), names, since, lines, last_read };
        if log.add(since, until, Some(pause_at)).await? {
            log.write().until = until;
        }
        Ok(Arc::new(log))
    }

    /// Returns the start of the period.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// Returns the end of the period.
    pub fn until(&self) -> Timestamp {
        self.lines().until
    }

    /// Returns the part of a tenant.
    pub fn tenant(self: &Arc<Self>, name: &str) -> DeliveryLog {
        DeliveryLog::shared(Arc::clone(self), name.to_ascii_lowercase())
    }

    /// Passes each delivery of a tenant that was read to `found`, until it breaks.
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
        let from = self.until().saturating_sub(LATE).unwrap_or(self.since).max(self.since);
        self.add(from, Timestamp::MAX, None).await?;
        *last_read = started;
        Ok(())
    }

    /// Reads a period. Returns `true` if it was read to its end.
    async fn add(&self, since: Timestamp, until: Timestamp, pause_at: Option<Instant>) -> Result<bool, LogError> {
        let mut is_complete = true;
        let found = |filed: Timestamp, text: &str| {
            let mut lines = self.write();
            if pause_at.is_some_and(|time| time <= Instant::now()) || lines.count >= MAX_DELIVERIES {
                is_complete = false;
                return ControlFlow::Break(());
            }
            lines.until = lines.until.max(filed);
            self.names.add(&mut lines, filed, text);
            ControlFlow::Continue(())
        };
        self.logs.read_between(&self.log_group, &self.names.filter(), since, until, found).await?;
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

impl TenantNames {
    /// Returns the tenants that own a delivery, in lower case.
    pub(crate) fn owners(&self, named: Option<&str>) -> Cow<'_, [String]> {
        match named.map(str::to_ascii_lowercase) {
            Some(name) if !self.is_every => match self.names.contains(&name) {
                true => Cow::Owned(vec![name]),
                false => Cow::Borrowed(&[]),
            },
            _ => Cow::Borrowed(&self.unnamed),
        }
    }

    /// Adds a line to the tenants that it belongs to.
    fn add(&self, lines: &mut Lines, filed: Timestamp, text: &str) {
        let Some((tenant, delivery)) = read_line(filed, text) else {
            return;
        };
        let owners = self.owners(tenant.as_deref());
        if owners.is_empty() {
            return;
        }
        let id = hash(text);
        if !lines.recent.insert((filed, id)) {
            return;
        }
        lines.count += 1;
        if lines.count.is_multiple_of(FORGET_EVERY) {
            lines.forget();
        }
        for owner in owners.iter() {
            lines.tenants.entry(owner.clone()).or_default().push(Line { filed, id, delivery });
        }
    }
}

/// Returns the digits of the identifier of an Online tenant in lower case, `cust12345`.
fn online_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("cust")?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

/// Returns a hash of a line, by which it is recognized.
pub(crate) fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_names_few_online_tenants_by_their_digits() {
        let filter = |names: &[&str]| TenantNames::new(names.iter().copied()).filter();
        assert_eq!(
            filter(&["Cust12"]),
            r#"{ (($.outcome = "forwarded") || ($.outcome = "ignored") || ($.outcome = "failed")) && (($.contextIdentifier = "*12") || ($.contextIdentifier NOT EXISTS) || ($.contextIdentifier = "Default")) }"#
        );
        let two = filter(&["Cust12", "cust345"]);
        assert!(two.contains(r#"($.contextIdentifier = "*12")"#) && two.contains(r#"($.contextIdentifier = "*345")"#));
        assert!(!two.contains("NOT EXISTS"), "{two}");
        let names: Vec<String> = (100_000..100_008).map(|number| format!("Cust{number}")).collect();
        let longest = TenantNames::new(names.iter().map(String::as_str)).filter();
        assert!(longest.contains("contextIdentifier") && longest.len() < 1024, "{longest}");
    }

    #[test]
    fn filter_leaves_tenants_out_that_it_cannot_tell_apart() {
        let names: Vec<String> = (1..=9).map(|number| format!("Cust{number}")).collect();
        assert_eq!(TenantNames::every("Cust1").filter(), FILTER);
        for names in
            [names.iter().map(String::as_str).collect(), vec!["onsite"], vec!["Cust1", "Customer"], vec!["Cust"]]
        {
            assert_eq!(TenantNames::new(names.iter().copied()).filter(), FILTER, "{names:?}");
        }
    }

    #[test]
    fn deliveries_without_a_name_belong_to_the_only_tenant_or_to_on_site_installations() {
        let unnamed = |names: &[&str]| TenantNames::new(names.iter().copied()).unnamed;
        assert_eq!(unnamed(&["Cust1"]), ["cust1"]);
        assert_eq!(unnamed(&["Cust1", "cust2"]), Vec::<String>::new());
        assert_eq!(unnamed(&["Cust1", "Server"]), ["server"]);
        // The rule depends on the whole list.
        let list = TenantNames::new(["Cust1", "Server"]);
        assert_eq!(list.only(["Cust1"]).unnamed, Vec::<String>::new());
        assert_eq!(list.only(["Server"]).unnamed, ["server"]);
    }
}
