//! The command line: one module per command in `commands`.

use std::process::ExitCode;

use clap::Parser;

mod commands;
mod delivery;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match commands::Command::parse().run().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
