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
use superoffice_client::{Client, settings};

use crate::environment::{self, AWS, LOG, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::interrupt::Interrupt;
use crate::output::{Format, Output, message};
use crate::signals::{self, Rate, Signals, Stop};

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
    /// The signals stop unless the function's log shows within three minutes that the event of the first one was
    /// forwarded, and soon after the first failed delivery. With WEBHOOK_URL, checks first that an Active webhook
    /// receives the signals. Ctrl-C ends the command after the current signal.
    #[arg(long)]
    resync: bool,
    #[command(flatten)]
    rate: Rate,
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
        if self.rate.is_given() && !self.resync {
            return Err("--rate needs --resync".into());
        }
        let client = Client::new(connection)?;
        let interrupt = if self.resync { Some(Interrupt::listen()?) } else { None };
        if self.resync && !signals::can_arrive(&client, url.as_deref()).await? {
            return Ok(Status::NeedsAttention);
        }
        let log = DeliveryLog::new(Logs::load().await?, log_group, client.context_identifier());
        let window = Window { since: self.since, until: self.until.unwrap_or(Timestamp::MAX) };
        let mut missed = Comparison::new(&client, &log, window, None);
        if self.until.is_none() {
            missed = missed.with_settling(SETTLING);
        }
        let sleep = signals::sleep();
        let new_signals = |interrupt| Signals::new(&client, &log, self.rate, &sleep, interrupt);
        let mut signals = interrupt.as_ref().map(new_signals);
        let count = match self.find(&mut missed, interrupt.as_ref(), signals.as_mut(), output).await {
            Ok(Some(count)) => count,
            Ok(None) => return Ok(Status::NeedsAttention),
            Err(Stop::Error(error)) if !self.resync => return Err(error),
            Err(stop) => return stop.report(&self.continuation()),
        };
        match missed.times_without_offset() {
            0 => {}
            count => message(format_args!("{count} times had no offset from UTC and were read as UTC")),
        }
        let progress = missed.progress();
        let signaled = signals.as_ref().map(|signals| format!(", {} signaled", signals.count())).unwrap_or_default();
        message(format_args!("{} contacts changed, {count} missed{signaled}", progress.listed()));
        if progress.unsettled() > 0 {
            message(format_args!(
                "{} more changed in the last two minutes; log lines appear late, so their events may have arrived",
                progress.unsettled()
            ));
        }
        Ok(Status::well_if(count == 0 || signals.is_some_and(|signals| signals.are_complete())))
    }

    /// Lists the missed contacts, signals them with --resync, and returns their number; `None` if nobody reads the list.
    async fn find(
        &self,
        missed: &mut Comparison<'_>,
        interrupt: Option<&Interrupt>,
        mut signals: Option<&mut Signals<'_>>,
        output: &mut Output<impl Write>,
    ) -> Result<Option<u64>, Stop> {
        let progress = missed.progress();
        let mut count = 0;
        loop {
            let next = with_progress(&progress, missed.next_batch());
            let batch = match interrupt {
                Some(interrupt) => interrupt.or(next).await.ok_or(Stop::Interrupt)?,
                None => next.await,
            };
            let Some(batch) = batch.map_err(|error| Stop::Error(error.into()))? else {
                break;
            };
            for contact in batch {
                if let Some(signals) = &mut signals {
                    signals.ready(None).await?;
                }
                count += 1;
                self.print(&contact, output);
                match &mut signals {
                    Some(signals) => signals.signal(contact.primary_key).await?,
                    None if !output.is_open() => return Ok(None),
                    None => {}
                }
            }
        }
        if let Some(signals) = signals {
            signals.settle().await?;
        }
        Ok(Some(count))
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
        format!("missed --since {}{until} --resync{}{json}", self.since, self.rate.option())
    }
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
