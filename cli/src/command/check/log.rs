//! The log line of an event, found by the call that recovery uses.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use recovery::delivery::FILTER;
use recovery::logs::{LogError, Logs};
use superoffice_webhook::log_line::{FORWARDED, IGNORED, RequestLine};
use tokio::time::{Instant, sleep};

use super::finding::Finding;

/// CloudWatch returns a line within this time.
const LIMIT: Duration = Duration::from_secs(180);
/// The time between two reads. The quota is five calls per second for an account.
const INTERVAL: Duration = Duration::from_secs(3);
/// The clocks of this machine and of AWS may differ by this.
const MAX_OFFSET: SignedDuration = SignedDuration::from_mins(10);

const CHECK: &str = "log";

/// The log of the function.
pub(super) struct FunctionLog {
    pub(super) logs: Logs,
    pub(super) log_group: String,
    pub(super) limit: Duration,
    pub(super) interval: Duration,
}

impl FunctionLog {
    pub(super) fn new(logs: Logs, log_group: &str) -> Self {
        Self { logs, log_group: log_group.to_owned(), limit: LIMIT, interval: INTERVAL }
    }

    /// Waits for the lines of all events. Returns a finding for each event, in order.
    pub(super) async fn find(&self, event_ids: &[String]) -> Vec<Finding> {
        let started = Instant::now();
        let since = Timestamp::now().saturating_sub(MAX_OFFSET).unwrap_or(Timestamp::MIN);
        let mut missing: HashSet<&str> = event_ids.iter().map(String::as_str).collect();
        let mut error = None;
        while !missing.is_empty() {
            error = self.read(since, &mut missing).await.err();
            // A wrong name or a missing permission does not pass.
            if error.is_some() || missing.is_empty() || started.elapsed() + self.interval > self.limit {
                break;
            }
            sleep(self.interval).await;
        }
        let seconds = started.elapsed().as_secs();
        let found = |id: &String| match (&error, missing.contains(id.as_str())) {
            (_, false) => {
                Finding::ok(CHECK, format!("the line of this event is in {} after {seconds} s", self.log_group))
            }
            (Some(error), true) => Finding::wrong(
                CHECK,
                error.to_string(),
                "Compare LOG_GROUP_NAME with the output LogGroupName, its log class with Standard, and allow \
                 logs:FilterLogEvents",
            ),
            (None, true) => Finding::wrong(
                CHECK,
                format!("the line of this event is not in {} after {seconds} s", self.log_group),
                "Compare LOG_GROUP_NAME with the output LogGroupName, and set the function's application log level to INFO",
            ),
        };
        event_ids.iter().map(found).collect()
    }

    /// Removes the events whose lines are there: those that were forwarded or ignored.
    async fn read(&self, since: Timestamp, missing: &mut HashSet<&str>) -> Result<(), LogError> {
        let found = |_, line: &str| {
            let line = RequestLine::parse(line);
            let request = line.as_ref().map(|line| &line.properties);
            let arrived = request.filter(|request| matches!(request.outcome.as_ref(), FORWARDED | IGNORED));
            if let Some(event_id) = arrived.and_then(|request| request.event_id.as_deref()) {
                missing.remove(event_id);
            }
            if missing.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        self.logs.read(&self.log_group, FILTER, since, found).await
    }
}
