//! `conformance`: the assumptions about SuperOffice, tried on an installation.
//!
//! - `assumptions`: the assumptions, and the answers to them
//! - `run`: the steps, which change test data; `answers` judges their results
//! - `arrivals` and `exchanges`: the function's log, and the requests with their responses, for answers and recordings
//! - `cleanup`: the removal of the test data
//! - `report`: the table

mod answers;
mod arrivals;
mod assumptions;
mod cleanup;
mod exchanges;
mod report;
mod run;

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use recovery::logs::Logs;
use superoffice_client::settings::{NoTenantName, WebhookSettings};
use tenants::TenantSource;

use self::arrivals::FunctionLog;
use self::assumptions::Findings;
use self::cleanup::{clean_up, marked_url};
use self::exchanges::Exchanges;
use self::run::{Run, Stop};
use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, LOG, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{Format, Output, message};
use crate::shell::option;
use crate::tenants::{Clients, OneTenant};

/// Check every assumption about SuperOffice on this installation
///
/// Creates two webhooks and six contacts, whose names begin with "so-webhook conformance". Changes, deletes and merges
/// the contacts, and compares responses, lists and the function's log with the documentation. Deletes the test data, even
/// after an error or a signal; the next run deletes what a killed run has left. The deleted contacts remain in
/// SuperOffice's recycle bin. During the run, each event of any contact arrives at WEBHOOK_URL once more.
///
/// Prints each assumption with an answer (yes, no, could not tell) and its evidence. The exit status is 0 if each answer
/// is yes, and 1 otherwise.
#[derive(Debug, clap::Args)]
#[command(hide = true, after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &LOG, &AWS]))]
pub(crate) struct Conformance {
    #[command(flatten)]
    tenant: OneTenant,
    /// Write the requests and responses to a directory, with names, hosts and secrets replaced
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// The longest wait for events in the function's log, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    log_wait: u64,
    #[command(flatten)]
    format: Format,
}

impl Conformance {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let ((source, settings), log_group) = environment::read(|env| {
            let source = TenantSource::from_environment(env);
            environment::check_aws(env);
            source.zip(WebhookSettings::with_required_secret(env)).zip(env.required("LOG_GROUP_NAME"))
        })?;
        let (tenant, label) = self.tenant.resolve(&source).await?;
        let Endpoint { client, url, secret, .. } = Endpoint::new(&tenant, &settings, label, &mut Clients::default())?;
        let secret = secret.ok_or(NoTenantName::Secret)?;
        if let Some(directory) = &self.record {
            fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        let exchanges = Exchanges::default();
        let client = client.observed_by(exchanges.observer());
        let log = FunctionLog { logs: Logs::load().await?, log_group, wait: Duration::from_secs(self.log_wait) };
        let (url, interrupt) = (marked_url(&url), Interrupt::listen()?);
        let mut findings = Findings::default();
        let mut created = Vec::new();
        clean_up(&client, &url, &created).await?;
        let mut run = Run {
            client: &client,
            url: &url,
            secret: &secret,
            log: &log,
            exchanges: &exchanges,
            interrupt: &interrupt,
            findings: &mut findings,
            created: &mut created,
        };
        let ended = run.run().await;
        let cleaned = clean_up(&client, &url, &created).await;
        let is_well = report::print(&findings.all(), self.format, output);
        if let Some(directory) = &self.record {
            exchanges.write(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        if let Err(error) = cleaned {
            if let Err(Stop::Failed(error)) = &ended {
                message(error);
            }
            return Err(format!("test data is left, which the next run deletes: {error}").into());
        }
        match ended {
            Ok(()) if interrupt.is_requested() => Ok(interrupted(&self.continuation())),
            Ok(()) => Ok(Status::well_if(is_well)),
            Err(Stop::Interrupted) => Ok(interrupted(&self.continuation())),
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    /// Returns the command that repeats the run.
    fn continuation(&self) -> String {
        let record = self.record.as_ref().map(|directory| option("--record", &directory.to_string_lossy()));
        let json = if self.format.json { " --json" } else { "" };
        let (tenant, record) = (self.tenant.option(), record.unwrap_or_default());
        format!("conformance{tenant} --log-wait {}{record}{json}", self.log_wait)
    }
}
