//! `secret`: the derived secret of a tenant.

use superoffice_client::settings;

use super::{CommandResult, configured, exit_code, print};

/// Print the secret that is derived for a tenant from SUPEROFFICE_TENANT_MASTER_SECRET
#[derive(Debug, clap::Args)]
pub(crate) struct Secret {
    /// The tenant's ContextIdentifier, Cust12345
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    tenant: String,
}

impl Secret {
    pub(crate) fn run(self) -> CommandResult {
        let master = configured(settings::master_secret)?;
        print(master.derive_text(&self.tenant))?;
        Ok(exit_code(true))
    }
}
