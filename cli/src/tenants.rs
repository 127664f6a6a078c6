//! The tenants that a command works on: one, or all of a list.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use clap::builder::NonEmptyStringValueParser;
use serde_json::{Value, json};
use superoffice_client::{ApiError, Client, SetupError};
use superoffice_webhook::env::Environment;
use tenants::{TENANTS_PARAMETER, Tenant, TenantSource, UnusableEntry};

use crate::environment;
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{Format, Output, message};
use crate::shell;

/// One tenant, or all.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Selection {
    #[command(flatten)]
    one: OneTenant,
    /// All tenants of the list
    ///
    /// A tenant that fails does not end the command.
    #[arg(long, conflicts_with = "tenant")]
    all: bool,
}

/// One tenant.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct OneTenant {
    /// A tenant of the list; required if the list has several
    #[arg(long, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
}

/// Reads the list of tenants from the environment, or the one tenant. A list is in AWS.
pub(crate) fn tenant_source(env: &mut Environment<'_>) -> Option<TenantSource> {
    if env.is_set(TENANTS_PARAMETER) {
        environment::check_aws(env);
    }
    TenantSource::from_environment(env)
}

impl OneTenant {
    /// Returns the tenant.
    pub(crate) async fn resolve(&self, source: &TenantSource) -> Result<(Arc<Tenant>, Label), Failure> {
        let tenant = self.entry(source, "--tenant selects one").await??;
        let name = source.path().and(tenant.name()).map(str::to_owned);
        Ok((tenant, Label { name, is_prefixed: false }))
    }

    /// Returns the tenant, for a command that reports its failure as a result.
    pub(crate) async fn select<'a>(&self, source: &'a TenantSource) -> Result<Selected<'a>, Failure> {
        let tenants = vec![self.entry(source, "--tenant selects one").await?];
        Ok(Selected { source, tenants, is_all: false })
    }

    /// Returns the tenant's entry. `advice` names the options that select from a list of several tenants.
    async fn entry(&self, source: &TenantSource, advice: &str) -> Result<Entry, Failure> {
        let list = source.list().await?;
        let entry = match &self.tenant {
            Some(name) => list.get(name).ok_or_else(|| format!("the tenant {name} is not in the list of tenants"))?,
            None if list.len() > 1 => return Err(format!("the list has {} tenants; {advice}", list.len()).into()),
            None => list.usable().iter().map(Ok).chain(list.unusable().iter().map(Err)).next().ok_or("no tenant")?,
        };
        Ok(entry.map(Arc::clone).map_err(Clone::clone))
    }

    /// Returns the option, for a command that continues.
    pub(crate) fn option(&self) -> String {
        self.tenant.as_ref().map_or(String::new(), |tenant| shell::option("--tenant", tenant))
    }
}

/// The tenant of results and messages.
#[derive(Clone, Debug, Default)]
pub(crate) struct Label {
    /// The name, if there is a list.
    name: Option<String>,
    /// Lines begin with the name, because those of other tenants follow.
    is_prefixed: bool,
}

impl Label {
    fn prefix(&self) -> String {
        self.name.as_ref().filter(|_| self.is_prefixed).map_or(String::new(), |name| format!("{name}: "))
    }

    /// Writes a message.
    pub(crate) fn message(&self, text: impl Display) {
        message(format_args!("{}{text}", self.prefix()));
    }

    /// Writes a result as text.
    pub(crate) fn line(&self, output: &mut Output<impl Write>, text: impl Display) {
        output.line(format_args!("{}{text}", self.prefix()));
    }

    /// Writes a result as JSON, with the tenant's name.
    pub(crate) fn object(&self, output: &mut Output<impl Write>, mut object: Value) {
        if let (Some(name), Value::Object(fields)) = (&self.name, &mut object) {
            fields.insert("tenant".to_owned(), json!(name));
        }
        output.line(object);
    }
}

/// A tenant, or the reason why it cannot be used.
type Entry = Result<Arc<Tenant>, UnusableEntry>;

/// The tenants of a command, in order of their names.
pub(crate) struct Selected<'a> {
    source: &'a TenantSource,
    tenants: Vec<Entry>,
    /// All tenants of a list were selected.
    is_all: bool,
}

impl Selection {
    /// Returns the selected tenants.
    pub(crate) async fn resolve<'a>(&self, source: &'a TenantSource) -> Result<Selected<'a>, Failure> {
        if !self.all {
            let tenants = vec![self.one.entry(source, "--tenant selects one, --all selects all").await?];
            return Ok(Selected { source, tenants, is_all: false });
        }
        let list = source.list().await?;
        let usable = list.usable().iter().cloned().map(Ok);
        let mut tenants: Vec<_> = usable.chain(list.unusable().iter().cloned().map(Err)).collect();
        tenants.sort_by(|a, b| name(a).cmp(name(b)));
        Ok(Selected { source, tenants, is_all: source.path().is_some() })
    }

    /// Returns `true` if `--all` is present, even without a list.
    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    /// Returns the options, for a command that continues.
    pub(crate) fn options(&self) -> String {
        if self.all { " --all".to_owned() } else { self.one.option() }
    }
}

fn name(tenant: &Entry) -> &str {
    match tenant {
        Ok(tenant) => tenant.name().unwrap_or_default(),
        Err(entry) => &entry.name,
    }
}

