//! Earlier runs, as the watchdog's own log reports them. No other store outlives the process.

use std::collections::HashMap;
use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};
use recovery::logs::{LogError, Logs};
use serde::Deserialize;

use crate::state::{Carried, State};
use crate::telemetry::MAX_LINE;

/// Lets CloudWatch leave out the lines of Lambda itself. It only saves transfer: every line is checked here.
const EVERY_LINE: &str = r#"{ ($.mode = "report") || ($.mode = "act") }"#;
/// Selects the line of each run, which contains copies of older states.
const RUN_LINES: &str = "{ $.remembered >= 0 }";
/// The period that is read. A run copies each state that would soon be older than this into its line.
const RECENT: SignedDuration = SignedDuration::from_hours(1);
/// The periods before [`RECENT`] that are searched for the latest run, the most likely one first.
const EARLIER: [SignedDuration; 2] = [SignedDuration::from_hours(24), SignedDuration::from_hours(90 * 24)];
/// The longest time between a tenant's line and the line of its run.
const LONGEST_RUN: SignedDuration = SignedDuration::from_mins(15);
/// A run copies a state that was written longer ago.
const CARRY_AFTER: SignedDuration = SignedDuration::from_mins(20);
/// The size of the copied states of a line at most, in bytes.
const MAX_CARRIED: usize = MAX_LINE * 3 / 4;

/// The fields of a line that concern earlier runs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RememberedLine {
    tenant: Option<String>,
    state: Option<State>,
    remembered: Option<u64>,
    #[serde(default)]
    carried: Vec<Carried>,
}

/// The states of the tenants, each with the time of its line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    states: HashMap<String, (Timestamp, State)>,
    /// The time of the latest run's line.
    remembered: Option<Timestamp>,
}

impl History {
    /// Reads the log, no further back than necessary.
    ///
    /// # Errors
    ///
    /// [`LogError`] if it cannot be read.
    pub async fn read(logs: &Logs, log_group: &str, now: Timestamp) -> Result<Self, LogError> {
        let mut history = Self::default();
        let before = |length| now.saturating_sub(length).unwrap_or(now);
        history.add_lines(logs, log_group, EVERY_LINE, (before(RECENT), Timestamp::MAX)).await?;
        if history.remembered.is_some() {
            return Ok(history);
        }
        let mut until = before(RECENT);
        for period in EARLIER {
            let mut runs = Self::default();
            runs.add_lines(logs, log_group, RUN_LINES, (before(period), until)).await?;
            if let Some(last) = runs.remembered {
                let since = last.saturating_sub(RECENT).unwrap_or(last);
                let until = last.saturating_add(LONGEST_RUN).unwrap_or(last);
                history.add_lines(logs, log_group, EVERY_LINE, (since, until)).await?;
                break;
            }
            until = before(period);
        }
        Ok(history)
    }

    async fn add_lines(
        &mut self,
        logs: &Logs,
        log_group: &str,
        filter: &str,
        (since, until): (Timestamp, Timestamp),
    ) -> Result<(), LogError> {
        let lines = logs.read_between(log_group, filter, since, until, |written, line| {
            self.add(written, line);
            ControlFlow::Continue(())
        });
        match lines.await {
            // Lambda creates the log group for the first line.
            Err(error) if error.is_missing() => Ok(()),
            result => result,
        }
    }

    /// Reads a line. The latest line of each tenant counts.
    fn add(&mut self, written: Timestamp, line: &str) {
        // A line of Lambda, or a broken one.
        let Ok(memory) = serde_json::from_str::<RememberedLine>(line) else {
            return;
        };
        if memory.remembered.is_some() {
            self.remembered = self.remembered.max(Some(written));
        }
        if let Some((tenant, state)) = memory.tenant.zip(memory.state) {
            self.remember(&tenant, written, state);
        }
        for carried in memory.carried {
            self.remember(&carried.tenant, written, carried.state);
        }
    }

    fn remember(&mut self, tenant: &str, written: Timestamp, mut state: State) {
        let known = self.states.entry(tenant.to_ascii_lowercase()).or_insert_with(|| (written, State::default()));
        // Runs at the same time do not know of each other, but each reactivation counts.
        let reactivated = known.1.reactivated.max(state.reactivated);
        if known.0 <= written {
            state.reactivated = reactivated;
            *known = (written, state);
        } else {
            known.1.reactivated = reactivated;
        }
    }

