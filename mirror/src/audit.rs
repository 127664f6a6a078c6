//! The audit: compares the table with SuperOffice's list of all records, and mends every difference. Each entity of a
//! tenant has an audit of its own.
//!
//! An audit is advanced in turns, and continues where the last turn ended:
//!
//! - [`state`]: the state of an audit, stored in the table, and the time at which the next one is due
//! - [`comparison`]: a page of the list beside the rows of its range, and the brake
//! - [`turn`]: an audit in one invocation: it reads each difference and writes it by the normal path
//!
//! This module decides which audit has the next turn. No date of SuperOffice is compared with a clock to decide if a
//! row is current: a row agrees if it has the list's own texts. docs/mirror.md states the guarantee.

pub mod comparison;
pub mod state;
pub mod turn;

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use jiff::SignedDuration;
use serde_json::Value;
use superoffice_webhook::env::Environment;
use superoffice_webhook::webhook::entity::Archive;
use tenants::partition;
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::superoffice::SuperOffice;
use crate::table::{Table, WriteError};
use crate::telemetry::Report;
use crate::tenants::{Tenant, Tenants};

use self::state::State;
use self::turn::Audit;

/// The time at the end of a run without reads, so that positions are written.
const RESERVE: Duration = Duration::from_secs(2);
/// The number of positions that are read at the same time.
const PARALLEL: usize = 16;
/// The number of attempts to begin an audit while others write its position.
const MAX_ATTEMPTS: u32 = 5;

/// The settings of audits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `SYNC_ENTITIES`: the entities whose records the table has.
    pub entities: Vec<&'static Archive>,
    /// `AUDIT_HOURS`: the time between two audits. 0 turns scheduled audits off.
    pub hours: u32,
    /// `REFRESH_DAYS`: a row that was read earlier is read again.
    pub refresh_days: u32,
    /// `AUDIT_READS_PER_SECOND`, per tenant.
    pub reads_per_second: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { entities: vec![Archive::CONTACT], hours: 24, refresh_days: 30, reads_per_second: 10 }
    }
}

impl Settings {
    /// Reads the settings.
    pub fn from_environment(env: &mut Environment<'_>) -> Self {
        let default = Self::default();
        let entities = Archive::from_environment(env).unwrap_or_default();
        let mut number = |name, least: u32, most: u32, default| {
            let number = env.parse(name, |text| {
                let number = text.parse().ok().filter(|number| (least..=most).contains(number));
                number.ok_or_else(|| format!("not a number from {least} to {most}"))
            });
            number.unwrap_or(default)
        };
        Self {
            entities,
            hours: number("AUDIT_HOURS", 0, 8760, default.hours),
            refresh_days: number("REFRESH_DAYS", 1, 3650, default.refresh_days),
            reads_per_second: number("AUDIT_READS_PER_SECOND", 1, 1000, default.reads_per_second),
        }
    }
}

/// An invocation without messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// The schedule: continues every audit that is due.
    Scheduled,
    /// `{"audit":"Cust1234"}` or `{"allowRemovals":"Cust1234"}`: begins an audit of one tenant.
    Begin {
        /// The tenant, in any letter case.
        tenant: String,
        /// The audit may remove any number of rows.
        may_remove: bool,
    },
}

impl Request {
    /// Reads an invocation.
    ///
    /// # Errors
    ///
    /// [`InvalidRequest`] if the event names no tenant although it begins an audit.
    pub fn parse(event: &Value) -> Result<Self, InvalidRequest> {
        let begin = |tenant: &Value, may_remove| match tenant.as_str() {
            Some(tenant) if !tenant.is_empty() => Ok(Self::Begin { tenant: tenant.to_owned(), may_remove }),
            _ => Err(InvalidRequest),
        };
        match (event.get("audit"), event.get("allowRemovals")) {
            (None, None) => Ok(Self::Scheduled),
            (Some(tenant), None) => begin(tenant, false),
            (None, Some(tenant)) => begin(tenant, true),
            (Some(_), Some(_)) => Err(InvalidRequest),
        }
    }
}

/// An event that begins an audit of no tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(r#"the event is neither {{"audit":"Cust1234"}} nor {{"allowRemovals":"Cust1234"}}"#)]
pub struct InvalidRequest;

