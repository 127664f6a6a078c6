//! The function's log as the record of handled events.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::delivery::{self, Delivery, FILTER, Handled};
use crate::logs::{LogError, Logs};
use crate::record::Record;
use crate::shared_log::{SharedLog, hash};

/// The log of the function, for one tenant.
#[derive(Clone, Debug)]
pub struct DeliveryLog(Source);

#[derive(Clone, Debug)]
enum Source {
    Own(OwnLog),
    /// The log was read for all tenants.
    Shared {
        log: Arc<SharedLog>,
        /// In lower case.
        tenant: String,
    },
}

impl DeliveryLog {
    /// Creates the log of a tenant, or of every tenant if `tenant` is `None`. Nothing is read yet.
    pub fn new(logs: Logs, log_group: impl Into<String>, tenant: Option<&str>) -> Self {
        Self(Source::Own(OwnLog { logs, log_group: log_group.into(), tenant: tenant.map(str::to_owned) }))
    }

    /// Creates the part of a tenant in a log that was read for all tenants.
    pub fn shared(log: &Arc<SharedLog>, tenant: &str) -> Self {
        Self(Source::Shared { log: Arc::clone(log), tenant: tenant.to_ascii_lowercase() })
    }

    /// Passes the events that were handled since a point in time to `found`, until it breaks. A shared log passes what
    /// was read so far.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn handled(
        &self,
        since: Timestamp,
        mut found: impl FnMut(Handled) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let mut pass = |delivery: &Delivery| match delivery.handled() {
            Some(handled) => found(handled),
            None => ControlFlow::Continue(()),
        };
        match &self.0 {
            Source::Own(log) => log.read(since, |_, _, delivery| pass(delivery)).await,
            Source::Shared { log, tenant } => {
                log.each(tenant, since, |line| pass(&line.delivery));
                Ok(())
            }
        }
    }

    /// Removes each record with a handled event that is not older than the record's change. The log is read from
    /// `since`. SuperOffice's clock is ahead of AWS's by `ahead`, which is measured with the local clock: that clock is
    /// assumed to agree with AWS's.
    ///
    /// # Errors
    ///
    /// [`LogError`] if the log cannot be read.
    pub async fn remove_handled(
        &self,
        since: Timestamp,
        ahead: SignedDuration,
        records: &mut HashMap<Record, Timestamp>,
    ) -> Result<(), LogError> {
        self.handled(since, |handled| {
            let changed_at = records.get(&handled.record);
            if changed_at.is_some_and(|changed_at| handled.reports(*changed_at, ahead)) {
                records.remove(&handled.record);
            }
            if records.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .await
    }

    /// Passes the deliveries since a point in time to `found`, each with CloudWatch's time for the line, and a hash of
    /// the line. A log that is shared is read up to the present first.
    pub(crate) async fn deliveries(
        &self,
        since: Timestamp,
        mut found: impl FnMut(Timestamp, u64, &Delivery),
    ) -> Result<(), LogError> {
        match &self.0 {
            Source::Own(log) => {
                let found = |filed, line: &str, delivery: &Delivery| {
                    found(filed, hash(line), delivery);
                    ControlFlow::Continue(())
                };
                log.read(since, found).await
            }
            Source::Shared { log, tenant } => {
                log.refresh().await?;
                log.each(tenant, since, |line| {
                    found(line.filed, line.id, &line.delivery);
                    ControlFlow::Continue(())
                });
                Ok(())
            }
        }
    }
}

/// The log, read for `tenant`, or for every tenant if that is `None`.
#[derive(Clone, Debug)]
struct OwnLog {
    logs: Logs,
    log_group: String,
    tenant: Option<String>,
}

impl OwnLog {
    /// Passes the deliveries since a point in time to `found`, until it breaks.
    async fn read(
        &self,
        since: Timestamp,
        mut found: impl FnMut(Timestamp, &str, &Delivery) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        let found = |filed, line: &str| match delivery::parse(filed, line) {
            Some((named, delivery)) if is_of(self.tenant.as_deref(), named.as_deref()) => found(filed, line, &delivery),
            _ => ControlFlow::Continue(()),
        };
        self.logs.read(&self.log_group, FILTER, since, found).await
    }
}

/// Returns `true` if a line that names a tenant belongs to `tenant`.
fn is_of(tenant: Option<&str>, named: Option<&str>) -> bool {
    tenant.zip(named).is_none_or(|(tenant, named)| tenant.eq_ignore_ascii_case(named))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Returns `true` if a line that names a tenant belongs to `tenant`.
    fn is_read(tenant: Option<&str>, named: Value) -> bool {
        let mut line = json!({"outcome": "forwarded", "event": "contact.changed", "primaryKey": 7});
        line["contextIdentifier"] = named;
        let (named, _) = delivery::parse(Timestamp::UNIX_EPOCH, &line.to_string()).unwrap();
        is_of(tenant, named.as_deref())
    }

    #[test]
    fn other_tenants_are_passed_over() {
        assert!(is_read(Some("Cust1"), json!("cust1")));
        assert!(!is_read(Some("Cust1"), json!("Cust2")));
        assert!(is_read(None, json!("Cust2")));
        // An on-site installation does not name itself.
        for unnamed in [json!(null), json!("Default")] {
            assert!(is_read(Some("Cust1"), unnamed));
        }
    }
}
