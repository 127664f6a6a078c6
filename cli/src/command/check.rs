//! `check`: joins the endpoint, the log, the stack's resources and the webhooks in SuperOffice.

mod companions;
mod deployment;
mod endpoint;
mod finding;
mod log;
mod targets;
mod webhook;

use std::io::Write;
use std::process;

use aws_types::SdkConfig;
use jiff::Timestamp;
use recovery::logs::Logs;

use crate::environment::{self, AWS, LOG, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Failure};
use crate::output::{Format, Output};
use crate::stack::Stack;
use deployment::{Clients, region_of};
use endpoint::Endpoint;
use finding::{Finding, Report};
use log::FunctionLog;
use targets::{Target, Targets};

/// Check a deployment
///
/// Posts an unsigned request, a signed probe and a signed event of contact 0 to the function. With LOG_GROUP_NAME or
/// --stack, the log line of this event must be found within three minutes. With a list, all tenants are checked. With
/// --stack, the queues, the consumer, the recipients of all stacks' alarms, the webhook, the watchdog and the mirror are
/// checked, too. Each check is one line: ok, or what is wrong and what mends it. The exit status is 0 if all is well.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&WEBHOOK, &SIGNING, &LOG, &SUPEROFFICE, &AWS]))]
pub(crate) struct Check {
    /// The function's URL [default: the stack's output WebhookUrl, or WEBHOOK_URL]
    url: Option<String>,
    /// The name of the function's stack in CloudFormation
    #[arg(long, value_name = "NAME")]
    stack: Option<String>,
    #[command(flatten)]
    format: Format,
}

impl Check {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let deployed = match &self.stack {
            Some(name) => Some(Deployed::load(name).await?),
            None => None,
        };
        let stack = deployed.as_ref().map(|deployed| &deployed.stack);
        let targets = Targets::load(self.url(stack)?.as_deref()).await?;
        let mut report = Report::new(output, self.format, targets.has_list);
        let log_group = stack.and_then(|stack| stack.output("LogGroupName")).or(targets.log_group.as_deref());
        let log = match (log_group, &deployed) {
            (Some(log_group), Some(deployed)) => Some(FunctionLog::new(deployed.logs.clone(), log_group)),
            (Some(log_group), None) => Some(FunctionLog::new(Logs::load().await?, log_group)),
            (None, _) => None,
        };
        check_requests(&targets, log.as_ref(), &mut report).await;
        if !report.is_open() {
            return Ok(report.status());
        }
        if let Some(deployed) = &deployed {
            report.add_all(None, deployed.check().await);
        }
        for entry in &targets.unusable {
            report.add(Some(&entry.name), Finding::unusable(entry));
        }
        for tenant in &targets.tenants {
            let label = tenant.label.as_deref();
            if tenant.is_paused {
                report.add(label, Finding::ok("tenant", "paused: the watchdog and audits leave this tenant out"));
            } else if stack.is_some() {
                report.add(label, webhook::check(tenant).await);
            }
        }
        if let Some(deployed) = &deployed {
            report.add_all(None, deployed.check_companions().await);
        }
        Ok(report.status())
    }

    /// Returns the URL that replaces `WEBHOOK_URL`.
    fn url(&self, stack: Option<&Stack>) -> Result<Option<String>, Failure> {
        let Some(stack) = stack.filter(|_| self.url.is_none()) else {
            return Ok(self.url.clone());
        };
        let url = stack.required("WebhookUrl")?;
        Ok(Some(stack.output("TenantWebhookUrl").unwrap_or(url).to_owned()))
    }
}

/// A stack, and the way to AWS.
struct Deployed {
    stack: Stack,
    aws: SdkConfig,
    stacks: aws_sdk_cloudformation::Client,
    logs: Logs,
}

impl Deployed {
    async fn load(name: &str) -> Result<Self, Failure> {
        let aws = aws_setup::load().await?;
        let stacks = aws_sdk_cloudformation::Client::new(&aws);
        let stack = Stack::load(&stacks, name).await?;
        let logs = Logs::new(aws_sdk_cloudwatchlogs::Client::new(&aws));
        Ok(Self { stack, aws, stacks, logs })
    }

    fn clients(&self, region: &str) -> Clients {
        Clients::new(&self.aws, region)
    }

    async fn check(&self) -> Vec<Finding> {
        let clients = |region: &str| self.clients(region);
        clients(&self.stack.region).check(&self.stack, clients).await
    }

    async fn check_companions(&self) -> Vec<Finding> {
        let unreadable = |check, error: Failure| {
            let action = "Allow cloudformation:DescribeStacks on all stacks of the region";
            Finding::wrong(check, error.to_string(), action)
        };
        let clients = |region: &str| self.clients(region);
        let mut findings = match Stack::all(&self.stacks).await {
            Ok(all) => companions::check(&self.logs, &self.stack, &all, clients).await,
            Err(error) => vec![unreadable("watchdog", error)],
        };
        if let Some(arn) = self.stack.output("FallbackQueueArn") {
            match Stack::all(&aws_sdk_cloudformation::Client::new(&aws_setup::in_region(&self.aws, region_of(arn))))
                .await
            {
                Ok(all) => findings.extend(companions::check_fallback(arn, &all, clients).await),
                Err(error) => findings.push(unreadable("fallback-alarms", error)),
            }
        }
        findings
    }
}

/// Posts the requests of all tenants, and finds the lines of their events in the log, as long as someone reads the
/// report.
async fn check_requests(targets: &Targets, log: Option<&FunctionLog>, report: &mut Report<'_, impl Write>) {
    let (mut accepted, mut event_ids) = (Vec::new(), Vec::new());
    for Target { label, url, secret, context_identifier, .. } in &targets.tenants {
        if !report.is_open() {
            return;
        }
        let label = label.as_deref();
        let endpoint = Endpoint { url, secret, context_identifier };
        report.add(label, endpoint.reject_unsigned().await);
        report.add(label, endpoint.accept_probe().await);
        let event_id = event_id(event_ids.len());
        let event = endpoint.accept_event(&event_id).await;
        let is_accepted = event.is_ok();
        report.add(label, event);
        if is_accepted {
            accepted.push(label);
            event_ids.push(event_id);
        } else if log.is_some() {
            let message = "no event was accepted, so none can be in the log";
            report.add(label, Finding::wrong("log", message, "Mend the check `event` first"));
        }
    }
    if let Some(log) = log.filter(|_| report.is_open()) {
        for (label, finding) in accepted.into_iter().zip(log.find(&event_ids).await) {
            report.add(label, finding);
        }
    }
}

/// Returns an id that no other event has.
fn event_id(number: usize) -> String {
    format!("check-{}-{}-{number}", Timestamp::now().as_nanosecond(), process::id())
}

#[cfg(test)]
mod tests;
