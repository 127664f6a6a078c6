use std::io::Write;

use clap::builder::NonEmptyStringValueParser;
use superoffice_client::registration::Desired;
use superoffice_client::settings;

use crate::endpoint::Endpoint;
use crate::environment::{self, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::output::{Format, Output, message};

/// Create or update the webhook for contacts and its state webhook
///
/// SuperOffice posts its signed test first, and refuses to save a webhook that does not respond with 200. The state of
/// an existing webhook is not changed; `activate` does that. The exit status is 0 if all webhooks are Active.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING]))]
pub(crate) struct Register {
    /// The webhook's name [default: superoffice-webhook for a new one]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// An address that SuperOffice notifies when it disables the webhook; may be repeated
    #[arg(long = "errors-email", value_name = "ADDRESS")]
    errors_emails: Vec<String>,
    /// The events, separated by commas [default: contact events and contact.resync for a new webhook]
    ///
    /// Without this option, an existing webhook keeps its events, and contact.resync is added if it is missing.
    #[arg(long, value_name = "EVENT", value_delimiter = ',', value_parser = NonEmptyStringValueParser::new())]
    events: Option<Vec<String>>,
    /// Make SuperOffice notify its users by email on the first failed delivery
    #[arg(long)]
    notify_first_failure: bool,
    #[command(flatten)]
    format: Format,
}

impl Register {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let ((connection, url), secret) = environment::read(|env| {
            settings::connection(env).zip(settings::webhook_url(env)).zip(settings::webhook_secret(env))
        })?;
        let endpoint = Endpoint::new(connection, url.clone(), Some(secret.clone()))?;
        let desired = Desired {
            name: self.name,
            url,
            secret,
            events: self.events,
            errors_emails: self.errors_emails,
            notify_first_failure: self.notify_first_failure,
        };
        let (webhooks, registrations) = endpoint.client.register(&desired).await?;
        for (purpose, registration) in ["contacts", "webhook states"].into_iter().zip(registrations) {
            message(format_args!("webhook for {purpose}: {registration}"));
        }
        endpoint.print(&webhooks, self.format, output).await;
        if !webhooks.is_active() {
            message("not every webhook is Active; `activate` tests and activates them");
        }
        Ok(Status::well_if(webhooks.is_active()))
    }
}
