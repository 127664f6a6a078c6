//! The commands. Each module has an argument type (`clap::Args`) with a method `run`.
//!
//! Results go to standard output, messages to standard error.

mod activate;
mod missed;
mod post;
mod redrive;
mod register;
mod secret;
mod sign;
mod status;
mod test;
mod unregister;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::settings;
use superoffice_client::webhooks::{TestResult, Usage, Webhook};
use superoffice_client::{ApiError, Client, SecretString};
use superoffice_webhook::env::{ConfigError, Environment};

/// The exit status of a command, or an error that has no status of its own. Errors never contain a secret.
pub(crate) type CommandResult = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// Registers and watches SuperOffice webhooks, and recovers the events they missed.
///
/// The configuration comes from the environment, see docs/administration.md.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) enum Command {
    Activate(activate::Activate),
    Missed(missed::Missed),
    Post(post::Post),
    Redrive(redrive::Redrive),
    Register(register::Register),
    Secret(secret::Secret),
    Sign(sign::Sign),
    Status(status::Status),
    Test(test::Test),
    Unregister(unregister::Unregister),
}

impl Command {
    /// Runs the command.
    pub(crate) async fn run(self) -> CommandResult {
        match self {
            Self::Activate(command) => command.run().await,
            Self::Missed(command) => command.run().await,
            Self::Post(command) => command.run().await,
            Self::Redrive(command) => command.run().await,
            Self::Register(command) => command.run().await,
            Self::Secret(command) => command.run(),
            Self::Sign(command) => command.run(),
            Self::Status(command) => command.run().await,
            Self::Test(command) => command.run().await,
            Self::Unregister(command) => command.run().await,
        }
    }
}

/// The form of the results.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Output {
    /// Write one JSON object per line to standard output
    #[arg(long)]
    json: bool,
}

impl Output {
    /// Prints a webhook with its errors.
    async fn webhook(self, client: &Client, webhook: &Webhook) -> CommandOutput {
        let Usage { consecutive_errors, last_error, last_event, .. } =
            client.usage(webhook).await.unwrap_or_else(|error| {
                eprintln!("the errors of webhook {} are unknown: {error}", webhook.id());
                Usage::default()
            });
        let (id, name, state) = (webhook.id(), webhook.name(), webhook.state().as_str());
        if self.json {
            return print(json!({
                "webhookId": id,
                "name": name,
                "state": state,
                "consecutiveErrors": consecutive_errors,
                "lastError": last_error,
                "lastEvent": last_event,
            }));
        }
        let errors = consecutive_errors.map_or("an unknown number of".to_owned(), |count| count.to_string());
        let last = last_event.map(|time| format!(", last event {time}")).unwrap_or_default();
        print(format!("{id} {name}: {state}, {errors} consecutive errors{last}"))?;
        last_error.map_or(Ok(()), |error| print(format!("  last error: {}", error.trim().replace('\n', "\n  "))))
    }

    /// Prints all of the webhooks at the URL, and reports which are missing.
    async fn webhooks(self, client: &Client, managed: &ManagedWebhooks, url: &str) -> CommandOutput {
        for webhook in managed.all() {
            self.webhook(client, webhook).await?;
        }
        report(managed, url);
        Ok(())
    }
}

type CommandOutput = Result<(), Box<dyn Error + Send + Sync>>;

/// Writes a line to standard output. A reader that has gone is an error, not a panic.
fn print(line: impl std::fmt::Display) -> CommandOutput {
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

/// Reports missing and surplus webhooks.
fn report(managed: &ManagedWebhooks, url: &str) {
    let count = |webhooks: &[Webhook], purpose: &str| match webhooks.len() {
        0 => eprintln!("no webhook for {purpose} posts to {url}; `register` creates it"),
        1 => {}
        many => eprintln!("{many} webhooks for {purpose} post to {url}: each event arrives {many} times"),
    };
    count(&managed.contacts, "contacts");
    count(&managed.states, "webhook states");
}

/// Reports the result of a test.
fn report_test(result: &TestResult) {
    if result.success {
        eprintln!("the test succeeded");
    } else {
        eprintln!("the test failed; SuperOffice reports this response:\n{}", result.message);
    }
}

fn exit_code(success: bool) -> ExitCode {
    if success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn lookup(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A client, the webhooks' URL, and the secret if it is configured.
struct Context {
    client: Client,
    url: String,
    secret: Option<SecretString>,
}

impl Context {
    fn load() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut environment = Environment::new(&lookup);
        let (connection, url) = (settings::connection(&mut environment), settings::webhook_url(&mut environment));
        let secret = settings::optional_webhook_secret(&mut environment);
        let (connection, url) = environment.finish(connection.zip(url))?;
        let client = Client::new(connection)?.hiding(secret.as_ref());
        Ok(Self { client, url, secret })
    }

    async fn managed(&self) -> Result<ManagedWebhooks, ApiError> {
        self.client.webhooks(&self.url).await
    }

    /// Makes SuperOffice test the URL with the first webhook for contacts.
    async fn test(&self, managed: &ManagedWebhooks) -> Result<Option<TestResult>, ApiError> {
        match managed.contacts.first() {
            Some(webhook) => Ok(Some(self.client.test(webhook, self.secret.as_ref()).await?)),
            None => Ok(None),
        }
    }
}

/// Reads the configuration of a command, with all problems at once.
fn configured<T>(read: impl FnOnce(&mut Environment<'_>) -> Option<T>) -> Result<T, ConfigError> {
    let mut environment = Environment::new(&lookup);
    let value = read(&mut environment);
    environment.finish(value)
}
