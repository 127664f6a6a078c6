use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use recovery::comparison::{Comparison, Progress, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::Logs;
use serde_json::json;
use superoffice_client::changes::ChangedContact;
use superoffice_client::webhooks::{RESYNC_EVENT, State};
use superoffice_client::{Client, settings};

use crate::environment::{self, AWS, LOG, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{Format, Output, message};

/// The time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Log lines appear late. So without --until, younger changes are not judged.
const SETTLING: SignedDuration = SignedDuration::from_mins(2);

/// List the contacts whose change did not arrive
///
/// A contact is missed if it changed in SuperOffice, and the function's log does not show a later event as forwarded or
/// ignored. The exit status is 0 if no contact was missed, or if all were signaled with --resync.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &LOG, &AWS]))]
pub(crate) struct Missed {
    /// The start: a time such as 2026-11-24T09:00:00Z or 2026-11-24 (UTC), or how long ago, such as 36h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Timestamp,
    /// The end, in the same forms [default: two minutes ago]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Make SuperOffice signal contact.resync for each missed contact
    ///
    /// With WEBHOOK_URL, checks first that an Active webhook receives the signals. Ctrl-C ends the command after the
    /// current signal.
    #[arg(long)]
    resync: bool,
    #[command(flatten)]
    format: Format,
}

impl Missed {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let ((url, connection), log_group) = environment::read(|env| {
            let url = env.get("WEBHOOK_URL");
            Some(url).zip(settings::connection(env)).zip(env.required("LOG_GROUP_NAME"))
        })?;
        if self.since > self.until.unwrap_or_else(Timestamp::now) {
            return Err("--since is later than --until".into());
        }
        let client = Client::new(connection)?;
        let interrupt = if self.resync { Some(Interrupt::listen()?) } else { None };
        if let (true, Some(url)) = (self.resync, url)
            && !is_resync_received(&client, &url).await?
        {
            message(format_args!("no Active webhook at {url} subscribes to {RESYNC_EVENT}, so no signal would arrive"));
            return Ok(Status::NeedsAttention);
        }
        let log = DeliveryLog::new(Logs::load().await?, log_group, client.context_identifier());
        let window = Window { since: self.since, until: self.until.unwrap_or(Timestamp::MAX) };
        let mut missed = Comparison::new(&client, &log, window, None);
        if self.until.is_none() {
            missed = missed.with_settling(SETTLING);
        }
        let progress = missed.progress();
        let (mut count, mut signaled) = (0_u64, 0_u64);
        loop {
            let next = with_progress(&progress, missed.next_batch());
            let batch = match &interrupt {
                Some(interrupt) => interrupt.or(next).await,
                None => Some(next.await),
            };
            let Some(batch) = batch else {
                return Ok(interrupted(&self.continuation()));
            };
            let Some(batch) = batch? else {
                break;
            };
            for contact in batch {
                if interrupt.as_ref().is_some_and(Interrupt::is_requested) {
                    return Ok(interrupted(&self.continuation()));
                }
                count += 1;
                self.print(&contact, output);
                if self.resync {
                    match client.signal_resync(contact.primary_key).await {
                        Ok(()) => signaled += 1,
                        Err(error) if error.is_specific() => {
                            message(format_args!("contact {}: {error}", contact.primary_key));
                        }
                        Err(error) => return Err(error.into()),
                    }
                } else if !output.is_open() {
                    return Ok(Status::NeedsAttention);
                }
            }
        }
        match missed.times_without_offset() {
            0 => {}
            count => message(format_args!("{count} times had no offset from UTC and were read as UTC")),
        }
        let signals = if self.resync { format!(", {signaled} signaled") } else { String::new() };
        message(format_args!("{} contacts changed, {count} missed{signals}", progress.listed()));
        if progress.unsettled() > 0 {
            message(format_args!(
                "{} more changed in the last two minutes; log lines appear late, so their events may have arrived",
                progress.unsettled()
            ));
        }
        Ok(Status::well_if(count == signaled))
    }

    fn print(&self, contact: &ChangedContact, output: &mut Output<impl Write>) {
        let (key, change, at) = (contact.primary_key, contact.change.as_str(), contact.at);
        if self.format.json {
            output.line(json!({"primaryKey": key, "change": change, "at": at}));
        } else {
            output.line(format_args!("{key} {change} {at}"));
        }
    }

    /// Returns the command that signals the remaining contacts. Those whose events have arrived are no longer missed.
    fn continuation(&self) -> String {
        let until = self.until.map_or(String::new(), |until| format!(" --until {until}"));
        let json = if self.format.json { " --json" } else { "" };
        format!("missed --since {}{until} --resync{json}", self.since)
    }
}

/// Returns `true` if the webhook at a URL can receive signals.
async fn is_resync_received(client: &Client, url: &str) -> Result<bool, Failure> {
    let webhooks = client.webhooks(url).await?;
    Ok(webhooks.contacts.iter().any(|webhook| webhook.state() == State::Active && webhook.receives_resync()))
}

/// Waits for a result, and reports progress in the meantime.
async fn with_progress<T>(progress: &Progress, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match tokio::time::timeout(PROGRESS_EVERY, &mut future).await {
            Ok(result) => return result,
            Err(_) => message(format_args!(
                "{} changed contacts and {} log lines so far",
                progress.listed(),
                progress.lines()
            )),
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