/// Continues the audit of every tenant that is due, until the deadline. The report has the age of the oldest completion.
pub async fn run(tenants: &impl Tenants, table: &impl Table, settings: &Settings, deadline: Instant) -> Report {
    let mut report = Report::default();
    let list = match timeout_at(deadline, tenants.all()).await.unwrap_or(Err(Failure::OutOfTime)) {
        Ok(list) => list,
        Err(failure) => {
            report.fail_audit(None, None, &failure);
            return report;
        }
    };
    for name in &list.unusable {
        report.fail_audit(Some(name.as_str()), None, &Failure::UnusableTenant);
    }
    let active: Vec<_> = list.tenants.into_iter().filter(|tenant| !tenant.is_paused).collect();
    let mut audits = open(&active, table, settings, deadline, &mut report).await;
    let is_complete = audits.len() == active.len() * settings.entities.len();
    take_turns(tenants, &mut audits, deadline, &mut report).await;
    if settings.hours > 0 && is_complete {
        report.metrics.audit_age = Some(hours(audits.iter().map(Audit::age).max().unwrap_or_default()));
    }
    report
}

/// Begins the audits of one tenant, and advances them until the deadline.
///
/// # Errors
///
/// [`Failure`] if the tenant is unknown, unusable or paused, and if the position cannot be written.
pub async fn begin(
    tenants: &impl Tenants,
    table: &impl Table,
    settings: &Settings,
    name: &str,
    may_remove: bool,
    deadline: Instant,
) -> Result<Report, Failure> {
    let tenant = timeout_at(deadline, tenants.find(name)).await.unwrap_or(Err(Failure::OutOfTime))?;
    if tenant.is_paused {
        return Err(Failure::Paused);
    }
    for archive in &settings.entities {
        let written = write_beginning(&tenant, archive, table, may_remove);
        timeout_at(deadline, written).await.unwrap_or(Err(Failure::OutOfTime))?;
    }
    let mut report = Report::default();
    let active = [tenant];
    let mut audits = open(&active, table, settings, deadline, &mut report).await;
    take_turns(tenants, &mut audits, deadline, &mut report).await;
    Ok(report)
}

/// Writes the position at which an audit begins, whatever the state of the entity's last audit.
async fn write_beginning<S: SuperOffice>(
    tenant: &Tenant<S>,
    archive: &Archive,
    table: &impl Table,
    may_remove: bool,
) -> Result<(), Failure> {
    let (entity, now) = (partition::of_audit(&tenant.name, archive.name), tenant.superoffice.now());
    for _ in 0..MAX_ATTEMPTS {
        let position = table.position(&entity).await?;
        // A state that is unreadable is replaced.
        let state = position.as_ref().and_then(|position| State::parse(&position.state).ok());
        let state = state.unwrap_or_else(|| State::new(now)).requested(now, may_remove);
        let version = position.map(|position| position.version);
        match table.put_position(&entity, &state.position(version, now), version).await {
            Ok(()) => return Ok(()),
            Err(WriteError::Changed) => {}
            Err(WriteError::TooLarge) => return Err(Failure::Unexpected),
            Err(WriteError::Failed(error)) => return Err(error.into()),
        }
    }
    Err(Failure::Contended)
}

/// Reads the state of each audit. An audit whose state cannot be read is reported, and left out.
async fn open<'a, S: SuperOffice, T: Table>(
    tenants: &'a [Tenant<S>],
    table: &'a T,
    settings: &'a Settings,
    deadline: Instant,
    report: &mut Report,
) -> Vec<Audit<'a, S, T>> {
    let all = tenants.iter().flat_map(|tenant| settings.entities.iter().map(move |archive| (tenant, *archive)));
    let open = |(tenant, archive): (&'a Tenant<S>, &'static Archive)| async move {
        let audit = timeout_at(deadline, Audit::open(tenant, archive, table, settings)).await;
        (tenant, audit.unwrap_or(Err(Failure::OutOfTime)))
    };
    let opened: Vec<_> = stream::iter(all).map(open).buffered(PARALLEL).collect().await;
    let mut audits = Vec::with_capacity(opened.len());
    for (tenant, audit) in opened {
        match audit {
            Ok(audit) => audits.push(audit),
            Err(failure) => report.fail_audit(Some(&tenant.name), None, &failure),
        }
    }
    audits
}

