use clap::builder::PossibleValuesParser;
use recovery::delivery_log::DeliveryLog;
use recovery::logs::Logs;
use recovery::record::Record;
use superoffice_client::{Archive, Client};

use crate::environment::{self, AWS, ENTITIES, LOG, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::message;
use crate::signals::{self, Rate, Signals, Stop};
use crate::tenants::OneTenant;

/// The number of records of a page.
const PAGE: usize = 1000;

/// Make SuperOffice signal contact.resync for every existing contact
///
/// A consumer that was added later receives an event for each existing contact, and reads the contact's current state.
/// The contacts are signaled by ascending id. No other contact is signaled until the function's log shows that the event
/// of the first one was forwarded, within three minutes. Later, the log is watched, and the command stops soon after the
/// first failed delivery. If SYNC_ENTITIES has person, the persons follow with person.resync.
///
/// Ctrl-C ends the command after the current signal. Unless all contacts were signaled, the last line of standard error
/// is the command that continues. With WEBHOOK_URL, checks first that an Active webhook receives the signals. The exit
/// status is 0 if all contacts were signaled.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &ENTITIES, &LOG, &AWS]))]
pub(crate) struct Bootstrap {
    #[command(flatten)]
    rate: Rate,
    /// Begin with the contact that follows this id
    #[arg(long, value_name = "ID", default_value_t = 0)]
    after: i64,
    /// Begin with this entity of SYNC_ENTITIES, and leave out those before it
    #[arg(long, value_parser = PossibleValuesParser::new(Archive::ALL.map(|archive| archive.name)))]
    entity: Option<String>,
    #[command(flatten)]
    tenant: OneTenant,
}

impl Bootstrap {
    pub(crate) async fn run(self) -> CommandResult {
        let settings = signals::Settings::from_environment()?;
        let archives = &settings.entities;
        let begin = self.begin(archives)?;
        let (tenant, label) = self.tenant.resolve(&settings.source).await?;
        let url = settings.url(&tenant)?;
        let client = Client::new(tenant.connection().clone())?;
        let interrupt = Interrupt::listen()?;
        if !signals::can_arrive(&client, url.as_deref(), &archives[begin..], &label).await? {
            return Ok(Status::NeedsAttention);
        }
        let log = DeliveryLog::new(Logs::load().await?, &settings.log_group, client.context_identifier());
        let sleep = signals::sleep();
        // The command that begins with the first record that was not signaled, or whose event got lost.
        let mut continuation: Option<String> = None;
        for (position, archive) in archives.iter().copied().enumerate().skip(begin) {
            let mut signals = Signals::new(&client, &log, self.rate.pace(), &sleep, &interrupt, &label);
            let first = if position == begin { self.after } else { 0 };
            let mut after = first;
            let result = signal_all(&client, archive, &mut signals, &interrupt, first, &mut after).await;
            if result.is_err() || !signals.are_complete() {
                let entity = if position == 0 { String::new() } else { format!(" --entity {}", archive.name) };
                let options = [self.tenant.option(), self.rate.option(), entity].concat();
                let command = format!("bootstrap{options} --after {}", signals.continue_after(after));
                // A gap in an earlier entity precedes this position.
                let continuation = continuation.get_or_insert(command);
                if let Err(stop) = result {
                    return stop.report(continuation);
                }
            }
            message(format_args!("{} {}s signaled", signals.count(), archive.name));
        }
        let Some(continuation) = continuation else {
            return Ok(Status::Well);
        };
        message(format_args!("not every event has arrived; continue with: so-webhook {continuation}"));
        Ok(Status::NeedsAttention)
    }

    /// Returns the position of the first entity to signal.
    fn begin(&self, archives: &[&Archive]) -> Result<usize, Failure> {
        let Some(entity) = &self.entity else {
            return Ok(0);
        };
        let position = archives.iter().position(|archive| archive.name == entity);
        Ok(position.ok_or_else(|| format!("--entity {entity}: SYNC_ENTITIES does not have this entity"))?)
    }
}

/// Signals the records of an entity whose id is greater than `first`, and moves `after`.
async fn signal_all(
    client: &Client,
    archive: &'static Archive,
    signals: &mut Signals<'_>,
    interrupt: &Interrupt,
    first: i64,
    after: &mut i64,
) -> Result<(), Stop> {
    let mut last = None;
    loop {
        let page = interrupt.or(client.page(archive, *after, PAGE)).await.ok_or(Stop::Interrupted)??;
        if page.records.is_empty() {
            return signals.settle().await;
        }
        // Only the remaining time depends on it.
        if last.is_none() {
            last = interrupt.or(client.last_id(archive)).await.ok_or(Stop::Interrupted)?.ok().flatten();
        }
        for record in page.records {
            signals.ready(archive, last.and_then(|last| part_left(first, *after, last))).await?;
            signals.signal(Record { archive, id: record.id }).await?;
            *after = record.id;
        }
    }
}

/// Returns the part of the ids from `first` to `last` that follows `id`.
fn part_left(first: i64, id: i64, last: i64) -> Option<f64> {
    let length = |from: i64, to: i64| to.checked_sub(from).map(|length| length.max(0) as f64);
    Some(length(id, last)? / length(first, last).filter(|length| *length > 0.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_that_is_left_is_that_of_the_ids() {
        assert_eq!(part_left(100, 100, 200), Some(1.0));
        assert_eq!(part_left(100, 150, 200), Some(0.5));
        assert_eq!(part_left(100, 210, 200), Some(0.0));
        assert_eq!(part_left(100, 100, 100), None);
        assert_eq!(part_left(i64::MIN, 1, i64::MAX), None);
    }
}
