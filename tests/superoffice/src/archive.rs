//! The archives: filters, order and pages of contacts, deleted contacts, merges and counters.

use std::collections::HashMap;
use std::ops::Bound;

use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Map, Value, json};

use crate::tenant::{Tenant, Version};

/// A condition of `$filter`.
enum Condition {
    After(String, Timestamp),
    Before(String, Timestamp),
    Greater(String, i64),
    Equal(String, i64),
}

/// Responds to `GET Archive/{provider}` with the rows, or the reason why the query is rejected.
pub(crate) fn query(tenant: &Tenant, provider: &str, query: &HashMap<String, String>) -> Result<Value, String> {
    let text = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let columns: Vec<&str> = text("$select").split(',').map(str::trim).filter(|column| !column.is_empty()).collect();
    let first = *columns.first().ok_or("$select is missing")?;
    let mut conditions = parse_filter(text("$filter"))?;
    if !tenant.paging.filters_keys {
        conditions.retain(|condition| !matches!(condition, Condition::Greater(..)));
    }
    let order = text("$orderby").trim();
    let top = match text("$top") {
        "" => tenant.paging.rows,
        top => top.parse::<usize>().map_err(|_| "$top is not a number")?.min(tenant.paging.rows),
    };
    let table = match provider.to_ascii_lowercase().as_str() {
        "dynamic" => first.split('.').next().unwrap_or_default().to_ascii_lowercase(),
        "recyclecontact" => {
            let entities = text("$entities");
            if !entities.contains("contact") {
                return Err("$entities does not contain contact".into());
            }
            "recyclecontact".into()
        }
        other => return Err(format!("there is no archive {other}")),
    };
    // The base table must be the same for all columns.
    if provider.eq_ignore_ascii_case("dynamic")
        && !columns.iter().all(|column| column.to_ascii_lowercase().starts_with(&table))
    {
        return Err("the columns are of different tables".into());
    }
    let key = match table.as_str() {
        "contact" => "contact.contact_id",
        "recyclecontact" => "contactId",
        "mergemovelog" => order,
        "webhook_usage" => "webhook_usage.webhook_usage_id",
        other => return Err(format!("there is no table {other}")),
    };
    if !order.is_empty() && order != key {
        return Err(format!("this test does not order by {order}"));
    }
    let after = conditions.iter().find_map(|condition| match condition {
        Condition::Greater(column, value) if column == key => Some(*value),
        _ => None,
    });
    let mut rows = Vec::new();
    let mut more = false;
    let mut add = |row: Row| {
        if conditions.iter().all(|condition| row.meets(condition)) {
            more = rows.len() == top;
            if !more {
                rows.push(row.view(&columns));
            }
        }
        !more
    };
    let start = after.map_or(Bound::Unbounded, Bound::Excluded);
    match table.as_str() {
        "contact" => {
            let alive = tenant.contacts.range((start, Bound::Unbounded)).map(|(_, contact)| contact);
            for contact in alive.filter(|contact| contact.deleted.is_none()) {
                let row = Row::new("contact", contact.id)
                    .with("contact.contact_id", Cell::Number(contact.id))
                    .with("contact.registered", Cell::Time(Some(contact.registered)))
                    .with("contact.updated", Cell::Time(contact.updated));
                if !add(row) {
                    break;
                }
            }
        }
        "recyclecontact" => {
            let deleted = tenant.contacts.range((start, Bound::Unbounded)).map(|(_, contact)| contact);
            for contact in deleted.filter(|contact| contact.deleted.is_some()) {
                let row = Row::new("contact", contact.id)
                    .with("contactId", Cell::Number(contact.id))
                    .with("deletedDate", Cell::Time(contact.deleted));
                if !add(row) {
                    break;
                }
            }
        }
        "mergemovelog" => {
            let mut merges = tenant.merges.clone();
            merges.sort_by_key(
                |merge| if order.ends_with("destinationRecord") { merge.destination } else { merge.source },
            );
            for merge in merges {
                let row = Row::new("MergeMoveLog", merge.id)
                    .with("mergemovelog.operation", Cell::Number(1))
                    .with("mergemovelog.tableNumber", Cell::Number(5))
                    .with("mergemovelog.sourceRecord", Cell::Number(merge.source))
                    .with("mergemovelog.destinationRecord", Cell::Number(merge.destination))
                    .with("mergemovelog.registered", Cell::Time(Some(merge.at)));
                if !add(row) {
                    break;
                }
            }
        }
        _ => {
            for webhook in tenant.webhooks.values().filter(|_| tenant.version != Version::Current) {
                let count = |count: u64| Cell::Number(i64::try_from(count).unwrap_or(i64::MAX));
                let row = Row::new("webhook_usage", webhook.id)
                    .with("webhook_usage.webhook_usage_id", Cell::Number(webhook.id))
                    .with("webhook_usage.total_calls", count(webhook.total_calls))
                    .with("webhook_usage.total_errors", count(webhook.total_errors))
                    .with("webhook_usage.consecutive_errors", count(webhook.consecutive_errors));
                if !add(row) {
                    break;
                }
            }
        }
    }
    let next = (more && tenant.paging.has_links).then_some("https://next");
    Ok(json!({"odata.metadata": "https://metadata", "odata.nextLink": next, "value": rows}))
}

