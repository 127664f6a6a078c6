//! The program `so-webhook`: one module per command in `command`. The other modules are what commands share.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;

mod command;
mod endpoint;
mod environment;
mod exit;
mod interrupt;
mod output;
mod tenants;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut output = output::Output::new(std::io::stdout());
    let result = command::Command::parse().run(&mut output).await;
    exit::code(result, output)
}
