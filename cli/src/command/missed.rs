use std::collections::HashMap;
use std::io::Write;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};
use recovery::comparison::{Comparison, Listing, Progress, Window, compare};
use recovery::delivery_log::DeliveryLog;
use recovery::logs::Logs;
use recovery::shared_log::TenantNames;
use serde_json::json;
use superoffice_client::Client;
use superoffice_client::changes::ChangedRecord;
use superoffice_client::settings::WebhookSettings;
use tenants::{Tenant, TenantSource};

use crate::environment::{self, AWS, LOG, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::{Format, Output, message};
use crate::signals::{self, Rate, Signals, Stop};
use crate::tenants::{Interrupted, Label, Mode, Selection};

/// The number of changed contacts of several tenants that are compared with one reading of the log.
const TOGETHER: u64 = 50_000;
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
    #[command(flatten)]
    selection: Selection,
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
        let ((source, webhooks), log_group) = environment::read(|env| {
            let is_set = env.is_set("WEBHOOK_URL");
            let webhooks = if is_set { WebhookSettings::from_environment(env).map(Some) } else { Some(None) };
            TenantSource::from_environment(env).zip(webhooks).zip(env.required("LOG_GROUP_NAME"))
        })?;
        if self.since > self.until.unwrap_or_else(Timestamp::now) {
            return Err("--since is later than --until".into());
        }
        if self.rate.is_given() && !self.resync {
            return Err("--rate needs --resync".into());
        }
        let selected = self.selection.resolve(&source).await?;
        let interrupt = if self.resync { Some(Interrupt::listen()?) } else { None };
        let is_all = selected.is_all();
        let mut reading = Reading {
            command: &self,
            logs: Logs::load().await?,
            log_group,
            names: tenant_names(&source).await?,
            tenants: selected.usable(),
            listed: HashMap::new(),
            progress: Progress::default(),
            client: None,
        };
        let rest = self.continuation();
        let mode = interrupt.as_ref().map_or(Mode::Read, |interrupt| Mode::Until(interrupt, &rest));
        selected
            .for_each(self.format, output, mode, async |tenant, label, output| {
                let url = webhooks.as_ref().map(|webhooks| webhooks.url(tenant.name())).transpose()?;
                let target = Target { tenant, url, label, interrupt: interrupt.as_ref() };
                match self.one(&target, &mut reading, output).await {
                    Ok(status) => Ok(status),
                    Err(Stop::Interrupt) => Err(Interrupted.into()),
                    Err(Stop::Error(error)) if is_all || !self.resync => Err(error),
                    Err(Stop::Halt(halt)) if is_all => {
                        target.label.message(halt);
                        Ok(Status::NeedsAttention)
                    }
                    Err(stop) => stop.report(&rest),
                }
            })
            .await
    }

    /// Lists the missed contacts of a tenant, and signals them with --resync.
    async fn one(
        &self,
        target: &Target<'_>,
        reading: &mut Reading<'_>,
        output: &mut Output<impl Write>,
    ) -> Result<Status, Stop> {
        let Target { tenant, url, label, interrupt } = target;
        let client = reading.client(tenant).map_err(Stop::Error)?;
        if self.resync && !signals::can_arrive(&client, url.as_deref(), label).await? {
            return Ok(Status::NeedsAttention);
        }
        let log = DeliveryLog::new(reading.logs.clone(), reading.log_group.as_str(), client.context_identifier());
        let sleep = signals::sleep();
        let new_signals = |interrupt| Signals::new(&client, &log, self.rate, &sleep, interrupt, label);
        let mut signals = interrupt.map(new_signals);
        let progress = reading.progress.clone();
        let (mut count, mut listed, mut unsettled, mut without_offset) = (0, 0, 0, 0);
        let prepared = reading.listed.remove(tenant.name().unwrap_or_default());
        let prepared = prepared.transpose().map_err(Stop::Error)?;
        let after = prepared.as_ref().and_then(Listing::continue_after);
        let mut changes = self.changes(&client, &log, after, &progress);
        let mut next_listing = prepared;
        let mut is_first = next_listing.is_none();
        loop {
            let listing = match next_listing.take() {
                Some(listing) => listing,
                None => {
                    let next = with_progress(&progress, reading.next(tenant, &mut changes, is_first));
                    let listing = match interrupt {
                        Some(interrupt) => interrupt.or(next).await.ok_or(Stop::Interrupt)?,
                        None => next.await,
                    };
                    listing.map_err(Stop::Error)?
                }
            };
            is_first = false;
            listed += listing.listed();
            unsettled += listing.unsettled();
            without_offset += listing.times_without_offset();
            let is_last = listing.continue_after().is_none();
            for contact in listing.into_missed() {
                if let Some(signals) = &mut signals {
                    signals.ready(None).await?;
                }
                count += 1;
                self.print(&contact, label, output);
                match &mut signals {
                    Some(signals) => signals.signal(contact.primary_key).await?,
                    None if !output.is_open() => return Ok(Status::NeedsAttention),
                    None => {}
                }
            }
            if is_last {
                break;
            }
        }
        if let Some(signals) = &mut signals {
            signals.settle().await?;
        }
        if without_offset > 0 {
            label.message(format_args!("{without_offset} times had no offset from UTC and were read as UTC"));
        }
        let signaled = signals.as_ref().map(|signals| format!(", {} signaled", signals.count())).unwrap_or_default();
        label.message(format_args!("{listed} contacts changed, {count} missed{signaled}"));
        if unsettled > 0 {
            label.message(format_args!(
                "{unsettled} more changed in the last two minutes; log lines appear late, so their events may have \
                 arrived"
            ));
        }
        Ok(Status::well_if(count == 0 || signals.is_some_and(|signals| signals.are_complete())))
    }

    /// Returns the changes of a tenant that follow a contact.
    fn changes<'a>(
        &self,
        client: &'a Client,
        log: &'a DeliveryLog,
        after: Option<i64>,
        progress: &Progress,
    ) -> Comparison<'a> {
        let window = Window { since: self.since, until: self.until.unwrap_or(Timestamp::MAX) };
        let changes = Comparison::new(client, log, window, after).with_progress(progress);
        if self.until.is_none() { changes.with_settling(SETTLING) } else { changes }
    }

    fn print(&self, contact: &ChangedRecord, label: &Label, output: &mut Output<impl Write>) {
        let (key, change, at) = (contact.primary_key, contact.change.as_str(), contact.at);
        if self.format.json {
            label.object(output, json!({"primaryKey": key, "change": change, "at": at}));
        } else {
            label.line(output, format_args!("{key} {change} {at}"));
        }
    }

    /// Returns the command that signals the remaining contacts. Those whose events have arrived are no longer missed.
    fn continuation(&self) -> String {
        let until = self.until.map_or(String::new(), |until| format!(" --until {until}"));
        let json = if self.format.json { " --json" } else { "" };
        let tenants = self.selection.options();
        format!("missed{tenants} --since {}{until} --resync{}{json}", self.since, self.rate.option())
    }
}