enum Cell {
    Number(i64),
    Time(Option<Timestamp>),
}

struct Row {
    entity: &'static str,
    primary_key: i64,
    cells: Vec<(&'static str, Cell)>,
}

impl Row {
    fn new(entity: &'static str, primary_key: i64) -> Self {
        Self { entity, primary_key, cells: Vec::new() }
    }

    fn with(mut self, column: &'static str, cell: Cell) -> Self {
        self.cells.push((column, cell));
        self
    }

    fn cell(&self, column: &str) -> Option<&Cell> {
        self.cells.iter().find(|(name, _)| *name == column).map(|(_, cell)| cell)
    }

    fn meets(&self, condition: &Condition) -> bool {
        match condition {
            Condition::After(column, time) => matches!(self.cell(column), Some(Cell::Time(Some(at))) if at > time),
            Condition::Before(column, time) => matches!(self.cell(column), Some(Cell::Time(Some(at))) if at < time),
            Condition::Greater(column, value) => matches!(self.cell(column), Some(Cell::Number(cell)) if cell > value),
            Condition::Equal(column, value) => matches!(self.cell(column), Some(Cell::Number(cell)) if cell == value),
        }
    }

    fn view(&self, columns: &[&str]) -> Value {
        // A primary key is text, as in the documentation's samples of the dynamic archive.
        let mut view = Map::from_iter([
            ("PrimaryKey".to_owned(), json!(self.primary_key.to_string())),
            ("EntityName".to_owned(), json!(self.entity)),
        ]);
        for column in columns {
            let value = match self.cell(column) {
                None => Value::Null,
                Some(Cell::Number(number)) => json!(number),
                // Without an offset, and in UTC, which is how created and updated times are documented.
                Some(Cell::Time(Some(time))) => {
                    json!(Offset::UTC.to_datetime(*time).strftime("%Y-%m-%dT%H:%M:%S").to_string())
                }
                Some(Cell::Time(None)) => json!("0001-01-01T00:00:00"),
            };
            view.insert((*column).to_owned(), value);
        }
        Value::Object(view)
    }
}

fn parse_filter(filter: &str) -> Result<Vec<Condition>, String> {
    filter.split(" and ").map(str::trim).filter(|part| !part.is_empty()).map(parse_condition).collect()
}

fn parse_condition(part: &str) -> Result<Condition, String> {
    let mut words = part.splitn(3, ' ');
    let (Some(column), Some(operator), Some(value)) = (words.next(), words.next(), words.next()) else {
        return Err(format!("not a condition: {part}"));
    };
    let column = column.to_owned();
    let number = || value.parse::<i64>().map_err(|_| format!("not a number: {value}"));
    let time = || {
        let text = value.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
        let date = text.and_then(|text| jiff::civil::DateTime::strptime("%Y-%m-%dT%H:%M:%S", text).ok());
        date.and_then(|date| Offset::UTC.to_timestamp(date).ok()).ok_or_else(|| format!("not a time: {value}"))
    };
    match operator.to_ascii_lowercase().as_str() {
        "aftertime" => Ok(Condition::After(column, time()?)),
        "beforetime" => Ok(Condition::Before(column, time()?)),
        "gt" => Ok(Condition::Greater(column, number()?)),
        "eq" => Ok(Condition::Equal(column, number()?)),
        other => Err(format!("unknown operator {other}")),
    }
}
