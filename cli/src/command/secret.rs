use std::io::Write;

use clap::builder::NonEmptyStringValueParser;
use superoffice_client::settings;

use crate::environment::{self, MASTER};
use crate::exit::{CommandResult, Status};
use crate::output::Output;

/// Print the derived secret of a tenant
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&MASTER]))]
pub(crate) struct Secret {
    /// The tenant's ContextIdentifier, Cust12345
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    tenant: String,
}

impl Secret {
    pub(crate) fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let master = environment::read(settings::master_secret)?;
        output.line(master.derive_text(&self.tenant));
        Ok(Status::Well)
    }
}
