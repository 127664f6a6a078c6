//! `status`: the state of the managed webhooks.

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
        let managed = context.managed().await?;
        self.output.webhooks(&context.client, &managed, &context.url).await?;
        Ok(exit_code(managed.is_active()))
    }
}
