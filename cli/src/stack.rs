//! A CloudFormation stack: the outputs and parameters that commands use.

use std::collections::BTreeMap;

use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::types;

use crate::exit::Failure;

/// A deployed stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) account: String,
    pub(crate) region: String,
    /// CloudFormation's word for its state, such as `UPDATE_COMPLETE`.
    pub(crate) status: String,
    outputs: BTreeMap<String, String>,
    /// Secrets are masked by CloudFormation.
    parameters: BTreeMap<String, String>,
}

impl Stack {
    /// Reads the stack with this name.
    pub(crate) async fn load(client: &Client, name: &str) -> Result<Self, Failure> {
        let described = client.describe_stacks().stack_name(name).send().await;
        let region = client.config().region().map_or("no region", |region| region.as_ref());
        let described = described
            .map_err(|error| format!("the stack {name} ({region}) cannot be read: {}", aws_setup::reason(&error)))?;
        let stack = described.stacks().first().and_then(Self::read);
        Ok(stack.ok_or_else(|| format!("the stack {name} ({region}) has no id"))?)
    }

    /// Reads all stacks of the region.
    pub(crate) async fn all(client: &Client) -> Result<Vec<Self>, Failure> {
        let mut pages = client.describe_stacks().into_paginator().send();
        let mut stacks = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| format!("the stacks cannot be listed: {}", aws_setup::reason(&error)))?;
            stacks.extend(page.stacks().iter().filter_map(Self::read));
        }
        Ok(stacks)
    }

    /// Returns `None` without an id such as `arn:aws:cloudformation:<region>:<account>:stack/…`.
    fn read(stack: &types::Stack) -> Option<Self> {
        let mut arn = stack.stack_id()?.split(':').skip(3);
        let (region, account) = (arn.next()?.to_owned(), arn.next()?.to_owned());
        let outputs = stack.outputs().iter().map(|output| (output.output_key(), output.output_value()));
        let parameters = stack.parameters().iter().map(|value| (value.parameter_key(), value.parameter_value()));
        Some(Self {
            name: stack.stack_name().unwrap_or_default().to_owned(),
            account,
            region,
            status: stack.stack_status().map(|status| status.as_str().to_owned()).unwrap_or_default(),
            outputs: named_values(outputs),
            parameters: named_values(parameters),
        })
    }

    #[cfg(test)]
    pub(crate) fn with_outputs(name: &str, outputs: &[(&str, &str)]) -> Self {
        Self {
            name: name.to_owned(),
            account: "123456789012".to_owned(),
            region: "eu-north-1".to_owned(),
            status: "CREATE_COMPLETE".to_owned(),
            outputs: named_values(outputs.iter().map(|(name, value)| (Some(*name), Some(*value)))),
            ..Self::default()
        }
    }

    #[cfg(test)]
    pub(crate) fn with_parameter(mut self, name: &str, value: &str) -> Self {
        self.parameters.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Returns an output that is not empty.
    pub(crate) fn output(&self, name: &str) -> Option<&str> {
        self.outputs.get(name).map(String::as_str)
    }

    /// Returns an output that every stack of the function has.
    pub(crate) fn required(&self, name: &str) -> Result<&str, Failure> {
        let missing = || format!("the stack {} has no output {name}; is it the stack of the function?", self.name);
        Ok(self.output(name).ok_or_else(missing)?)
    }

    /// Returns a parameter that is not empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }
}

fn named_values<'a>(values: impl Iterator<Item = (Option<&'a str>, Option<&'a str>)>) -> BTreeMap<String, String> {
    let is_set = |(name, value): (Option<&str>, Option<&'a str>)| {
        Some((name?.to_owned(), value.filter(|value| !value.is_empty())?.to_owned()))
    };
    values.filter_map(is_set).collect()
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::operation::describe_stacks::DescribeStacksOutput;
    use aws_sdk_cloudformation::types::{Output, Parameter, StackStatus};
    use aws_smithy_mocks::{RuleMode, mock, mock_client};

    use super::*;

    fn described(name: &str) -> types::Stack {
        types::Stack::builder()
            .stack_name(name)
            .stack_id(format!("arn:aws:cloudformation:eu-north-1:123456789012:stack/{name}/1"))
            .stack_status(StackStatus::CreateComplete)
            .creation_time(aws_sdk_cloudformation::primitives::DateTime::from_secs(0))
            .outputs(Output::builder().output_key("WebhookUrl").output_value("https://host/webhook").build())
            .parameters(Parameter::builder().parameter_key("AuditHours").parameter_value("12").build())
            .parameters(Parameter::builder().parameter_key("Empty").parameter_value("").build())
            .build()
    }

    #[tokio::test]
    async fn all_pages_of_stacks_are_read() {
        let page = |name: &'static str, next: Option<&str>| {
            DescribeStacksOutput::builder().stacks(described(name)).set_next_token(next.map(str::to_owned)).build()
        };
        let first = mock!(Client::describe_stacks)
            .match_requests(|request| request.next_token().is_none())
            .then_output(move || page("first", Some("more")));
        let second = mock!(Client::describe_stacks)
            .match_requests(|request| request.next_token() == Some("more"))
            .then_output(move || page("second", None));
        let client = mock_client!(aws_sdk_cloudformation, RuleMode::MatchAny, [&first, &second]);
        let stacks = Stack::all(&client).await.unwrap();
        let expected = |name| {
            Stack::with_outputs(name, &[("WebhookUrl", "https://host/webhook")]).with_parameter("AuditHours", "12")
        };
        assert_eq!(stacks, [expected("first"), expected("second")]);
    }
}
