mod comparisons;

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use recovery::changes::RecordChange;
use recovery::comparison::{Compared, Comparison, Progress, Window};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::Logs;
use recovery::record::Record;
use serde_json::json;
use superoffice_client::Archive;
use tenants::Tenant;

use self::comparisons::Comparisons;
use crate::environment::{self, AWS, ENTITIES, LOG, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::interrupt::Interrupt;
use crate::output::{Format, Output, message};
use crate::signals::{self, Rate, Signals, Stop};
use crate::tenants::{EarlyEnd, Interrupted, Label, Selection};

/// The time between two reports of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// List the contacts whose change did not arrive
///
/// A contact is missed if it changed in SuperOffice, and the function's log does not show a later event as forwarded or
/// ignored. If SYNC_ENTITIES has person, the persons follow. The exit status is 0 if none was missed, or if all were
/// signaled with --resync.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &ENTITIES, &LOG, &AWS]))]
pub(crate) struct Missed {
    #[command(flatten)]
    selection: Selection,
    /// The start: a time such as 2026-11-24T09:00:00Z or 2026-11-24 (UTC), or how long ago, such as 36h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Timestamp,
    /// The end, in a form that --since accepts [default: two minutes ago]
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
        let settings = signals::Settings::from_environment()?;
        let signals::Settings { source, entities, log_group, .. } = &settings;
        if self.since > self.until.unwrap_or_else(Timestamp::now) {
            return Err("--since is later than --until, or in the future".into());
        }
        if self.rate.is_given() && !self.resync {
            return Err("--rate needs --resync".into());
        }
        let selected = self.selection.resolve(source).await?;
        let interrupt = if self.resync { Some(Interrupt::listen()?) } else { None };
        let logs = Logs::load().await?;
        let list = source.list().await?;
        let mut comparisons =
            Comparisons::new(self.comparison(entities), logs.clone(), log_group, list.names(), selected.usable());
        let is_all = selected.is_all();
        let continuation = self.continuation();
        let early_end = match &interrupt {
            Some(interrupt) => EarlyEnd::OnInterrupt(interrupt, &continuation),
            None => EarlyEnd::WithoutReader,
        };
        selected
            .for_each(self.format, output, early_end, async |tenant, label, output| {
                let url = settings.url(tenant)?;
                let log = DeliveryLog::new(logs.clone(), log_group.as_str(), tenant.name());
                let target = Target { tenant, entities, url, log, label, interrupt: interrupt.as_ref() };
                match self.run_for(&target, &mut comparisons, output).await {
                    Ok(status) => Ok(status),
                    Err(Stop::Interrupted) => Err(Interrupted.into()),
                    // After the signals for a single tenant, the last line names the command that continues.
                    Err(stop) if self.resync && !is_all => stop.report(&continuation),
                    Err(Stop::Error(error)) => Err(error),
                    Err(Stop::Halt(halt)) => {
                        target.label.message(halt);
                        Ok(Status::NeedsAttention)
                    }
                }
            })
            .await
    }

    /// Lists the missed records of a tenant, and signals them with --resync.
    async fn run_for(
        &self,
        target: &Target<'_>,
        comparisons: &mut Comparisons,
        output: &mut Output<impl Write>,
    ) -> Result<Status, Stop> {
        let Target { tenant, entities, url, log, label, interrupt } = target;
        let client = comparisons.client(tenant).map_err(Stop::Error)?;
        if self.resync && !signals::can_arrive(&client, url.as_deref(), entities, label).await? {
            return Ok(Status::NeedsAttention);
        }
        let sleep = signals::sleep();
        let mut signals =
            interrupt.map(|interrupt| Signals::new(&client, log, self.rate.pace(), &sleep, interrupt, label));
        let mut totals = Totals::default();
        let mut after = None;
        // One part at a time, so that memory is bounded.
        loop {
            let compared = target.wait_for_part(comparisons, after).await?;
            totals.add(&compared);
            for changed in &compared.missed {
                match &mut signals {
                    Some(signals) => {
                        signals.ready(changed.record.archive, None).await?;
                        self.print(changed, target, output);
                        signals.signal(changed.record).await?;
                    }
                    None => {
                        self.print(changed, target, output);
                        if !output.is_open() {
                            return Ok(Status::NeedsAttention);
                        }
                    }
                }
            }
            after = compared.continue_after;
            if after.is_none() {
                break;
            }
        }
        if let Some(signals) = &mut signals {
            signals.settle().await?;
        }
        totals.report(signals.as_ref(), target);
        Ok(Status::well_if(totals.missed == 0 || signals.is_some_and(|signals| signals.are_complete())))
    }

    fn comparison(&self, entities: &[&'static Archive]) -> Comparison {
        let window = Window { since: self.since, until: self.until.unwrap_or(Timestamp::MAX) };
        let comparison = Comparison::new(window, entities);
        if self.until.is_none() { comparison.without_recent_changes() } else { comparison }
    }

    fn print(&self, changed: &RecordChange, target: &Target<'_>, output: &mut Output<impl Write>) {
        let RecordChange { record, change, at } = changed;
        if self.format.json {
            let mut object = json!({"primaryKey": record.id, "change": change.as_str(), "at": at});
            if !target.has_only_contacts() {
                object["entity"] = json!(record.archive.name);
            }
            target.label.object(output, object);
        } else if target.has_only_contacts() {
            target.label.line(output, format_args!("{} {} {at}", record.id, change.as_str()));
        } else {
            target.label.line(output, format_args!("{record} {} {at}", change.as_str()));
        }
    }

    /// Returns the command that signals the remaining records. Those whose events have arrived are no longer missed.
    fn continuation(&self) -> String {
        let until = self.until.map_or(String::new(), |until| format!(" --until {until}"));
        let json = if self.format.json { " --json" } else { "" };
        let tenants = self.selection.options();
        format!("missed{tenants} --since {}{until} --resync{}{json}", self.since, self.rate.option())
    }
}

/// A tenant, and what its comparison and its signals need.
struct Target<'a> {
    tenant: &'a Tenant,
    entities: &'a [&'static Archive],
    url: Option<String>,
    /// For the signals. The comparisons read the log of all tenants at once.
    log: DeliveryLog,
    label: Label,
    interrupt: Option<&'a Interrupt>,
}

