//! `purge`: deletes the rows of a tenant from the mirror's table.
//!
//! The rows that are left are found again, so that a run that was interrupted continues when it is repeated.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal};
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, WriteRequest};
use clap::builder::NonEmptyStringValueParser;
use superoffice_webhook::webhook::entity::Archive;
use tenants::{TenantList, TenantSource, partition};

use crate::environment::{self, AWS, SUPEROFFICE};
use crate::exit::{CommandResult, Failure, Status};
use crate::interrupt::{Interrupt, interrupted};
use crate::output::{is_confirmed, message};
use crate::shell::option;

/// The number of rows that DynamoDB deletes in one call.
const BATCH: i32 = 25;
/// The wait after a call that DynamoDB throttled. It doubles with each further call.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// The number of calls in a row that delete nothing before the command gives up.
const ATTEMPTS: u32 = 8;

/// Delete the rows of a tenant that has left the list from the mirror's table
///
/// Deletes nothing for a tenant that is in the list. Remove the tenant from the list first, and wait ten minutes,
/// because the mirror keeps the list for that time. Asks first on a terminal. Elsewhere, --yes is required. Ctrl-C ends
/// the command after the current call.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SUPEROFFICE, &AWS]))]
pub(crate) struct Purge {
    /// The tenant that has left the list, as the table spells it
    #[arg(long, value_name = "TENANT", value_parser = parse_tenant)]
    tenant: String,
    /// The mirror's table: a name, or the ARN of a table in another region
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    table: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Purge {
    pub(crate) async fn run(self) -> CommandResult {
        if !self.yes && !io::stdin().is_terminal() {
            return Err("nothing was deleted: --yes is required where standard input is not a terminal".into());
        }
        let source = environment::read(|env| {
            environment::check_aws(env);
            TenantSource::from_environment(env)
        })?;
        let tenant = partition::tenant(Some(&self.tenant));
        if is_listed(&*source.list().await?, tenant) {
            return Err(format!("nothing was deleted: the tenant {tenant} is in the list of tenants").into());
        }
        let rows = Rows::load(&self.table).await?;
        if !self.yes && !is_confirmed(&format!("delete every row of {} from {}?", self.tenant, self.table))? {
            message("nothing was deleted");
            return Ok(Status::NeedsAttention);
        }
        let interrupt = Interrupt::listen()?;
        let mut deleted = 0;
        let end = rows.delete_tenant(tenant, &mut deleted, || interrupt.is_requested()).await;
        message(self.summary(deleted, matches!(end, Ok(End::AllDeleted))));
        match end? {
            End::AllDeleted => Ok(Status::Well),
            End::Interrupted => Ok(interrupted(&self.continuation())),
        }
    }

    fn summary(&self, deleted: u64, is_complete: bool) -> String {
        let Self { tenant, table, .. } = self;
        match (deleted, is_complete) {
            (0, true) => format!("no row of {tenant} was found in {table}; the name must be spelled as in the table"),
            _ => format!("{deleted} rows of {tenant} were deleted"),
        }
    }

    /// Returns the command that continues.
    fn continuation(&self) -> String {
        let yes = if self.yes { " --yes" } else { "" };
        let (tenant, table) = (option("--tenant", &self.tenant), option("--table", &self.table));
        format!("purge{tenant}{table}{yes}")
    }
}

/// Parses a tenant's name. A `#` at the beginning could name a position of another tenant's audit: `#audit/Cust1`.
fn parse_tenant(name: &str) -> Result<String, &'static str> {
    let is_valid = !name.is_empty() && !name.starts_with('#');
    if is_valid { Ok(name.to_owned()) } else { Err("expected a name without `#` at the beginning") }
}

/// Returns `true` if the tenant is in the list, even if its entry cannot be used.
fn is_listed(list: &TenantList, name: &str) -> bool {
    list.names().any(|own| partition::tenant(own).eq_ignore_ascii_case(name))
}

/// Returns the partitions of a tenant, of every entity that a mirror can have kept. A name that has left the list is
/// searched in each usual spelling, because the table has the spelling of the list.
fn entities(tenant: &str) -> Vec<String> {
    let lower = tenant.to_ascii_lowercase();
    let mut capitalized = lower.clone();
    if let Some(first) = capitalized.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let names = BTreeSet::from([tenant.to_owned(), capitalized, tenant.to_ascii_uppercase(), lower]);
    // The position is deleted last, so that an audit of a process with an old list does not begin with an empty table.
    let of = |partition: fn(&str, &str) -> String| {
        names.iter().flat_map(move |name| Archive::ALL.map(|archive| partition(name, archive.name)))
    };
    of(partition::of_rows).chain(of(partition::of_audit)).collect()
}

/// The reason why the deletion ended without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    AllDeleted,
    Interrupted,
}

