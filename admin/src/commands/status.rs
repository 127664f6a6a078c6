//! `status`: the state of our webhooks.

use super::{CommandResult, Context, Output, exit_code};

/// Show the state, the consecutive errors and the last error of each webhook; succeeds only if they are Active
#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    output: Output,
}

impl Status {
    pub(crate) async fn run(self) -> CommandResult {
        let context = Context::load()?;
        let ours = context.ours().await?;
        self.output.webhooks(&context.client, &ours, &context.url).await?;
        Ok(exit_code(ours.is_active()))
    }
}