impl Target<'_> {
    /// Returns `true` if only contacts are compared, so that results do not name the entity.
    fn has_only_contacts(&self) -> bool {
        self.entities == [Archive::CONTACT]
    }

    /// Compares a part of the tenant's changes, and reports progress in the meantime.
    async fn wait_for_part(&self, comparisons: &mut Comparisons, after: Option<Record>) -> Result<Compared, Stop> {
        let progress = comparisons.progress();
        let part = with_progress(&progress, comparisons.part(self.tenant, after));
        let part = match self.interrupt {
            Some(interrupt) => interrupt.or(part).await.ok_or(Stop::Interrupted)?,
            None => part.await,
        };
        part.map_err(Stop::Error)
    }
}

/// The counts of a tenant's comparison.
#[derive(Default)]
struct Totals {
    changed: u64,
    missed: usize,
    recent: u64,
    times_without_offset: u64,
}

impl Totals {
    fn add(&mut self, compared: &Compared) {
        self.changed += compared.listed;
        self.missed += compared.missed.len();
        self.recent += compared.recent;
        self.times_without_offset += compared.times_without_offset;
    }

    fn report(&self, signals: Option<&Signals<'_>>, target: &Target<'_>) {
        let label = &target.label;
        let Self { changed, missed, recent, times_without_offset } = self;
        if *times_without_offset > 0 {
            label.message(format_args!("{times_without_offset} times had no offset from UTC and were read as UTC"));
        }
        let signaled = signals.map(|signals| format!(", {} signaled", signals.count())).unwrap_or_default();
        let names: Vec<String> = target.entities.iter().map(|archive| format!("{}s", archive.name)).collect();
        label.message(format_args!("{changed} {} changed, {missed} missed{signaled}", names.join(" and ")));
        if *recent > 0 {
            label.message(format_args!(
                "{recent} more changed in the last two minutes; log lines appear late, so their events may have arrived"
            ));
        }
    }
}

/// Waits for a result, and reports progress in the meantime.
async fn with_progress<T>(progress: &Progress, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        match tokio::time::timeout(PROGRESS_EVERY, &mut future).await {
            Ok(result) => return result,
            Err(_) => message(format_args!("{} changes and {} log lines so far", progress.listed(), progress.lines())),
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
