//! The archives: contacts and persons, those that were deleted, merges, webhooks and their counters, in pages.

use serde_json::{Value, json};

use crate::call::Call;
use crate::error::Refusal;
use crate::filter::{self, Condition};
use crate::mode::Version;
use crate::record::{Kind, Record};
use crate::row::{Cell, Row};
use crate::tenant::Tenant;

/// A table of the archives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Table {
    Records(Kind),
    Deleted(Kind),
    Merges,
    Webhooks,
    WebhookUsage,
}

impl Table {
    fn find(provider: &str, first_column: &str, version: Version) -> Option<Self> {
        let table = first_column.split('.').next().unwrap_or_default();
        for kind in Kind::ALL {
            if provider == "dynamic" && table == kind.names().entity {
                return Some(Self::Records(kind));
            }
            if provider == kind.names().recycle {
                return Some(Self::Deleted(kind));
            }
        }
        match (provider, table) {
            ("dynamic", "mergemovelog") => Some(Self::Merges),
            ("dynamic", "webhook_usage") => Some(Self::WebhookUsage),
            ("webhook", _) if version == Version::Current => Some(Self::Webhooks),
            _ => None,
        }
    }

    /// Returns the column in whose order rows are returned.
    fn key(self, order: &str) -> &'static str {
        match self {
            Self::Records(kind) => kind.names().key,
            Self::Deleted(kind) => kind.names().recycle_key,
            Self::Merges if order == "mergemovelog.destinationrecord" => "mergemovelog.destinationRecord",
            Self::Merges => "mergemovelog.sourceRecord",
            Self::Webhooks => "webhookId",
            Self::WebhookUsage => "webhook_usage.webhook_usage_id",
        }
    }

    /// Returns the rows whose key is greater than `after`, and perhaps some others.
    fn rows<'a>(self, tenant: &'a Tenant, key: &str, after: Option<i64>) -> Box<dyn Iterator<Item = Row> + 'a> {
        let records = |kind| tenant.records_after(kind, after);
        let webhooks = tenant.webhooks.values();
        match self {
            Self::Records(kind) => Box::new(records(kind).filter(|record| record.deleted.is_none()).map(row)),
            Self::Deleted(kind) => Box::new(records(kind).filter(|record| record.deleted.is_some()).map(deleted_row)),
            Self::Merges => {
                let by_destination = key == "mergemovelog.destinationRecord";
                let mut merges = tenant.merges.clone();
                merges.sort_by_key(|merge| if by_destination { merge.destination } else { merge.source });
                Box::new(merges.into_iter().map(|merge| {
                    Row::new("MergeMoveLog", merge.id)
                        .with("mergemovelog.operation", Cell::Number(1))
                        .with("mergemovelog.tableNumber", Cell::Number(merge.kind.names().table))
                        .with("mergemovelog.sourceRecord", Cell::Number(merge.source))
                        .with("mergemovelog.destinationRecord", Cell::Number(merge.destination))
                        .with("mergemovelog.registered", Cell::Time(Some(merge.at)))
                }))
            }
            Self::Webhooks => Box::new(webhooks.map(|webhook| {
                Row::new("webhook", webhook.id)
                    .with("webhookId", Cell::Number(webhook.id))
                    .with("name", Cell::text(webhook.text("Name")))
                    .with("events", Cell::Text(webhook.events().join(",")))
                    .with("targetUrl", Cell::text(webhook.text("TargetUrl")))
                    .with("type", Cell::text(webhook.text("Type")))
                    .with("eventCount", Cell::count(webhook.events().len()))
                    .with("webhookUsage/totalCalls", Cell::count(webhook.total_calls))
                    .with("webhookUsage/totalErrors", Cell::count(webhook.total_errors))
                    .with("webhookUsage/consecutiveErrors", Cell::count(webhook.consecutive_errors))
                    .with("webhookUsage/lastError", Cell::text(webhook.last_error.as_deref().unwrap_or_default()))
                    .with("webhookUsage/lastEvent", Cell::Time(webhook.last_event))
                    .with("webhookUsage/status", Cell::text(webhook.state()))
            })),
            Self::WebhookUsage => Box::new(webhooks.map(|webhook| {
                Row::new("webhook_usage", webhook.id)
                    .with("webhook_usage.webhook_usage_id", Cell::Number(webhook.id))
                    .with("webhook_usage.total_calls", Cell::count(webhook.total_calls))
                    .with("webhook_usage.total_errors", Cell::count(webhook.total_errors))
                    .with("webhook_usage.consecutive_errors", Cell::count(webhook.consecutive_errors))
                    .with("webhook_usage.last_error", Cell::text(webhook.last_error.as_deref().unwrap_or_default()))
            })),
        }
    }
}

