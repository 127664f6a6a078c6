//! The exit status: 0 all is well, 1 the result needs attention, 2 an error. clap exits with 2 for wrong usage.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use crate::output::{Output, message};

/// The result of a command that ran without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// All is well, as the command's help defines it.
    Well,
    /// A finding, or a command that stopped early.
    NeedsAttention,
    /// An error that was reported already, of one tenant of several.
    Failed,
}

impl Status {
    pub(crate) fn well_if(is_well: bool) -> Self {
        if is_well { Self::Well } else { Self::NeedsAttention }
    }
}

/// An error that ends a command. Its text contains no secret.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// The result of a command.
pub(crate) type CommandResult = Result<Status, Failure>;

/// Reports an error, and returns the exit status.
pub(crate) fn code<W: Write>(result: CommandResult, output: Output<W>) -> ExitCode {
    let write_error = output.into_error();
    if let Some(error) = &write_error {
        message(format_args!("standard output: {error}"));
    }
    match result {
        Err(error) => message(error),
        Ok(_) if write_error.is_some() => {}
        Ok(Status::NeedsAttention) => return ExitCode::from(1),
        Ok(Status::Well) => return ExitCode::SUCCESS,
        Ok(Status::Failed) => {}
    }
    ExitCode::from(2)
}
