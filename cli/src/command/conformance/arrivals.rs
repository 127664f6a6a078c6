//! The events of the test that arrived at the function, from its log.

use std::ops::ControlFlow;
use std::time::Duration;

use jiff::Timestamp;
use recovery::logs::{LogError, Logs};
use superoffice_webhook::log_line::RequestLine;
use tokio::time::Instant;

use crate::interrupt::Interrupt;

/// Lets CloudWatch leave out most other lines.
const FILTER: &str = r#"{ ($.event = "contact.*") || ($.event = "webhook.*") }"#;
/// The time between two reads of the log.
const READ_EVERY: Duration = Duration::from_secs(1);

/// An event whose signature was valid.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    event: String,
    primary_key: Option<i64>,
    pub(super) tenant: Option<String>,
    /// The time of the line, by AWS's clock.
    pub(super) written: Timestamp,
    /// The milliseconds since the event was raised; `None` if it has no time, or a time in the future.
    pub(super) delay: Option<f64>,
}

impl Arrival {
    fn read(written: Timestamp, line: &str) -> Option<Self> {
        let line = RequestLine::parse(line)?;
        let written = line.written_at().unwrap_or(written);
        let request = line.properties;
        Some(Self {
            event: request.event?.to_ascii_lowercase(),
            primary_key: request.primary_key,
            tenant: request.context_identifier.map(Into::into),
            written,
            delay: line.metrics.delivery_delay.and_then(|delay| delay.as_f64()),
        })
    }

    /// Returns `true` if it is this event of a contact.
    pub(super) fn is(&self, event: &str, contact: i64) -> bool {
        self.event == event && self.primary_key == Some(contact)
    }

    /// Returns the evidence for the arrival.
    pub(super) fn describe(&self) -> String {
        match self.delay {
            Some(delay) => format!("arrived {:.1} s after it was raised", delay / 1000.0),
            None => "arrived".to_owned(),
        }
    }

    pub(super) fn is_event(&self, event: &str) -> bool {
        self.event == event
    }

    /// Returns `true` if it is an event of one of these contacts.
    pub(super) fn is_about(&self, contacts: &[i64]) -> bool {
        self.event.starts_with("contact.") && self.primary_key.is_some_and(|key| contacts.contains(&key))
    }
}

/// The function's log.
pub(super) struct FunctionLog {
    pub(super) logs: Logs,
    pub(super) log_group: String,
    /// The longest wait for a line.
    pub(super) wait: Duration,
}

impl FunctionLog {
    /// Reads the arrivals since a point in time, until they are complete or the wait is over. Returns `None` after a
    /// signal.
    pub(super) async fn arrivals(
        &self,
        since: Timestamp,
        interrupt: &Interrupt,
        is_complete: impl Fn(&[Arrival]) -> bool,
    ) -> Option<Result<Vec<Arrival>, LogError>> {
        let end = Instant::now() + self.wait;
        loop {
            let arrivals = interrupt.or(self.read(since)).await?;
            match &arrivals {
                Ok(arrivals) if !is_complete(arrivals) && Instant::now() < end => {}
                _ => return Some(arrivals),
            }
            interrupt.or(tokio::time::sleep(READ_EVERY)).await?;
        }
    }

    async fn read(&self, since: Timestamp) -> Result<Vec<Arrival>, LogError> {
        let mut arrivals = Vec::new();
        let found = |written, line: &str| {
            arrivals.extend(Arrival::read(written, line));
            ControlFlow::Continue(())
        };
        self.logs.read(&self.log_group, FILTER, since, found).await?;
        Ok(arrivals)
    }
}
