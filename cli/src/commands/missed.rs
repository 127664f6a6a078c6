//! `missed`: the contacts whose events did not arrive.

use std::pin::pin;
use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use recovery::comparison::{Comparison, Progress, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::Logs;
use serde_json::json;
use superoffice_client::Client;
use superoffice_client::changes::ChangedContact;
use superoffice_client::settings;
use superoffice_client::webhooks::{RESYNC_EVENT, State};

use super::{CommandResult, Output, configured, exit_code, print};

/// The time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// List the contacts that changed in SuperOffice and that the function's log does not show as forwarded or ignored
/// since
///
/// Fails if a contact was missed, unless all of them were signaled with --resync.
#[derive(Debug, clap::Args)]
pub(crate) struct Missed {
    /// The begin: a time such as 2026-11-24T09:00:00Z or 2026-11-24 (UTC), or how long ago, such as 36h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Timestamp,
    /// The end, in the same forms [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Make SuperOffice signal contact.resync for each missed contact
    #[arg(long)]
    resync: bool,
    #[command(flatten)]
    output: Output,
}

impl Missed {
    pub(crate) async fn run(self) -> CommandResult {
        let (url, (connection, log_group)) = configured(|env| {
            Some(env.get("WEBHOOK_URL")).zip(settings::connection(env).zip(env.required("LOG_GROUP_NAME")))
        })?;
        if self.since > self.until.unwrap_or_else(Timestamp::now) {
            return Err("--since is later than --until".into());
        }
        let client = Client::new(connection)?;
        if let (true, Some(url)) = (self.resync, url) {
            let managed = client.webhooks(&url).await?;
            if !managed.contacts.iter().any(|webhook| webhook.state() == State::Active && webhook.receives_resync()) {
                return Err(format!(
                    "no Active webhook at {url} subscribes to {RESYNC_EVENT}, so no signal would arrive"
                )
                .into());
            }
        }
        let ledger = DeliveryLog::new(Logs::load().await, log_group, client.context_identifier());
        // SuperOffice's clock may be ahead.
        let window = Window { since: self.since, until: self.until.unwrap_or(Timestamp::MAX) };
        let mut missed = Comparison::new(&client, &ledger, window, None);
        let progress = missed.progress();
        let (mut count, mut signaled) = (0_u64, 0_u64);
        while let Some(batch) = with_progress(&progress, missed.next_batch()).await? {
            for contact in batch {
                count += 1;
                self.print(&contact)?;
                if self.resync {
                    match client.signal_resync(contact.primary_key).await {
                        Ok(()) => signaled += 1,
                        Err(error) if error.is_specific() => eprintln!("contact {}: {error}", contact.primary_key),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        match missed.times_without_offset() {
            0 => {}
            count => eprintln!("{count} times had no offset from UTC and were read as UTC"),
        }
        let signals = if self.resync { format!(", {signaled} signaled") } else { String::new() };
        eprintln!("{} contacts changed, {count} missed{signals}", progress.listed());
        Ok(exit_code(count == signaled))
    }

    fn print(&self, contact: &ChangedContact) -> super::CommandOutput {
        let (key, change, at) = (contact.primary_key, contact.change.as_str(), contact.at);
        if self.output.json {
            return print(json!({"primaryKey": key, "change": change, "at": at}));
        }
        print(format!("{key} {change} {at}"))
    }
}

/// Waits for a result, and reports progress in the meantime.
async fn with_progress<T>(progress: &Progress, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match tokio::time::timeout(PROGRESS_EVERY, &mut future).await {
            Ok(result) => return result,
            Err(_) => eprintln!("{} changed contacts and {} log lines so far", progress.listed(), progress.lines()),
        }
    }
}

fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<jiff::civil::DateTime>() {
        return Offset::UTC.to_timestamp(time).map_err(|error| error.to_string());
    }
    let ago = text.parse::<Span>().ok().and_then(|ago| ago.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    let ago = ago.filter(SignedDuration::is_positive);
    let ago = ago.ok_or("expected a time such as 2026-11-24T09:00:00Z, or a duration such as 36h or 7d")?;
    Timestamp::now().checked_sub(ago).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_durations_are_accepted() {
        assert_eq!(parse_time("2026-11-24T10:00:00+01:00").unwrap().to_string(), "2026-11-24T09:00:00Z");
        assert_eq!(parse_time("2026-11-24").unwrap().to_string(), "2026-11-24T00:00:00Z");
        for (text, hours) in [("36h", 36), ("7d", 168), ("2 weeks 1h", 337)] {
            let ago = Timestamp::now().duration_since(parse_time(text).unwrap());
            assert!((ago - SignedDuration::from_hours(hours)).abs() < SignedDuration::from_mins(1), "{ago}");
        }
        assert_eq!(parse_time("2026-11-24T09:00:00").unwrap().to_string(), "2026-11-24T09:00:00Z");
        for wrong in ["", "yesterday", "-1h", "1 month"] {
            assert!(parse_time(wrong).is_err(), "{wrong}");
        }
    }
}
