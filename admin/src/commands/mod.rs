//! The commands. Each module has an argument type (`clap::Args`) with a method `run`.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

/// The exit status of a command, or an error that has no status of its own. Errors never contain a secret.
pub(crate) type CommandResult = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// Registers and watches SuperOffice webhooks, and recovers the events they missed.
///
/// The configuration comes from the environment.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) enum Command {}

impl Command {
    /// Runs the command.
    pub(crate) async fn run(self) -> CommandResult {
        match self {}
    }
}
