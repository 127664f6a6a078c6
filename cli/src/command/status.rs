use std::io::Write;

use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{self, CommandResult};
use crate::output::{Format, Output};
use crate::tenants::{EarlyEnd, Selection};

/// Show the state and the errors of the webhooks
///
/// The exit status is 0 if there are a webhook for contacts and one for its state, and all webhooks are Active.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &AWS]))]
pub(crate) struct Status {
    #[command(flatten)]
    selection: Selection,
    #[command(flatten)]
    format: Format,
}

impl Status {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (source, settings) = Endpoint::settings()?;
        let selected = self.selection.resolve(&source).await?;
        let run = async |endpoint: &Endpoint, output: &mut Output<_>| {
            let webhooks = endpoint.webhooks().await?;
            endpoint.print(&webhooks, self.format, output).await;
            Ok(exit::Status::well_if(webhooks.is_active()))
        };
        Endpoint::for_each(selected, &settings, self.format, output, EarlyEnd::WithoutReader, run).await
    }
}
