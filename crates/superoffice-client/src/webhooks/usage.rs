//! The counters and the last error of a webhook. Each generation of servers has them in another place.

use jiff::Timestamp;
use serde_json::Value;

use super::Webhook;
use crate::archives::Row;
use crate::client::Client;
use crate::error::ApiError;

/// The deliveries of a webhook, as far as SuperOffice reports them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The number of deliveries.
    pub total_calls: Option<i64>,
    /// The number of failed deliveries.
    pub total_errors: Option<i64>,
    /// The number of failed deliveries since the last success.
    pub consecutive_errors: Option<i64>,
    /// The response to the last delivery that failed.
    pub last_error: Option<String>,
    /// The time of the last event. Only servers since 11.13 report it.
    pub last_event: Option<Timestamp>,
    /// SuperOffice sent the time of the last event without an offset, and it was read as UTC.
    pub lacks_offset: bool,
}

impl Client {
    /// Reads the deliveries of a webhook: from the archive `Webhook`, or on older servers from the webhook, from the
    /// archive of counters and by the call for the last error.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if a call fails that an older server knows.
    pub async fn usage(&self, webhook: &Webhook) -> Result<Usage, ApiError> {
        let mut usage = match self.archived_usage(webhook).await {
            Ok(usage) => usage,
            Err(error) if error.is_specific() || error.status() == Some(403) => Usage::default(),
            Err(error) => return Err(error),
        };
        let property = |name| webhook.get(name).and_then(Value::as_i64);
        usage.total_calls = usage.total_calls.or_else(|| property("TotalCalls"));
        usage.total_errors = usage.total_errors.or_else(|| property("TotalErrors"));
        if usage.consecutive_errors.is_none() {
            usage.consecutive_errors = self.consecutive_errors(webhook).await?;
        }
        if usage.last_error.is_none() {
            usage.last_error = match webhook.text("LastError") {
                Some(text) => Some(text.to_owned()),
                // A null property means that there was no error.
                None if webhook.has("LastError") => None,
                None => self.get(&format!("Webhook/{}/LastError", webhook.id), &[]).await?.as_str().map(str::to_owned),
            };
        }
        usage.last_error = usage.last_error.filter(|text| !text.is_empty()).map(|text| self.redact(&text));
        Ok(usage)
    }

    async fn archived_usage(&self, webhook: &Webhook) -> Result<Usage, ApiError> {
        const COLUMNS: [&str; 5] = [
            "webhookUsage/totalCalls",
            "webhookUsage/totalErrors",
            "webhookUsage/consecutiveErrors",
            "webhookUsage/lastError",
            "webhookUsage/lastEvent",
        ];
        let [calls, errors, consecutive, last_error, last_event] = COLUMNS;
        let Some(row) = self.usage_row("Webhook", "webhookId", &COLUMNS.join(","), webhook).await? else {
            return Ok(Usage::default());
        };
        let time = row.time(last_event).map_err(|problem| ApiError::unexpected("GET Archive/Webhook", problem))?;
        Ok(Usage {
            total_calls: row.integer(calls),
            total_errors: row.integer(errors),
            consecutive_errors: row.integer(consecutive),
            last_error: row.text(last_error).map(str::to_owned),
            last_event: time.map(|time| time.at),
            lacks_offset: time.is_some_and(|time| !time.has_offset),
        })
    }

    /// Reads the number of failed deliveries since the last success, on older servers from an archive.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the archive cannot be read.
    pub async fn consecutive_errors(&self, webhook: &Webhook) -> Result<Option<i64>, ApiError> {
        if let Some(count) = webhook.get("ConsecutiveErrors").and_then(Value::as_i64) {
            return Ok(Some(count));
        }
        let (key, column) = ("webhook_usage.webhook_usage_id", "webhook_usage.consecutive_errors");
        Ok(self.usage_row("dynamic", key, column, webhook).await?.and_then(|row| row.integer(column)))
    }

    async fn usage_row(
        &self,
        archive: &str,
        key: &str,
        columns: &str,
        webhook: &Webhook,
    ) -> Result<Option<Row>, ApiError> {
        let query = [("$select", format!("{key},{columns}")), ("$filter", format!("{key} eq {}", webhook.id))];
        let page = self.archive(archive, &query).await?;
        Ok(page.rows.into_iter().find(|row| row.integer(key) == Some(webhook.id)))
    }
}
