//! `activate`: a test, and then the state Active.

use superoffice_webhook_admin::webhooks::State;

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
        let ours = context.ours().await?;
        let Some(result) = context.test(&ours).await? else {
            report(&ours, &context.url);
            return Ok(exit_code(false));
        };
        report_test(&result);
        if result.success {
            for webhook in ours.all().filter(|webhook| webhook.state() != State::Active) {
                context.client.activate(webhook).await?;
            }
        }
        let ours = context.ours().await?;
        self.output.webhooks(&context.client, &ours, &context.url).await?;
        Ok(exit_code(result.success && ours.is_active()))
    }
}