fn row(record: &Record) -> Row {
    let names = record.kind.names();
    Row::new(names.entity, record.id)
        .with(names.key, Cell::Number(record.id))
        .with(names.name, Cell::text(&record.name))
        .with(names.registered, Cell::Time(Some(record.registered)))
        .with(names.updated, Cell::Time(record.updated))
}

fn deleted_row(record: &Record) -> Row {
    let names = record.kind.names();
    Row::new(names.entity, record.id)
        .with(names.recycle_key, Cell::Number(record.id))
        .with(names.recycle_name, Cell::text(&record.name))
        .with(names.recycle_date, Cell::Time(record.deleted))
}

/// Responds to `GET Archive/{provider}`. Names of archives and columns are found in any letter case.
pub(crate) fn query(tenant: &Tenant, provider: &str, call: &Call<'_>) -> Result<Value, Refusal> {
    let columns: Vec<&str> =
        call.parameter("$select").split(',').map(str::trim).filter(|column| !column.is_empty()).collect();
    let first = columns.first().ok_or_else(|| Refusal::argument("$select is missing"))?.to_ascii_lowercase();
    let mut conditions = filter::parse(call.parameter("$filter"), &call.times)?;
    if !tenant.paging.filters_keys {
        conditions.retain(|condition| condition.lower_bound().is_none());
    }
    let table = Table::find(provider, &first, tenant.mode.version);
    let table = table.ok_or_else(|| Refusal::argument(format!("There is no archive {provider} with {first}")))?;
    let prefix = first.split_once('.').map(|(table, _)| table);
    let is_foreign = |column: &&str| column.to_ascii_lowercase().split_once('.').map(|(table, _)| table) != prefix;
    if provider == "dynamic" && columns.iter().any(is_foreign) {
        return Err(Refusal::argument("The columns are of different tables"));
    }
    let order = call.parameter("$orderby").trim().to_ascii_lowercase();
    let (order, is_descending) = match order.strip_suffix(" desc") {
        Some(order) => (order, true),
        None => (order.strip_suffix(" asc").unwrap_or(&order), false),
    };
    let key = table.key(order);
    if !order.is_empty() && !order.eq_ignore_ascii_case(key) {
        return Err(Refusal::argument(format!("This server does not order by {order}")));
    }
    let entities = call.parameter("$entities");
    if let Table::Deleted(kind) = table {
        let entity = kind.names().entity;
        if !entities.is_empty() && !entities.contains(entity) {
            return Err(Refusal::argument(format!("$entities does not contain {entity}")));
        }
    }
    let top = match call.parameter("$top") {
        "" => tenant.paging.rows,
        top => top.parse::<usize>().map_err(|_| Refusal::argument("$top is not a number"))?.min(tenant.paging.rows),
    };
    let after = conditions.iter().find(|condition| condition.is_on(key)).and_then(Condition::lower_bound);
    let rows = table.rows(tenant, key, after);
    let rows = rows.filter(|row| conditions.iter().all(|condition| condition.is_met_by(row, &call.times)));
    let mut rows: Box<dyn Iterator<Item = Row>> =
        if is_descending { Box::new(rows.collect::<Vec<_>>().into_iter().rev()) } else { Box::new(rows) };
    let page: Vec<Value> = rows.by_ref().take(top).map(|row| row.view(&columns, &call.times)).collect();
    let next = (tenant.paging.has_links && rows.next().is_some()).then_some("https://next");
    Ok(json!({"odata.metadata": "https://metadata", "odata.nextLink": next, "value": page}))
}
