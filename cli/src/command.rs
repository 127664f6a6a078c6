//! The commands, in the order of a webhook's life. Each module has an argument type (`clap::Args`) with a method `run`.

mod activate;
mod bootstrap;
mod check;
mod completions;
mod conformance;
mod deactivate;
mod env;
mod missed;
mod post;
mod purge;
mod redrive;
mod register;
mod secret;
mod sign;
mod status;
mod test;
mod unregister;

use std::ffi::OsString;
use std::io::Write;

use clap::Parser;

use crate::exit::CommandResult;
use crate::output::Output;

/// Manage SuperOffice webhooks, and recover events that did not arrive
///
/// The configuration comes from the environment: the help of a command lists its variables.
///
/// The exit status is 0 if all is well, 1 if the result needs attention, and 2 after wrong usage, wrong configuration or
/// an error. Results go to standard output, messages to standard error.
#[derive(Debug, Parser)]
#[command(name = "so-webhook", version, max_term_width = 100)]
pub(crate) enum Command {
    Check(check::Check),
    Register(register::Register),
    Status(status::Status),
    Test(test::Test),
    Activate(activate::Activate),
    Deactivate(deactivate::Deactivate),
    Bootstrap(bootstrap::Bootstrap),
    Missed(missed::Missed),
    Unregister(unregister::Unregister),
    Redrive(redrive::Redrive),
    Purge(purge::Purge),
    Env(env::Env),
    Secret(secret::Secret),
    Sign(sign::Sign),
    Post(post::Post),
    Completions(completions::Completions),
    Conformance(conformance::Conformance),
}

impl Command {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        match self {
            Self::Check(command) => command.run(output).await,
            Self::Register(command) => command.run(output).await,
            Self::Status(command) => command.run(output).await,
            Self::Test(command) => command.run(output).await,
            Self::Activate(command) => command.run(output).await,
            Self::Deactivate(command) => command.run(output).await,
            Self::Bootstrap(command) => command.run().await,
            Self::Missed(command) => command.run(output).await,
            Self::Unregister(command) => command.run().await,
            Self::Redrive(command) => command.run(output).await,
            Self::Purge(command) => command.run().await,
            Self::Env(command) => command.run(output).await,
            Self::Secret(command) => command.run(output),
            Self::Sign(command) => command.run(output),
            Self::Post(command) => command.run(output).await,
            Self::Completions(command) => command.run(output),
            Self::Conformance(command) => command.run(output).await,
        }
    }
}

/// Prints the command that a shell must evaluate after wrong usage of `env`. The error itself is printed by clap.
///
/// A wrong option may precede the command, so `env` counts at every position.
pub(crate) fn report_wrong_usage(
    error: &clap::Error,
    mut arguments: impl Iterator<Item = OsString>,
    output: &mut Output<impl Write>,
) {
    if error.use_stderr() && arguments.any(|argument| argument == "env") {
        env::print_failure(output);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn command_line_is_consistent() {
        super::Command::command().debug_assert();
    }

    /// The documentation has the order of the help.
    #[test]
    fn commands_are_in_the_order_of_a_webhooks_life() {
        let command = super::Command::command();
        let names: Vec<&str> =
            command.get_subcommands().filter(|command| !command.is_hide_set()).map(clap::Command::get_name).collect();
        let expected = "check register status test activate deactivate bootstrap missed unregister redrive purge env \
                        secret sign post completions";
        assert_eq!(names.join(" "), expected);
        let page = include_str!("../../docs/administration.md");
        let table = page.lines().skip_while(|line| *line != "## Commands").take_while(|line| *line != "## Check");
        let rows = table.filter_map(|line| line.strip_prefix("| `")?.split([' ', '`']).next());
        assert_eq!(rows.collect::<Vec<_>>(), names);
    }
}