impl Selected<'_> {
    /// Returns `true` if the command works on all tenants of a list.
    pub(crate) fn is_all(&self) -> bool {
        self.is_all
    }

    /// Returns the tenants whose entries can be used.
    pub(crate) fn usable(&self) -> Vec<Arc<Tenant>> {
        self.tenants.iter().filter_map(|tenant| tenant.as_ref().ok().cloned()).collect()
    }

    /// Returns the number of tenants.
    pub(crate) fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Runs a command for each tenant, and reports each tenant that fails. Returns the worst status.
    pub(crate) async fn for_each<W: Write>(
        self,
        format: Format,
        output: &mut Output<W>,
        early_end: EarlyEnd<'_>,
        mut run: impl AsyncFnMut(&Tenant, Label, &mut Output<W>) -> CommandResult,
    ) -> CommandResult {
        let mut summary = Summary::new(self.tenants.len());
        for (number, tenant) in self.tenants.iter().enumerate() {
            match early_end {
                EarlyEnd::OnInterrupt(interrupt, continuation) if interrupt.is_requested() => {
                    return Ok(self.interrupted(&summary, continuation));
                }
                EarlyEnd::WithoutReader if !output.is_open() => {
                    return Ok(summary.worst.max(Status::NeedsAttention));
                }
                _ => {}
            }
            if self.is_all && io::stderr().is_terminal() {
                message(format_args!("tenant {} ({} of {})", name(tenant), number + 1, self.tenants.len()));
            }
            let label = Label { name: self.source.path().map(|_| name(tenant).to_owned()), is_prefixed: self.is_all };
            let result = match tenant {
                Ok(tenant) => self.run_one(tenant, &label, output, &mut run).await,
                Err(entry) => Err(entry.clone().into()),
            };
            let status = match (result, early_end) {
                (Ok(status), _) => status,
                (Err(failure), EarlyEnd::OnInterrupt(_, continuation)) if failure.is::<Interrupted>() => {
                    return Ok(self.interrupted(&summary, continuation));
                }
                (Err(failure), _) => self.report_failure(failure, format, &label, output)?,
            };
            summary.count(status);
        }
        match early_end {
            EarlyEnd::OnInterrupt(interrupt, continuation) if interrupt.is_requested() => {
                Ok(self.interrupted(&summary, continuation))
            }
            _ => {
                self.report(&summary);
                Ok(summary.worst)
            }
        }
    }

    /// Reports that SIGINT or SIGTERM ended the command, and the command that continues.
    fn interrupted(&self, summary: &Summary, continuation: &str) -> Status {
        self.report(summary);
        interrupted(continuation)
    }

    /// Reports the summary of a list.
    fn report(&self, summary: &Summary) {
        if self.is_all {
            summary.report();
        }
    }

    /// Reports the failure of a tenant, and ends the command if no other tenant follows.
    fn report_failure(
        &self,
        failure: Failure,
        format: Format,
        label: &Label,
        output: &mut Output<impl Write>,
    ) -> CommandResult {
        if format.json && self.source.path().is_some() {
            label.object(output, json!({"error": failure.to_string()}));
        }
        if !self.is_all {
            return Err(failure);
        }
        label.message(failure);
        Ok(Status::Failed)
    }

    /// Runs a command for a tenant, and again if its entry has changed since its credentials were refused.
    async fn run_one<W: Write>(
        &self,
        tenant: &Arc<Tenant>,
        label: &Label,
        output: &mut Output<W>,
        run: &mut impl AsyncFnMut(&Tenant, Label, &mut Output<W>) -> CommandResult,
    ) -> CommandResult {
        let result = run(tenant, label.clone(), output).await;
        let refused = |failure: &Failure| failure.downcast_ref().is_some_and(ApiError::is_credentials_refused);
        if !result.as_ref().is_err_and(refused) {
            return result;
        }
        match self.source.refresh(tenant).await? {
            Some(changed) if !Arc::ptr_eq(&changed, tenant) => run(&changed, label.clone(), output).await,
            _ => result,
        }
    }
}

/// SIGINT or SIGTERM ended the work for a tenant.
#[derive(Debug, thiserror::Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

/// Ends a command for several tenants before the last tenant.
#[derive(Clone, Copy)]
pub(crate) enum EarlyEnd<'a> {
    /// Nobody reads the results, and the command changes nothing.
    WithoutReader,
    /// SIGINT or SIGTERM. The command in the text continues.
    OnInterrupt(&'a Interrupt, &'a str),
    /// None: the command reaches the last tenant.
    Never,
}

/// The clients of a command. All use the network connections and trusted certificates of the first.
#[derive(Debug, Default)]
pub(crate) struct Clients(Option<Client>);

impl Clients {
    /// Creates the client of a tenant.
    pub(crate) fn of(&mut self, tenant: &Tenant) -> Result<Client, SetupError> {
        let connection = tenant.connection();
        let first = match self.0.take() {
            Some(first) => first,
            None => Client::new(connection.clone())?,
        };
        Ok(self.0.insert(first).for_tenant(connection.clone()))
    }
}

/// The number of tenants by result, and the worst result.
struct Summary {
    total: usize,
    well: usize,
    needs_attention: usize,
    failed: usize,
    worst: Status,
}

impl Summary {
    fn new(total: usize) -> Self {
        Self { total, well: 0, needs_attention: 0, failed: 0, worst: Status::Well }
    }

    fn count(&mut self, status: Status) {
        match status {
            Status::Well => self.well += 1,
            Status::NeedsAttention => self.needs_attention += 1,
            Status::Failed => self.failed += 1,
        }
        self.worst = self.worst.max(status);
    }

    fn report(&self) {
        let Self { total, well, needs_attention, failed, worst: _ } = self;
        let left = total - well - needs_attention - failed;
        let left = if left > 0 { format!(", {left} left") } else { String::new() };
        message(format_args!("{total} tenants: {well} well, {needs_attention} need attention, {failed} failed{left}"));
    }
}
