use std::io::Write;

use superoffice_client::webhooks::State;

use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::output::{Format, Output};
use crate::tenants::{EarlyEnd, OneTenant};

/// Stop the webhook for contacts, and those for further events
///
/// SuperOffice sends no events to a Stopped webhook. The webhook for states stays as it is. The exit status is 0 if the
/// webhooks for contacts and for further events are Stopped.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &AWS]))]
pub(crate) struct Deactivate {
    #[command(flatten)]
    tenant: OneTenant,
    #[command(flatten)]
    format: Format,
}

impl Deactivate {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (source, settings) = Endpoint::settings()?;
        let selected = self.tenant.select(&source).await?;
        let run = async |endpoint: &Endpoint, output: &mut Output<_>| self.deactivate(endpoint, output).await;
        Endpoint::for_each(selected, &settings, self.format, output, EarlyEnd::Never, run).await
    }

    async fn deactivate(&self, endpoint: &Endpoint, output: &mut Output<impl Write>) -> CommandResult {
        endpoint.set_state(endpoint.webhooks().await?.for_rows(), State::Stopped).await?;
        let webhooks = endpoint.webhooks().await?;
        endpoint.print(&webhooks, self.format, output).await;
        let is_stopped = webhooks.for_rows().all(|webhook| webhook.state() == State::Stopped);
        Ok(Status::well_if(is_stopped && !webhooks.contacts.is_empty()))
    }
}
