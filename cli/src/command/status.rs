use std::io::Write;

use crate::endpoint::Endpoint;
use crate::environment::{self, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{self, CommandResult};
use crate::output::{Format, Output};

/// Show the state and the errors of the webhooks
///
/// The exit status is 0 if there is a webhook for contacts, and all webhooks are Active.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING]))]
pub(crate) struct Status {
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let endpoint = Endpoint::load()?;
        let webhooks = endpoint.webhooks().await?;
        endpoint.print(&webhooks, self.format, output).await;
        Ok(exit::Status::well_if(webhooks.is_active()))
    }
}
