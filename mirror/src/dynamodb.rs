//! The table in DynamoDB.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use crate::row::{Content, Row};
use crate::table::{Position, RowHead, Table, TableError, WriteError};

/// The attributes of a row.
const ENTITY: &str = "entity";
const ID: &str = "id";
const DATA: &str = "data";
const VERSION: &str = "version";
const CHANGED: &str = "changed";
const READ_AT: &str = "readAt";
const STAMP: &str = "stamp";
const DELETED: &str = "deleted";
const EXPIRES: &str = "expires";
const TOO_LARGE: &str = "tooLarge";
/// The attribute of an audit's position.
const STATE: &str = "state";

type Item = HashMap<String, AttributeValue>;

/// A table in DynamoDB.
#[derive(Clone, Debug)]
pub struct DynamoTable {
    client: Client,
    /// A name or an ARN.
    name: String,
}

impl DynamoTable {
    /// Connects to the table with a name, or with an ARN that also contains its region.
    pub fn connect(config: &aws_setup::SdkConfig, name: &str) -> Self {
        Self::new(Client::new(&aws_setup::for_resource(config, name)), name)
    }

    /// Uses the table with a name or an ARN.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    async fn get_item(&self, entity: &str, id: i64) -> Result<Option<Item>, TableError> {
        let request = self.client.get_item().table_name(&self.name).consistent_read(true);
        let output = request.key(ENTITY, text(entity)).key(ID, number(id)).send().await;
        Ok(output.map_err(|error| failure(&error))?.item)
    }

    async fn put_item(&self, item: Item, previous: Option<i64>) -> Result<(), WriteError> {
        let request = self.client.put_item().table_name(&self.name).set_item(Some(item));
        let request = match previous {
            None => request.condition_expression("attribute_not_exists(#id)").expression_attribute_names("#id", ID),
            Some(version) => request
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":version", number(version)),
        };
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(match (error.code(), error.message()) {
                (Some("ConditionalCheckFailedException"), _) => WriteError::Changed,
                (Some("ValidationException"), Some(message)) if message.contains("size") => WriteError::TooLarge,
                _ => failure(&error).into(),
            }),
        }
    }
}

impl Table for DynamoTable {
    async fn get(&self, entity: &str, id: i64) -> Result<Option<Row>, TableError> {
        let item = self.get_item(entity, id).await?;
        item.map(|item| read_row(&item).ok_or(TableError::Unreadable)).transpose()
    }

    async fn put(&self, entity: &str, id: i64, row: &Row, previous: Option<i64>) -> Result<(), WriteError> {
        self.put_item(write_row(entity, id, row), previous).await
    }

    async fn range(
        &self,
        entity: &str,
        after: i64,
        until: Option<i64>,
        limit: usize,
    ) -> Result<Vec<RowHead>, TableError> {
        let (Some(first), until) = (after.checked_add(1), until.unwrap_or(i64::MAX)) else {
            return Ok(Vec::new());
        };
        if first > until {
            return Ok(Vec::new());
        }
        let mut rows = Vec::new();
        let mut start = None;
        loop {
            let query = self.client.query().table_name(&self.name).consistent_read(true);
            let output = query
                .key_condition_expression("#entity = :entity AND #id BETWEEN :first AND :until")
                .projection_expression("#id, #readAt, #stamp, #deleted")
                .set_expression_attribute_names(Some(
                    [ENTITY, ID, READ_AT, STAMP, DELETED].map(|name| (format!("#{name}"), name.to_owned())).into(),
                ))
                .expression_attribute_values(":entity", text(entity))
                .expression_attribute_values(":first", number(first))
                .expression_attribute_values(":until", number(until))
                .limit(i32::try_from(limit - rows.len()).unwrap_or(i32::MAX))
                .set_exclusive_start_key(start)
                .send()
                .await
                .map_err(|error| failure(&error))?;
            for item in output.items.unwrap_or_default() {
                rows.push(read_head(&item).ok_or(TableError::Unreadable)?);
            }
            start = output.last_evaluated_key;
            if start.is_none() || rows.len() >= limit {
                return Ok(rows);
            }
        }
    }

    async fn position(&self, entity: &str) -> Result<Option<Position>, TableError> {
        let read = |item: &Item| {
            Some(Position { state: item.get(STATE)?.as_s().ok()?.clone(), version: integer(item, VERSION)? })
        };
        let item = self.get_item(entity, 0).await?;
        item.map(|item| read(&item).ok_or(TableError::Unreadable)).transpose()
    }

    async fn put_position(&self, entity: &str, position: &Position, previous: Option<i64>) -> Result<(), WriteError> {
        let item = [
            (ENTITY, text(entity)),
            (ID, number(0)),
            (VERSION, number(position.version)),
            (STATE, text(&position.state)),
        ];
        self.put_item(item.map(|(name, value)| (name.to_owned(), value)).into(), previous).await
    }
}