/// Gives each audit that is due a turn, least recently advanced first, as long as there is time.
async fn take_turns<S: SuperOffice, T: Table>(
    tenants: &impl Tenants,
    audits: &mut [Audit<'_, S, T>],
    deadline: Instant,
    report: &mut Report,
) {
    let stop = deadline.checked_sub(RESERVE).unwrap_or(deadline);
    while Instant::now() < stop {
        let due = audits.iter_mut().filter(|audit| audit.is_due());
        let Some(audit) = due.min_by_key(|audit| audit.last_advanced()) else {
            return;
        };
        let (tenant, turn) = (audit.tenant(), audit.advance(stop, deadline, report).await);
        audits.iter_mut().filter(|audit| std::ptr::eq(audit.tenant(), tenant)).for_each(|audit| audit.follow(&turn));
        if turn.is_refused {
            // If the entry is not read again now, its credentials are refused in the next run, too.
            let _ = timeout_at(deadline, tenants.refused(&tenant.name)).await;
        }
    }
}

/// Returns an age in hours, rounded down to tenths: an alarm on a small number of hours needs them.
fn hours(age: SignedDuration) -> f64 {
    f64::from(u32::try_from(age.as_mins() / 6).unwrap_or(0)) / 10.0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn invocation_is_the_schedule_unless_it_names_a_tenant() {
        let begin = |tenant: &str, may_remove| Ok(Request::Begin { tenant: tenant.into(), may_remove });
        for (event, expected) in [
            (json!({}), Ok(Request::Scheduled)),
            (json!(null), Ok(Request::Scheduled)),
            (json!({"detail-type": "Scheduled Event", "source": "aws.events"}), Ok(Request::Scheduled)),
            (json!({"audit": "Cust1"}), begin("Cust1", false)),
            (json!({"allowRemovals": "cust1"}), begin("cust1", true)),
            (json!({"audit": ""}), Err(InvalidRequest)),
            (json!({"audit": null}), Err(InvalidRequest)),
            (json!({"allowRemovals": true}), Err(InvalidRequest)),
            (json!({"audit": "Cust1", "allowRemovals": "Cust1"}), Err(InvalidRequest)),
        ] {
            assert_eq!(Request::parse(&event), expected, "{event}");
        }
        assert_eq!(
            InvalidRequest.to_string(),
            r#"the event is neither {"audit":"Cust1234"} nor {"allowRemovals":"Cust1234"}"#
        );
    }

    #[test]
    fn age_is_rounded_down_to_tenths_of_an_hour() {
        for (seconds, expected) in
            [(-3600, 0.0), (0, 0.0), (359, 0.0), (360, 0.1), (7199, 1.9), (7200, 2.0), (7560, 2.1), (864_000, 240.0)]
        {
            assert_eq!(hours(SignedDuration::from_secs(seconds)), expected, "{seconds}");
        }
    }

    #[test]
    fn settings_have_defaults_and_limits() {
        let read = |variables: &[(&str, &str)]| {
            let lookup =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            let mut env = Environment::new(&lookup);
            let settings = Settings::from_environment(&mut env);
            env.finish(Some(settings)).map_err(|error| error.to_string())
        };
        let settings = |entities: &[&'static Archive], hours, refresh_days, reads_per_second| {
            Ok(Settings { entities: entities.to_vec(), hours, refresh_days, reads_per_second })
        };
        assert_eq!(read(&[]), settings(&[Archive::CONTACT], 24, 30, 10));
        assert_eq!(
            read(&[
                ("SYNC_ENTITIES", "contact,person"),
                ("AUDIT_HOURS", "0"),
                ("REFRESH_DAYS", "1"),
                ("AUDIT_READS_PER_SECOND", "1000")
            ]),
            settings(&Archive::ALL, 0, 1, 1000)
        );
        assert_eq!(
            read(&[("AUDIT_HOURS", "-1"), ("REFRESH_DAYS", "0"), ("AUDIT_READS_PER_SECOND", "0")]),
            Err("invalid configuration:\
                 \n  AUDIT_HOURS: not a number from 0 to 8760\
                 \n  REFRESH_DAYS: not a number from 1 to 3650\
                 \n  AUDIT_READS_PER_SECOND: not a number from 1 to 1000"
                .into())
        );
    }
}
