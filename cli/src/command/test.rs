use crate::endpoint::Endpoint;
use crate::environment::{self, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};

/// Make SuperOffice post its signed test to the webhook's URL
///
/// The exit status is 0 if the response was 200.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING]))]
pub(crate) struct Test {}

impl Test {
    pub(crate) async fn run(self) -> CommandResult {
        let endpoint = Endpoint::load()?;
        let success = endpoint.test(&endpoint.webhooks().await?).await?;
        Ok(Status::well_if(success == Some(true)))
    }
}