fn text(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

fn number(number: i64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

fn write_row(entity: &str, id: i64, row: &Row) -> Item {
    let mut item = vec![
        (ENTITY, text(entity)),
        (ID, number(id)),
        (VERSION, number(row.version)),
        (CHANGED, number(row.changed)),
        (READ_AT, text(&row.read_at.to_string())),
    ];
    match &row.content {
        Content::Data(data) => item.push((DATA, text(data))),
        Content::TooLarge => item.push((TOO_LARGE, AttributeValue::Bool(true))),
        Content::Deleted { expires } => {
            item.extend([(DELETED, AttributeValue::Bool(true)), (EXPIRES, number(*expires))]);
        }
    }
    item.extend(row.stamp.as_deref().map(|stamp| (STAMP, text(stamp))));
    item.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn read_row(item: &Item) -> Option<Row> {
    let content = if is_true(item, DELETED) {
        Content::Deleted { expires: integer(item, EXPIRES)? }
    } else if is_true(item, TOO_LARGE) {
        Content::TooLarge
    } else {
        Content::Data(item.get(DATA)?.as_s().ok()?.clone())
    };
    Some(Row {
        content,
        version: integer(item, VERSION)?,
        changed: integer(item, CHANGED)?,
        read_at: time(item)?,
        stamp: stamp(item),
    })
}

/// Reads the part of a row that an audit compares. A row that others have changed is old, so it is read again.
fn read_head(item: &Item) -> Option<RowHead> {
    Some(RowHead {
        id: integer(item, ID)?,
        is_living: !is_true(item, DELETED),
        read_at: time(item).unwrap_or(Timestamp::UNIX_EPOCH),
        stamp: stamp(item),
    })
}

fn integer(item: &Item, name: &str) -> Option<i64> {
    item.get(name)?.as_n().ok()?.parse().ok()
}

fn time(item: &Item) -> Option<Timestamp> {
    item.get(READ_AT)?.as_s().ok()?.parse().ok()
}

fn stamp(item: &Item) -> Option<String> {
    item.get(STAMP)?.as_s().ok().cloned()
}

fn is_true(item: &Item, name: &str) -> bool {
    item.get(name).is_some_and(|value| value.as_bool() == Ok(&true))
}

/// Returns the reason of a failed call, without any of its texts.
fn failure<E: ProvideErrorMetadata>(error: &SdkError<E>) -> TableError {
    match error.code() {
        Some("AccessDeniedException" | "UnrecognizedClientException" | "ExpiredTokenException") => TableError::Denied,
        Some("ResourceNotFoundException") => TableError::Missing,
        Some("ProvisionedThroughputExceededException" | "ThrottlingException" | "RequestLimitExceeded") => {
            TableError::Throttled
        }
        _ => error
            .raw_response()
            .map_or(TableError::NoResponse, |response| TableError::Status(response.status().as_u16())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(content: Content, stamp: Option<&str>) -> Row {
        Row {
            content,
            version: 1_795_510_800_125,
            changed: 1_795_510_800_000,
            read_at: "2026-11-24T09:00:00.1Z".parse().unwrap(),
            stamp: stamp.map(str::to_owned),
        }
    }

    #[test]
    fn rows_are_read_as_they_were_written() {
        for row in [
            row(Content::Data(r#"{"ContactId":7}"#.into()), None),
            row(Content::Data(r#"{"ContactId":7}"#.into()), Some("a/b")),
            row(Content::TooLarge, Some("a/b")),
            row(Content::Deleted { expires: 1_798_534_800 }, None),
        ] {
            let item = write_row("Cust1/contact", 7, &row);
            assert_eq!(read_row(&item), Some(row.clone()));
            let head = RowHead { id: 7, is_living: row.is_living(), read_at: row.read_at, stamp: row.stamp };
            assert_eq!(read_head(&item), Some(head));
        }
    }

    #[test]
    fn attributes_have_the_documented_names_and_types() {
        let shared = [
            ("entity", text("Cust1/contact")),
            ("id", number(7)),
            ("version", number(1_795_510_800_125)),
            ("changed", number(1_795_510_800_000)),
            ("readAt", text("2026-11-24T09:00:00.1Z")),
        ];
        let expect = |content, stamp, more: &[(&str, AttributeValue)]| {
            let item = shared.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
            assert_eq!(write_row("Cust1/contact", 7, &row(content, stamp)), item);
        };
        expect(Content::Data("{}".into()), Some("a/b"), &[("data", text("{}")), ("stamp", text("a/b"))]);
        expect(Content::TooLarge, None, &[("tooLarge", AttributeValue::Bool(true))]);
        let tombstone = [("deleted", AttributeValue::Bool(true)), ("expires", number(5))];
        expect(Content::Deleted { expires: 5 }, None, &tombstone);
    }

    #[test]
    fn rows_of_others_are_unreadable() {
        let item = write_row("Cust1/contact", 7, &row(Content::Data("{}".into()), None));
        for name in ["data", "version", "changed", "readAt"] {
            let mut item = item.clone();
            item.remove(name);
            assert_eq!(read_row(&item), None, "{name}");
            assert_eq!(read_head(&item).map(|head| head.id), Some(7), "{name}");
        }
    }
}