/// A tenant, and what its signals need.
struct Target<'a> {
    tenant: &'a Tenant,
    url: Option<String>,
    label: Label,
    interrupt: Option<&'a Interrupt>,
}

/// The changes of all tenants. The log is read once for those of several tenants.
struct Reading<'a> {
    command: &'a Missed,
    logs: Logs,
    log_group: String,
    /// The names of the whole list.
    names: TenantNames,
    /// The tenants of the command, in their order.
    tenants: Vec<Arc<Tenant>>,
    /// The changes that were compared with the log already, by the tenant's name.
    listed: HashMap<String, Result<Listing, Failure>>,
    progress: Progress,
    /// A client whose connections all others use.
    client: Option<Client>,
}

impl Reading<'_> {
    fn client(&mut self, tenant: &Tenant) -> Result<Client, Failure> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::new(tenant.connection().clone())?,
        };
        Ok(self.client.insert(client).for_tenant(tenant.connection().clone()))
    }

    /// Returns the next changes of a tenant that are not in the log. The first changes of the next tenants are compared
    /// together with the first ones, as long as memory suffices.
    async fn next(
        &mut self,
        tenant: &Tenant,
        changes: &mut Comparison<'_>,
        is_first: bool,
    ) -> Result<Listing, Failure> {
        let mut own = changes.list(tenant.name().unwrap_or_default()).await.map_err(Failure::from);
        let mut others = Vec::new();
        if is_first {
            let this = self.tenants.iter().position(|other| other.name() == tenant.name());
            let next = self.tenants.get(this.map_or(usize::MAX, |this| this + 1)..).unwrap_or_default().to_vec();
            let mut count = own.as_ref().map_or(0, Listing::listed);
            for other in next {
                let name = other.name().unwrap_or_default();
                if count >= TOGETHER {
                    break;
                }
                if !self.listed.contains_key(name) {
                    let listing = self.list(&other).await;
                    count += listing.as_ref().map_or(0, Listing::listed);
                    others.push((name.to_owned(), listing));
                }
            }
        }
        let open =
            others.iter_mut().map(|(_, listing)| listing).chain([&mut own]).filter_map(|listing| listing.as_mut().ok());
        let compared = compare(&self.logs, &self.log_group, &self.names, open, &self.progress).await;
        if let Err(error) = compared {
            for (_, listing) in &mut others {
                *listing = Err(error.to_string().into());
            }
            own = Err(error.into());
        }
        self.listed.extend(others);
        own
    }

    /// Lists the first changes of a tenant.
    async fn list(&mut self, tenant: &Tenant) -> Result<Listing, Failure> {
        let client = self.client(tenant)?;
        let log = DeliveryLog::new(self.logs.clone(), self.log_group.as_str(), tenant.name());
        let mut changes = self.command.changes(&client, &log, None, &self.progress);
        Ok(changes.list(tenant.name().unwrap_or_default()).await?)
    }
}

/// Returns the names of all tenants, which decide to whom the log lines of unnamed installations belong.
async fn tenant_names(source: &TenantSource) -> Result<TenantNames, Failure> {
    let list = source.list().await?;
    let unusable = list.unusable().iter().map(|entry| entry.name.as_str());
    Ok(match list.usable() {
        [tenant] if tenant.name().is_none() => TenantNames::every(""),
        usable => TenantNames::new(usable.iter().filter_map(|tenant| tenant.name()).chain(unusable)),
    })
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
