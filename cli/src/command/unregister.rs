use std::io::{self, IsTerminal};

use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::output::{is_confirmed, message};
use crate::tenants::OneTenant;

/// Delete the webhooks that post to WEBHOOK_URL
///
/// Asks first on a terminal. Elsewhere, --yes is required.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &AWS]))]
pub(crate) struct Unregister {
    #[command(flatten)]
    tenant: OneTenant,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Unregister {
    pub(crate) async fn run(self) -> CommandResult {
        if !self.yes && !io::stdin().is_terminal() {
            return Err("nothing was deleted: --yes is required where standard input is not a terminal".into());
        }
        let endpoint = Endpoint::load(&self.tenant).await?;
        if !self.yes {
            let webhooks = endpoint.webhooks().await?;
            let names: Vec<_> =
                webhooks.all().map(|webhook| format!("webhook {} {}", webhook.id(), webhook.name())).collect();
            if !names.is_empty() && !is_confirmed(&format!("delete {}?", names.join(", ")))? {
                message("nothing was deleted");
                return Ok(Status::NeedsAttention);
            }
        }
        let deleted = endpoint.client.unregister(&endpoint.url).await?;
        for webhook in deleted.all() {
            message(format_args!("webhook {} {}: deleted", webhook.id(), webhook.name()));
        }
        if deleted.all().next().is_none() {
            message(format_args!("no webhook posts to {}", endpoint.url));
        }
        Ok(Status::Well)
    }
}
