//! The program `so-webhook`: one module per command in `command`. The other modules are what commands share.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;

mod command;
mod delivery;
mod endpoint;
mod environment;
mod exit;
mod interrupt;
mod output;
mod shell;
mod signals;
mod stack;
mod tenants;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut output = output::Output::new(std::io::stdout());
    let command = command::Command::try_parse().unwrap_or_else(|error| {
        command::report_wrong_usage(&error, std::env::args_os(), &mut output);
        error.exit()
    });
    let result = command.run(&mut output).await;
    exit::code(result, output)
}