/// The rows of a table.
struct Rows {
    client: Client,
    table: String,
}

impl Rows {
    async fn load(table: &str) -> Result<Self, Failure> {
        let config = aws_setup::load().await?;
        Ok(Self { client: Client::new(&aws_setup::for_resource(&config, table)), table: table.to_owned() })
    }

    /// Deletes the rows of a tenant, and adds their number to `deleted`.
    async fn delete_tenant(
        &self,
        tenant: &str,
        deleted: &mut u64,
        is_interrupted: impl Fn() -> bool,
    ) -> Result<End, Failure> {
        for entity in entities(tenant) {
            let (mut wait, mut attempts) = (FIRST_WAIT, 0);
            loop {
                if is_interrupted() {
                    return Ok(End::Interrupted);
                }
                let keys = self.first(&entity).await?;
                if keys.is_empty() {
                    break;
                }
                let count = keys.len();
                let left = self.delete(&entity, keys).await?;
                *deleted += u64::try_from(count - left).unwrap_or(0);
                if left < count {
                    (wait, attempts) = (FIRST_WAIT, 0);
                }
                if left > 0 {
                    attempts += 1;
                    if attempts == ATTEMPTS {
                        return Err("the table throttles; repeat the command later".into());
                    }
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        Ok(End::AllDeleted)
    }

    /// Returns the keys of the first rows of a partition.
    async fn first(&self, entity: &str) -> Result<Vec<AttributeValue>, Failure> {
        let query = self.client.query().table_name(&self.table).consistent_read(true).limit(BATCH);
        let query = query
            .key_condition_expression("#entity = :entity")
            .projection_expression("#id")
            .expression_attribute_names("#entity", "entity")
            .expression_attribute_names("#id", "id")
            .expression_attribute_values(":entity", AttributeValue::S(entity.to_owned()));
        let output = query.send().await.map_err(|error| aws_setup::reason(&error))?;
        Ok(output.items.unwrap_or_default().into_iter().filter_map(|mut item| item.remove("id")).collect())
    }

    /// Deletes rows, and returns the number of those that are left.
    async fn delete(&self, entity: &str, keys: Vec<AttributeValue>) -> Result<usize, Failure> {
        let mut requests = Vec::with_capacity(keys.len());
        for id in keys {
            let delete = DeleteRequest::builder().key("entity", AttributeValue::S(entity.to_owned())).key("id", id);
            requests.push(WriteRequest::builder().delete_request(delete.build()?).build());
        }
        let output = self.client.batch_write_item().request_items(&self.table, requests).send().await;
        let output = output.map_err(|error| aws_setup::reason(&error))?;
        Ok(output.unprocessed_items.iter().flat_map(|items| items.values()).map(Vec::len).sum())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_dynamodb::operation::batch_write_item::BatchWriteItemOutput;
    use aws_sdk_dynamodb::operation::query::QueryOutput;
    use aws_smithy_mocks::{RuleMode, mock, mock_client};
    use superoffice_webhook::env::Environment;

    use super::*;

    type Keys = Arc<Mutex<BTreeSet<(String, i64)>>>;

    /// Returns a table with these keys, which processes at most `processed` deletions of a call.
    fn table(keys: &Keys, processed: usize) -> Rows {
        let (queried, written) = (Arc::clone(keys), Arc::clone(keys));
        let query = mock!(Client::query).match_requests(|_| true).then_compute_output(move |query| {
            assert_eq!((query.table_name(), query.consistent_read()), (Some("contacts"), Some(true)));
            let entity = query.expression_attribute_values().unwrap()[":entity"].as_s().unwrap();
            let keys = queried.lock().unwrap();
            let ids = keys.iter().filter(|(name, _)| name == entity).map(|(_, id)| AttributeValue::N(id.to_string()));
            let limit = usize::try_from(query.limit().unwrap()).unwrap();
            let items = ids.take(limit).map(|id| [("id".to_owned(), id)].into()).collect();
            QueryOutput::builder().set_items(Some(items)).build()
        });
        let write = mock!(Client::batch_write_item).match_requests(|_| true).then_compute_output(move |write| {
            let requests = &write.request_items().unwrap()["contacts"];
            assert!(requests.len() <= 25);
            for request in &requests[..processed.min(requests.len())] {
                let key = request.delete_request().unwrap().key();
                let id = key["id"].as_n().unwrap().parse().unwrap();
                assert!(written.lock().unwrap().remove(&(key["entity"].as_s().unwrap().clone(), id)));
            }
            let left = requests[processed.min(requests.len())..].to_vec();
            let unprocessed = if left.is_empty() { None } else { Some([("contacts".to_owned(), left)].into()) };
            BatchWriteItemOutput::builder().set_unprocessed_items(unprocessed).build()
        });
        let rules = [&query, &write];
        Rows { client: mock_client!(aws_sdk_dynamodb, RuleMode::MatchAny, rules), table: "contacts".into() }
    }

    fn keys() -> Keys {
        let mut keys: BTreeSet<_> = (1..=60).map(|id| ("Cust1/contact".to_owned(), id)).collect();
        keys.extend([1, 2].map(|id| ("Cust1/person".to_owned(), id)));
        keys.extend(["#audit/Cust1/contact", "#audit/Cust1/person"].map(|entity| (entity.to_owned(), 0)));
        keys.extend(others());
        Arc::new(Mutex::new(keys))
    }

    fn left(keys: &Keys) -> Vec<(String, i64)> {
        keys.lock().unwrap().iter().cloned().collect()
    }

    fn others() -> Vec<(String, i64)> {
        [("#audit/Cust12/contact", 0), ("Cust12/contact", 1)].map(|(entity, id)| (entity.to_owned(), id)).into()
    }

    #[tokio::test(start_paused = true)]
    async fn rows_and_position_of_the_tenant_are_deleted_and_no_others() {
        for (tenant, processed) in [("Cust1", 25), ("Cust1", 7), ("CUST1", 25), ("cust1", 25)] {
            let (keys, mut deleted) = (keys(), 0);
            let end = table(&keys, processed).delete_tenant(tenant, &mut deleted, || false).await;
            assert_eq!((end.unwrap(), deleted, left(&keys)), (End::AllDeleted, 64, others()), "{tenant}");
        }
        let (keys, mut deleted) = (keys(), 0);
        let end = table(&keys, 25).delete_tenant("Cust", &mut deleted, || false).await;
        assert_eq!((end.unwrap(), deleted, left(&keys).len()), (End::AllDeleted, 0, 66));
    }

    #[tokio::test(start_paused = true)]
    async fn interrupted_deletion_continues() {
        let (keys, mut deleted) = (keys(), 0);
        let calls = std::cell::Cell::new(0);
        let is_interrupted = || calls.replace(calls.get() + 1) == 3;
        let end = table(&keys, 25).delete_tenant("Cust1", &mut deleted, is_interrupted).await;
        assert_eq!((end.unwrap(), deleted), (End::Interrupted, 25));
        let end = table(&keys, 25).delete_tenant("Cust1", &mut deleted, || false).await;
        assert_eq!((end.unwrap(), deleted, left(&keys)), (End::AllDeleted, 64, others()));
    }

    #[tokio::test(start_paused = true)]
    async fn table_that_deletes_nothing_is_an_error() {
        let mut deleted = 0;
        let error = table(&keys(), 0).delete_tenant("Cust1", &mut deleted, || false).await.unwrap_err();
        assert_eq!(error.to_string(), "the table throttles; repeat the command later");
    }

    #[test]
    fn audit_of_another_tenant_is_wrong_usage() {
        assert_eq!(parse_tenant("Cust_1.a-b c"), Ok("Cust_1.a-b c".to_owned()));
        for name in ["", "#audit/Cust1"] {
            assert_eq!(parse_tenant(name), Err("expected a name without `#` at the beginning"), "{name}");
        }
    }

    #[tokio::test]
    async fn default_is_the_onsite_installation() {
        for (url, is_onsite) in [("https://server/SuperOffice", true), ("https://server/Cust1", false)] {
            let variables = [("SUPEROFFICE_URL", url), ("SUPEROFFICE_ACCESS_TOKEN", "token")];
            let lookup = |name: &str| Some(variables.iter().find(|(variable, _)| *variable == name)?.1.to_owned());
            let mut environment = Environment::new(&lookup);
            let source = TenantSource::from_environment(&mut environment).unwrap();
            let list = source.list().await.unwrap();
            for (name, expected) in
                [("Default", is_onsite), ("default", is_onsite), ("Onsite", is_onsite), ("cust1", !is_onsite)]
            {
                assert_eq!(is_listed(&list, partition::tenant(Some(name))), expected, "{url} {name}");
            }
        }
    }

    #[test]
    fn summary_advises_on_the_spelling_if_no_row_was_found() {
        let purge = Purge { tenant: "Cust1".into(), table: "contacts".into(), yes: true };
        assert_eq!(purge.summary(64, true), "64 rows of Cust1 were deleted");
        assert_eq!(purge.summary(0, false), "0 rows of Cust1 were deleted");
        let expected = "no row of Cust1 was found in contacts; the name must be spelled as in the table";
        assert_eq!(purge.summary(0, true), expected);
    }

    #[test]
    fn command_that_continues_has_every_option() {
        let purge = Purge { tenant: "Cust1".into(), table: "contacts".into(), yes: true };
        assert_eq!(purge.continuation(), "purge --tenant Cust1 --table contacts --yes");
    }
}
