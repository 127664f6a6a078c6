//! Signals of `contact.resync` and `person.resync` for many records: their rate, their progress, and the reasons to
//! stop.

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use recovery::delivery_log::DeliveryLog;
use recovery::record::Record;
use recovery::signaler::{Halt, Pace, Signaler, Sleep};
use superoffice_client::settings::{NoTenantName, WebhookSettings};
use superoffice_client::{ApiError, Archive, Client};
use superoffice_webhook::env::ConfigError;
use tenants::{Tenant, TenantSource};
use tokio::time::{Instant, timeout_at};

use crate::environment;
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::message;
use crate::tenants::Label;

/// The environment of a command that can signal records.
pub(crate) struct Settings {
    pub(crate) source: TenantSource,
    /// `None` if `WEBHOOK_URL` is not set.
    webhooks: Option<WebhookSettings>,
    pub(crate) entities: Vec<&'static Archive>,
    pub(crate) log_group: String,
}

impl Settings {
    pub(crate) fn from_environment() -> Result<Self, ConfigError> {
        environment::read(|env| {
            let is_set = env.is_set("WEBHOOK_URL");
            let webhooks = if is_set { WebhookSettings::from_environment(env).map(Some) } else { Some(None) };
            let (source, entities) = (TenantSource::from_environment(env), Archive::from_environment(env));
            let log_group = env.required("LOG_GROUP_NAME");
            environment::check_aws(env);
            Some(Self { source: source?, webhooks: webhooks?, entities: entities?, log_group: log_group? })
        })
    }

    /// Returns the URL of a tenant's webhooks, if it is known.
    pub(crate) fn url(&self, tenant: &Tenant) -> Result<Option<String>, NoTenantName> {
        self.webhooks.as_ref().map(|webhooks| webhooks.url(tenant.name())).transpose()
    }
}

/// The rate of signals.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Rate {
    /// The largest number of signals per second [default: 5]
    ///
    /// At most 25 events are on their way at a time, which also limits the rate.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
}

impl Rate {
    const DEFAULT: u32 = 5;

    /// Returns `true` if the option is present.
    pub(crate) fn is_given(self) -> bool {
        self.rate.is_some()
    }

    /// Returns the times between signals, and between reads of the log.
    pub(crate) fn pace(self) -> Pace {
        Pace::default().with_rate(self.rate.unwrap_or(Self::DEFAULT))
    }

    /// Returns the option with a space before it, or an empty text.
    pub(crate) fn option(self) -> String {
        self.rate.map(|rate| format!(" --rate {rate}")).unwrap_or_default()
    }
}

/// Waits on the system's clock.
pub(crate) fn sleep() -> Sleep {
    Box::new(|time| Box::pin(tokio::time::sleep(time)))
}

/// Returns `true` if webhooks at a URL can receive the signals of all entities, or if the URL is not known. Otherwise,
/// reports the reason.
pub(crate) async fn can_arrive(
    client: &Client,
    url: Option<&str>,
    archives: &[&Archive],
    label: &Label,
) -> Result<bool, ApiError> {
    let Some(url) = url else {
        return Ok(true);
    };
    let webhooks = client.webhooks(url).await?;
    let missing: Vec<_> = archives.iter().filter(|archive| !webhooks.receives_resync(archive)).collect();
    for archive in &missing {
        let event = archive.resync();
        label.message(format_args!("no Active webhook at {url} subscribes to {event}, so no signal would arrive"));
    }
    Ok(missing.is_empty())
}

/// The reason why a command stops early.
pub(crate) enum Stop {
    /// SIGINT or SIGTERM.
    Interrupted,
    /// Signals do not arrive.
    Halt(Halt),
    /// SuperOffice or the log does not respond as expected.
    Error(Failure),
}

impl From<Halt> for Stop {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Log(error) => Self::Error(error.into()),
            halt => Self::Halt(halt),
        }
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Error(error.into())
    }
}

impl Stop {
    /// Reports the reason. The last line names `continuation`, the command that continues, without the program's name.
    pub(crate) fn report(self, continuation: &str) -> CommandResult {
        let next = format!("stopped; continue with: so-webhook {continuation}");
        match self {
            Self::Interrupted => Ok(interrupted(continuation)),
            Self::Halt(halt) => {
                message(format_args!("{halt}\n{next}"));
                Ok(Status::NeedsAttention)
            }
            Self::Error(error) => Err(format!("{error}\n{next}").into()),
        }
    }
}

