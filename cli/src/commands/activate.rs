//! `activate`: a test, and then the state Active.

use superoffice_client::webhooks::State;

use super::{CommandResult, Context, Output, exit_code, report, report_test};

/// Set the webhooks Active after a successful test
#[derive(Debug, clap::Args)]
pub(crate) struct Activate {
    #[command(flatten)]
    output: Output,
}

impl Activate {
    pub(crate) async fn run(self) -> CommandResult {
        let context = Context::load()?;
        let managed = context.managed().await?;
        let Some(result) = context.test(&managed).await? else {
            report(&managed, &context.url);
            return Ok(exit_code(false));
        };
        report_test(&result);
        if result.success {
            for webhook in managed.all().filter(|webhook| webhook.state() != State::Active) {
                context.client.set_state(webhook, State::Active, context.secret.as_ref()).await?;
            }
        }
        let managed = context.managed().await?;
        self.output.webhooks(&context.client, &managed, &context.url).await?;
        Ok(exit_code(result.success && managed.is_active()))
    }
}
