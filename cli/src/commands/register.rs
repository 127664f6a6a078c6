//! `register`: the webhook for contact events, and the webhook for its state.

use superoffice_client::Client;
use superoffice_client::registration::Desired;
use superoffice_client::settings;

use super::{CommandResult, Output, configured, exit_code};

/// Create the webhooks for contact events and for their state, or update what is different
///
/// SuperOffice posts its signed test first, and refuses to save a webhook that does not respond with 200. The state of
/// an existing webhook is not changed; `activate` does that.
#[derive(Debug, clap::Args)]
pub(crate) struct Register {
    /// The webhook's name [default: superoffice-webhook for a new one]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// An address that SuperOffice notifies when it disables the webhook; may be repeated
    #[arg(long = "errors-email", value_name = "ADDRESS")]
    errors_emails: Vec<String>,
    #[command(flatten)]
    output: Output,
}

impl Register {
    pub(crate) async fn run(self) -> CommandResult {
        let ((connection, url), secret) = configured(|env| {
            settings::connection(env).zip(settings::webhook_url(env)).zip(settings::webhook_secret(env))
        })?;
        let client = Client::new(connection)?.hiding(Some(&secret));
        let desired = Desired { name: self.name, errors_emails: self.errors_emails, ..Desired::new(url, secret) };
        let (managed, registrations) = client.register(&desired).await?;
        for (purpose, registration) in ["contacts", "webhook states"].into_iter().zip(registrations) {
            eprintln!("webhook for {purpose}: {registration}");
        }
        self.output.webhooks(&client, &managed, &desired.url).await?;
        if !managed.is_active() {
            eprintln!("not every webhook is Active; `activate` tests and activates them");
        }
        Ok(exit_code(managed.is_active()))
    }
}