/// The signals of one command.
pub(crate) struct Signals<'a> {
    signaler: Signaler<'a>,
    /// The entities that were signaled.
    entities: Vec<&'static str>,
    interrupt: &'a Interrupt,
    label: &'a Label,
    /// The lowest id of the records whose signal failed or whose event got lost.
    first_incomplete: Option<i64>,
    begin: Instant,
    next_report: Instant,
}

impl<'a> Signals<'a> {
    pub(crate) fn new(
        client: &'a Client,
        log: &'a DeliveryLog,
        pace: Pace,
        sleep: &'a Sleep,
        interrupt: &'a Interrupt,
        label: &'a Label,
    ) -> Self {
        let begin = Instant::now();
        Self {
            signaler: Signaler::new(client, log, pace, sleep),
            entities: Vec::new(),
            interrupt,
            label,
            first_incomplete: None,
            begin,
            next_report: begin + report_every(),
        }
    }

    /// Waits until the next record of an entity may be signaled. `left` is the part of the work that is left, if it is
    /// known.
    pub(crate) async fn ready(&mut self, archive: &'static Archive, left: Option<f64>) -> Result<(), Stop> {
        if !self.entities.contains(&archive.name) {
            self.entities.push(archive.name);
        }
        let progress = self.progress(left);
        let wait = with_reports(&mut self.next_report, &progress, self.signaler.ready(archive));
        let result = self.interrupt.or(wait).await;
        self.report_lost();
        Ok(result.ok_or(Stop::Interrupted)??)
    }

    /// Signals a record. A failure that may concern only this record is reported and counted.
    pub(crate) async fn signal(&mut self, record: Record) -> Result<(), Stop> {
        match self.signaler.signal(record).await {
            Err(error) if error.is_specific() => {
                self.label.message(format_args!("{record}: {error}"));
                self.add_incomplete(record);
                Ok(())
            }
            result => Ok(result?),
        }
    }

    /// Waits until every event has arrived.
    pub(crate) async fn settle(&mut self) -> Result<(), Stop> {
        let progress = self.progress(None);
        let wait = with_reports(&mut self.next_report, &progress, self.signaler.settle());
        let result = self.interrupt.or(wait).await;
        self.report_lost();
        Ok(result.ok_or(Stop::Interrupted)??)
    }

    /// Returns the number of records that were signaled.
    pub(crate) fn count(&self) -> u64 {
        self.signaler.signals()
    }

    /// Returns `true` if no signal failed and no event got lost.
    pub(crate) fn are_complete(&self) -> bool {
        self.first_incomplete.is_none()
    }

    /// Returns the id after which the command continues, if the records of an entity are in the order of their ids, and
    /// `signaled` was the last one.
    pub(crate) fn continue_after(&self, signaled: i64) -> i64 {
        let first_awaited = self.signaler.first_awaited().map(|record| record.id);
        first_awaited.into_iter().chain(self.first_incomplete).min().map_or(signaled, |id| id - 1)
    }

    fn add_incomplete(&mut self, record: Record) {
        self.first_incomplete = Some(self.first_incomplete.map_or(record.id, |first| first.min(record.id)));
    }

    fn progress(&self, left: Option<f64>) -> String {
        let (count, time) = (self.count(), self.begin.elapsed().as_secs_f64());
        let rate = if time > 0.0 { count as f64 / time } else { 0.0 };
        let remaining = match left {
            Some(left) if count > 0 && left < 1.0 => format!(", {} left", duration(time * left / (1.0 - left))),
            _ => String::new(),
        };
        let names: Vec<String> = self.entities.iter().map(|entity| format!("{entity}s")).collect();
        format!("{count} {} signaled, {rate:.1} per second{remaining}", names.join(" and "))
    }

    fn report_lost(&mut self) {
        for record in self.signaler.take_lost() {
            self.label.message(format_args!("{record} was signaled, but its event got lost"));
            self.add_incomplete(record);
        }
    }
}

