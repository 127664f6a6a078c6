use std::io::Write;

use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::output::{Format, Output};
use crate::tenants::{EarlyEnd, Selection};

/// Make SuperOffice post its signed test to the webhook's URL
///
/// The exit status is 0 if the response was 200.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &AWS]))]
pub(crate) struct Test {
    #[command(flatten)]
    selection: Selection,
}

impl Test {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (source, settings) = Endpoint::settings()?;
        let selected = self.selection.resolve(&source).await?;
        let run = async |endpoint: &Endpoint, _: &mut Output<_>| {
            let success = endpoint.test(&endpoint.webhooks().await?).await?;
            Ok(Status::well_if(success == Some(true)))
        };
        Endpoint::for_each(selected, &settings, Format::TEXT, output, EarlyEnd::Never, run).await
    }
}
