//! `unregister`: deletes the webhooks.

use super::{CommandResult, Context, exit_code};

/// Delete the webhooks that post to WEBHOOK_URL
#[derive(Debug, clap::Args)]
pub(crate) struct Unregister {}

impl Unregister {
    pub(crate) async fn run(self) -> CommandResult {
        let context = Context::load()?;
        let deleted = context.client.unregister(&context.url).await?;
        for webhook in deleted.all() {
            eprintln!("webhook {} {}: deleted", webhook.id(), webhook.name());
        }
        if deleted.all().next().is_none() {
            eprintln!("no webhook posts to {}", context.url);
        }
        Ok(exit_code(true))
    }
}