/// Waits for a result, and reports progress in the meantime.
async fn with_reports<T>(next: &mut Instant, progress: &str, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if *next <= Instant::now() {
            message(progress);
            *next = Instant::now() + report_every();
        }
        if let Ok(result) = timeout_at(*next, &mut future).await {
            return result;
        }
    }
}

/// Returns the time between two reports of progress. A file of messages has fewer of them.
fn report_every() -> Duration {
    Duration::from_secs(if io::stderr().is_terminal() { 5 } else { 60 })
}

/// Returns a duration in its two largest units.
fn duration(seconds: f64) -> String {
    let seconds = seconds as u64;
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::pin::Pin;
    use std::sync::Arc;

    use aws_config::BehaviorVersion;
    use aws_sdk_cloudwatchlogs::config::{Credentials, Region};
    use fake_superoffice::{Installation, LOG_GROUP, SECRET, TENANT, WEBHOOK_URL};
    use recovery::logs::Logs;
    use superoffice_client::registration::Desired;
    use superoffice_client::{Limits, settings};
    use superoffice_webhook::env::Environment;

    use super::*;

    /// Returns a client of a log server.
    pub(crate) fn logs(url: &str) -> Logs {
        let config = aws_sdk_cloudwatchlogs::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("eu-north-1"))
            .endpoint_url(url)
            .credentials_provider(Credentials::new("id", "key", None, None, "test"))
            .http_client(aws_smithy_http_client::Builder::new().build_http());
        Logs::new(aws_sdk_cloudwatchlogs::Client::from_conf(config.build())).without_waits()
    }

    #[tokio::test]
    async fn records_whose_events_got_lost_are_signaled_again() {
        // Every wait lasts until each event was delivered.
        const PACE: Pace = Pace { interval: Duration::ZERO, read_every: Duration::ZERO, reads: 3 };
        let bed = Installation::start().await;
        let variables = bed.variables();
        let lookup = |name: &str| variables.get(name).cloned();
        let connection = settings::connection(&mut Environment::new(&lookup)).unwrap();
        let clock = bed.clock.clone();
        let client = Client::with(connection, Limits::default(), Arc::new(move || clock.now())).unwrap();
        client.register(&Desired::new(WEBHOOK_URL, SECRET.into())).await.unwrap();
        let log = DeliveryLog::new(logs(&bed.logs.url()), LOG_GROUP, Some(TENANT));
        let superoffice = Arc::clone(&bed.superoffice);
        let sleep: Sleep = Box::new(move |_| {
            let superoffice = Arc::clone(&superoffice);
            Box::pin(async move { superoffice.idle().await }) as Pin<Box<dyn Future<Output = ()> + Send>>
        });
        let (interrupt, label) = (Interrupt::listen().unwrap(), Label::default());
        let mut signals = Signals::new(&client, &log, PACE, &sleep, &interrupt, &label);
        for ids in [vec![1, 2], vec![3, 4], vec![5], vec![6, 7]] {
            if ids.len() > 1 && ids != [1, 2] {
                bed.function.lose_next();
            }
            for id in ids {
                assert!(signals.ready(Archive::CONTACT, None).await.is_ok());
                assert!(signals.signal(Record::contact(id)).await.is_ok());
            }
            assert!(signals.settle().await.is_ok());
        }
        assert_eq!((signals.count(), signals.are_complete(), signals.continue_after(7)), (7, false, 2));
    }

    #[test]
    fn durations_have_their_largest_units() {
        for (seconds, text) in
            [(0.0, "0 s"), (59.9, "59 s"), (60.0, "1 min"), (3599.0, "59 min"), (20_000.0, "5 h 33 min")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn reason_to_stop_is_followed_by_the_command_that_continues() {
        assert_eq!(Stop::Interrupted.report("missed").unwrap(), Status::NeedsAttention);
        assert_eq!(Stop::Halt(Halt::DeliveryFailed).report("missed").unwrap(), Status::NeedsAttention);
        let error = Stop::Error("no route".into()).report("bootstrap --after 7").unwrap_err();
        assert_eq!(error.to_string(), "no route\nstopped; continue with: so-webhook bootstrap --after 7");
    }
}
