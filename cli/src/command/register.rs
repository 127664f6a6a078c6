use std::io::Write;

use clap::builder::NonEmptyStringValueParser;
use superoffice_client::registration::{Desired, UnknownName, events_named};
use superoffice_client::settings::{NoTenantName, WebhookSettings};

use crate::endpoint::Endpoint;
use crate::environment::{self, AWS, SIGNING, SUPEROFFICE, WEBHOOK};
use crate::exit::{CommandResult, Status};
use crate::interrupt::Interrupt;
use crate::output::{Format, Output};
use crate::shell;
use crate::tenants::{EarlyEnd, Selection, tenant_source};

/// Create or update the webhook for contacts and its state webhook
///
/// SuperOffice posts its signed test first, and saves a webhook only if the response is 200. The state of an existing
/// webhook is not changed; `activate` does that. The exit status is 0 if all webhooks are Active.
///
/// With --all, Ctrl-C ends the command after the current tenant. Repeating it completes the rest.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &WEBHOOK, &SIGNING, &AWS]))]
pub(crate) struct Register {
    #[command(flatten)]
    selection: Selection,
    /// The webhook's name [default: superoffice-webhook for a new one]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
    /// An address that SuperOffice notifies when it disables the webhook; may be repeated
    #[arg(long = "errors-email", value_name = "ADDRESS")]
    errors_emails: Vec<String>,
    /// Entities and events, separated by commas: contact,person.consented [default: contact for a new webhook]
    ///
    /// The name of an entity selects all its events. Those of contact and person include contact.resync and
    /// person.resync. The lists and extra tables of your installation are named list.category and y_equipment.
    ///
    /// Without this option, an existing webhook keeps its events, and contact.resync is added if it is missing. If the
    /// names together have more than 4,000 characters, several webhooks share them.
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = Chosen::parse)]
    events: Option<Vec<Chosen>>,
    /// Make SuperOffice notify its users by email on the first failed delivery
    #[arg(long)]
    notify_first_failure: bool,
    #[command(flatten)]
    format: Format,
}

/// A name in `--events`, and its events.
#[derive(Clone, Debug)]
struct Chosen {
    text: String,
    events: Vec<String>,
}

impl Chosen {
    fn parse(text: &str) -> Result<Self, UnknownName> {
        Ok(Self { text: text.trim().to_owned(), events: events_named(text)? })
    }
}

impl Register {
    pub(crate) async fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (source, settings) = environment::read(|env| {
            let source = tenant_source(env);
            source.zip(WebhookSettings::with_required_secret(env))
        })?;
        let selected = self.selection.resolve(&source).await?;
        if selected.len() > 1 && settings.has_master_secret() && !settings.has_placeholder() {
            let problem = "WEBHOOK_URL must contain {tenant} to register several tenants with \
                           SUPEROFFICE_TENANT_MASTER_SECRET";
            return Err(problem.into());
        }
        let interrupt = if self.selection.is_all() { Some(Interrupt::listen()?) } else { None };
        let continuation = self.continuation();
        let early_end = match &interrupt {
            Some(interrupt) => EarlyEnd::OnInterrupt(interrupt, &continuation),
            None => EarlyEnd::Never,
        };
        let run = async |endpoint: &Endpoint, output: &mut Output<_>| self.register(endpoint, output).await;
        Endpoint::for_each(selected, &settings, self.format, output, early_end, run).await
    }

    async fn register(&self, endpoint: &Endpoint, output: &mut Output<impl Write>) -> CommandResult {
        let desired = Desired {
            name: self.name.clone(),
            url: endpoint.url.clone(),
            secret: endpoint.secret.clone().ok_or(NoTenantName::Secret)?,
            events: self.events.as_ref().map(|names| names.iter().flat_map(|name| name.events.clone()).collect()),
            errors_emails: self.errors_emails.clone(),
            notify_first_failure: self.notify_first_failure,
        };
        let (webhooks, registrations) = endpoint.client.register(&desired).await?;
        let last = registrations.len() - 1;
        for (index, registration) in registrations.iter().enumerate() {
            let purpose = match index {
                0 => "contacts",
                index if index == last => "webhook states",
                _ => "further events",
            };
            endpoint.label.message(format_args!("webhook for {purpose}: {registration}"));
        }
        endpoint.print(&webhooks, self.format, output).await;
        if !webhooks.is_active() {
            endpoint.label.message("not every webhook is Active; `activate` tests and activates them");
        }
        Ok(Status::well_if(webhooks.is_active()))
    }

    /// Returns the command with these options, which completes an interrupted one: a webhook that is registered already
    /// is unchanged.
    fn continuation(&self) -> String {
        let mut command = "register".to_owned() + &self.selection.options();
        let mut option = |name, value: &str| command += &shell::option(name, value);
        if let Some(name) = &self.name {
            option("--name", name);
        }
        for address in &self.errors_emails {
            option("--errors-email", address);
        }
        if let Some(events) = &self.events {
            option("--events", &events.iter().map(|name| name.text.as_str()).collect::<Vec<_>>().join(","));
        }
        if self.notify_first_failure {
            command += " --notify-first-failure";
        }
        if self.format.json {
            command += " --json";
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        register: Register,
    }

    fn continuation(arguments: &[&str]) -> String {
        Program::parse_from([&["so-webhook"], arguments].concat()).register.continuation()
    }

    #[test]
    fn continuation_has_all_options() {
        assert_eq!(continuation(&["--tenant", "Cust1"]), "register --tenant Cust1");
        let arguments =
            ["--all", "--name=Bob's", "--errors-email=a@b.c", "--errors-email=d e", "--events=sale, list.110"];
        assert_eq!(
            continuation(&[&arguments[..], &["--notify-first-failure", "--json"]].concat()),
            [
                "register --all --name 'Bob'\\''s' --errors-email a@b.c --errors-email 'd e' --events sale,list.110",
                "--notify-first-failure --json"
            ]
            .join(" ")
        );
    }
}
