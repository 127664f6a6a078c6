use std::fmt::Write as _;
use std::io::Write;

use crate::environment::{self, AWS};
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::Interrupt;
use crate::output::{Output, message};
use crate::shell::quoted;
use crate::stack::Stack;
use crate::tenants::Interrupted;

/// Print the variables of a stack as shell assignments
///
/// Use it as: eval "$(so-webhook env --stack NAME)". It sets the variables that the outputs of the function's stack
/// determine, and unsets those that this stack does not have. It prints no secret. After an error it only prints
/// `false`, so that eval fails instead of keeping the variables of another stack.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&AWS]))]
pub(crate) struct Env {
    /// The name of the function's stack in CloudFormation
    #[arg(long, value_name = "NAME")]
    stack: String,
}

/// The variables, each with the outputs that determine it. The first one that the stack has counts.
const VARIABLES: [(&str, &[&str]); 7] = [
    ("WEBHOOK_URL", &["TenantWebhookUrl", "WebhookUrl"]),
    ("LOG_GROUP_NAME", &["LogGroupName"]),
    ("QUEUE_URL", &["QueueUrl"]),
    ("QUARANTINE_QUEUE_URL", &["QuarantineQueueUrl"]),
    ("FALLBACK_QUEUE_URL", &["FallbackQueueUrl"]),
    ("FORWARD_EVENTS", &["ForwardEvents"]),
    ("MESSAGE_FORMAT", &["MessageFormat"]),
];
/// The outputs without which a stack is not the function's.
const REQUIRED: [&str; 3] = ["WebhookUrl", "LogGroupName", "QueueUrl"];

impl Env {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        match self.assignments().await {
            Ok(assignments) => {
                output.line(assignments);
                Ok(Status::Well)
            }
            Err(error) => {
                print_failure(output);
                Err(error)
            }
        }
    }

    async fn assignments(&self) -> Result<String, Failure> {
        let stack = Interrupt::listen()?.or(self.stack()).await.ok_or(Interrupted)??;
        let assignments = assignments(&stack)?;
        message(format_args!("stack {}, account {}, region {}", stack.name, stack.account, stack.region));
        Ok(assignments)
    }

    async fn stack(&self) -> Result<Stack, Failure> {
        let client = aws_sdk_cloudformation::Client::new(&aws_setup::load().await?);
        Stack::load(&client, &self.stack).await
    }
}

/// Prints the command that makes `eval` fail.
pub(crate) fn print_failure(output: &mut Output<impl Write>) {
    output.line("false");
}

/// Returns a line for each variable.
fn assignments(stack: &Stack) -> Result<String, Failure> {
    for name in REQUIRED {
        stack.required(name)?;
    }
    let mut lines = format!("export AWS_REGION={}", quoted(&stack.region));
    for (variable, outputs) in VARIABLES {
        let _ = match outputs.iter().find_map(|name| stack.output(name)) {
            Some(value) => write!(lines, "\nexport {variable}={}", quoted(value)),
            None => write!(lines, "\nunset {variable}"),
        };
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(outputs: &[(&str, &str)]) -> Stack {
        Stack::with_outputs("webhook", outputs)
    }

    #[test]
    fn outputs_are_assigned_and_other_variables_are_unset() {
        let stack = stack(&[
            ("WebhookUrl", "https://host/webhook"),
            ("TenantWebhookUrl", "https://host/webhook/{tenant}"),
            ("LogGroupName", "it's a $(group)"),
            ("QueueUrl", "https://sqs/events.fifo"),
            ("MessageFormat", "superoffice"),
            ("FallbackQueueUrl", ""),
        ]);
        assert_eq!(
            assignments(&stack).unwrap(),
            r"export AWS_REGION='eu-north-1'
export WEBHOOK_URL='https://host/webhook/{tenant}'
export LOG_GROUP_NAME='it'\''s a $(group)'
export QUEUE_URL='https://sqs/events.fifo'
unset QUARANTINE_QUEUE_URL
unset FALLBACK_QUEUE_URL
unset FORWARD_EVENTS
export MESSAGE_FORMAT='superoffice'"
        );
    }

    #[test]
    fn stack_of_another_kind_is_an_error() {
        let stack = stack(&[("LogGroupName", "group"), ("QueueUrl", "https://sqs/events.fifo")]);
        assert_eq!(
            assignments(&stack).unwrap_err().to_string(),
            "the stack webhook has no output WebhookUrl; is it the stack of the function?"
        );
    }
}
