//! The Lambda function: each invocation is a batch of messages, or it advances audits.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde_json::Value;
use superoffice_client::Limits;
use superoffice_consumer::Batch;
use superoffice_webhook::{Verifier, log_line};
use tokio::time::Instant;

use crate::audit::{self, Request, Settings};
use crate::batch;
use crate::config::Config;
use crate::table::Table;
use crate::telemetry::Report;
use crate::tenants::Clients;

/// The time before the end of the invocation at which a batch stops, so that its response is sent.
const RESERVE: Duration = Duration::from_secs(2);
/// The time before the end of the invocation at which an audit ends. It has ended at least five seconds before the end,
/// even if the last write of the position and the log line are slow.
const AUDIT_RESERVE: Duration = Duration::from_millis(5500);

/// The function, with its connections.
pub struct Mirror<T> {
    audit: Settings,
    tenants: Clients,
    table: T,
    verifier: Option<Verifier>,
}

impl<T: Table> Mirror<T> {
    /// Creates the function with its table.
    pub fn new(config: Config, table: T) -> Self {
        let tenants = Clients::new(config.tenants, limits(), Arc::new(Timestamp::now));
        Self { audit: config.audit, tenants, table, verifier: config.verifier }
    }

    /// Handles invocations until the process ends.
    ///
    /// # Errors
    ///
    /// [`Error`] if Lambda's runtime API fails.
    pub async fn run(self) -> Result<(), Error> {
        lambda_runtime::run(service_fn(async |event: LambdaEvent<Value>| self.invoke(event).await)).await
    }

    /// Handles a batch of messages, or advances audits if the event has no `Records`.
    ///
    /// # Errors
    ///
    /// [`Error`] if the event begins no audit although it names a tenant.
    pub async fn invoke(&self, event: LambdaEvent<Value>) -> Result<Value, Error> {
        let context = &event.context;
        let left = context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
        let end = Instant::now() + left;
        let (response, report) = if event.payload.get("Records").is_some() {
            let batch: Batch = serde_json::from_value(event.payload)?;
            let (deadline, verifier) = (before(end, RESERVE), self.verifier.as_ref());
            let entities = &self.audit.entities;
            let (response, report) =
                batch::handle(&self.tenants, &self.table, verifier, entities, &batch, deadline).await;
            (serde_json::to_value(response)?, report)
        } else {
            let request = Request::parse(&event.payload)?;
            (Value::Null, self.advance_audits(request, before(end, AUDIT_RESERVE)).await?)
        };
        log_line::write(report.line(&context.env_config.function_name, &context.request_id, Timestamp::now()));
        Ok(response)
    }

    async fn advance_audits(&self, request: Request, deadline: Instant) -> Result<Report, Error> {
        let (tenants, table) = (&self.tenants, &self.table);
        match request {
            Request::Scheduled => Ok(audit::run(tenants, table, &self.audit, deadline).await),
            Request::Begin { tenant, may_remove } => {
                let report = audit::begin(tenants, table, &self.audit, &tenant, may_remove, deadline).await;
                Ok(report.map_err(|failure| format!("the audit does not begin: {failure}"))?)
            }
        }
    }
}

/// Returns the limits of a call of SuperOffice. The queue repeats a failed record.
fn limits() -> Limits {
    Limits {
        connect: Duration::from_secs(3),
        attempt: Duration::from_secs(8),
        attempts: 1,
        renews_tickets: false,
        ..Limits::default()
    }
}

/// Returns the time `reserve` before `end`, but not a time in the past.
fn before(end: Instant, reserve: Duration) -> Instant {
    end.checked_sub(reserve).unwrap_or(end).max(Instant::now())
}
