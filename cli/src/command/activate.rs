use std::io::Write;

use superoffice_client::webhooks::State;

use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::output::{Format, Output};
use crate::tenants::{EarlyEnd, OneTenant};

/// Set the webhooks Active after a successful test
///
/// The exit status is 0 if the test succeeded and all webhooks are Active.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &AWS]))]
pub(crate) struct Activate {
    #[command(flatten)]
    tenant: OneTenant,
    #[command(flatten)]
    format: Format,
}

impl Activate {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (source, settings) = Endpoint::settings()?;
        let selected = self.tenant.select(&source).await?;
        let run = async |endpoint: &Endpoint, output: &mut Output<_>| self.activate(endpoint, output).await;
        Endpoint::for_each(selected, &settings, self.format, output, EarlyEnd::Never, run).await
    }

    async fn activate(&self, endpoint: &Endpoint, output: &mut Output<impl Write>) -> CommandResult {
        let webhooks = endpoint.webhooks().await?;
        let Some(success) = endpoint.test(&webhooks).await? else {
            return Ok(Status::NeedsAttention);
        };
        if success {
            endpoint.set_state(webhooks.all(), State::Active).await?;
        }
        let webhooks = endpoint.webhooks().await?;
        endpoint.print(&webhooks, self.format, output).await;
        let are_active = webhooks.all().all(|webhook| webhook.state() == State::Active);
        Ok(Status::well_if(success && are_active))
    }
}
