use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::{CommandResult, Status};
use crate::output::Output;

/// Print the completion script of a shell
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::Command::command(), "so-webhook", &mut script);
        output.line(String::from_utf8(script)?.trim_end());
        Ok(Status::Well)
    }
}