    /// Returns the state of a tenant.
    pub fn state(&self, tenant: &str) -> State {
        self.states.get(&tenant.to_ascii_lowercase()).map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// Returns the number of known tenants.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns `true` if no tenant is known.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// Copies the states of these tenants that later runs would no longer find, in parts that fit into a line.
    pub fn carry<'a>(&self, tenants: impl Iterator<Item = &'a str>, now: Timestamp) -> Vec<Vec<Carried>> {
        let limit = now.saturating_sub(CARRY_AFTER).unwrap_or(now);
        let mut parts: Vec<Vec<Carried>> = Vec::new();
        // Full, so that the first state begins a part.
        let mut size = MAX_CARRIED;
        for tenant in tenants {
            let Some((written, state)) = self.states.get(&tenant.to_ascii_lowercase()) else {
                continue;
            };
            if *written > limit {
                continue;
            }
            let carried = Carried { tenant: tenant.to_owned(), state: state.clone() };
            let length = serde_json::to_vec(&carried).map_or(0, |json| json.len());
            size += length;
            if size > MAX_CARRIED {
                parts.push(Vec::new());
                size = length;
            }
            if let Some(part) = parts.last_mut() {
                part.push(carried);
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn time(minute: i64) -> Timestamp {
        Timestamp::from_second(1_795_510_800 + 60 * minute).unwrap()
    }

    fn line(tenant: &str, swept_until: Timestamp) -> String {
        json!({"tenant": tenant, "mode": "act", "state": {"sweptUntil": swept_until}}).to_string()
    }

    #[test]
    fn latest_line_of_each_tenant_counts() {
        let mut history = History::default();
        history.add(time(2), &line("Cust1", time(-1)));
        // Lines of different log streams may be out of order, and a later sweep can go back further.
        history.add(time(1), &line("cust1", time(0)));
        history.add(time(1), &line("Cust2", time(0)));
        for broken in
            ["REPORT RequestId: 1", "{\"tenant\":\"Cust1\",\"state\":{\"sweptUntil\":\"20", r#"{"tenant":"Cust1"}"#]
        {
            history.add(time(3), broken);
        }
        assert_eq!(history.state("CUST1").swept_until, Some(time(-1)));
        assert_eq!((history.state("Cust2").swept_until, history.len()), (Some(time(0)), 2));
        assert_eq!(history.state("Cust3"), State::default());
    }

    #[test]
    fn each_reactivation_counts() {
        let line = |reactivated| json!({"tenant": "Cust1", "state": {"reactivated": reactivated}}).to_string();
        for order in [[0, 1], [1, 0]] {
            let mut history = History::default();
            for number in order {
                history.add(time(number), &line([Some(time(-5)), None][usize::try_from(number).unwrap()]));
            }
            assert_eq!(history.state("Cust1").reactivated, Some(time(-5)), "{order:?}");
        }
    }

    #[test]
    fn state_that_would_be_forgotten_is_copied() {
        let mut history = History::default();
        history.add(time(0), &line("Cust1", time(-9)));
        history.add(time(19), &line("Cust2", time(9)));
        let parts = history.carry(["Cust1", "Cust2", "Cust3"].into_iter(), time(20));
        assert_eq!(parts.len(), 1);
        let carried = json!({"mode": "act", "remembered": 2, "carried": parts[0]}).to_string();
        let mut next = History::default();
        next.add(time(20), &carried);
        assert_eq!((next.state("Cust1"), next.len()), (history.state("Cust1"), 1));
        assert_eq!(next.remembered, Some(time(20)));
        // The state was written with the run's line, and is copied again after a while.
        assert!(next.carry(["Cust1"].into_iter(), time(39)).is_empty());
        assert_eq!(next.carry(["Cust1"].into_iter(), time(40)), parts);
    }

    #[test]
    fn copied_states_are_split_into_lines() {
        let mut history = History::default();
        let missing: Vec<_> = (0..1500).map(|key| (key, 1_795_510_800, 0)).collect();
        let names: Vec<String> = (0..12).map(|number| format!("Cust{number}")).collect();
        for name in &names {
            history.add(time(0), &json!({"tenant": name, "state": {"missing": missing}}).to_string());
        }
        let parts = history.carry(names.iter().map(String::as_str), time(60));
        assert_eq!(parts.iter().map(Vec::len).sum::<usize>(), 12);
        assert!(
            parts.len() > 1 && parts.iter().all(|part| serde_json::to_vec(part).unwrap().len() < MAX_CARRIED + 100)
        );
    }
}
