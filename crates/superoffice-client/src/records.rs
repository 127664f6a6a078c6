//! A record of an entity, a contact or a person, and the list of all records. The [`Archive`] is that of the entity. A
//! SuperOffice *contact* is a company; a human is a *person*.

use jiff::Timestamp;
use reqwest::StatusCode;
use serde::de::IgnoredAny;
use superoffice_webhook::DateTime;
use superoffice_webhook::webhook::entity::Archive;

use crate::archives::{Page, Row};
use crate::call::{Call, without_byte_order_mark};
use crate::client::Client;
use crate::error::{ApiError, ErrorKind};

/// The archive with the columns of every table.
pub(crate) const DYNAMIC: &str = "dynamic";

/// A page of the list of all records, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPage {
    /// The records, by ascending id. An empty page is the end of the list; a short page is not.
    pub records: Vec<ListedRecord>,
    /// The header `Date` of the response: the page's time by SuperOffice's clock.
    pub date: Option<Timestamp>,
}

/// A record in the list of all records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    /// The id.
    pub id: i64,
    /// The column `registered`, exactly as SuperOffice wrote it.
    pub registered: String,
    /// The column `updated`, exactly as SuperOffice wrote it.
    pub updated: String,
}

impl ListedRecord {
    /// Returns the later of both dates; `None` if neither is a date. A date without an offset is read as UTC.
    pub fn latest(&self) -> Option<Timestamp> {
        let time = |text: &str| DateTime::parse(text).ok().flatten().and_then(|time| time.in_utc());
        time(&self.registered).max(time(&self.updated))
    }
}

impl Client {
    /// Reads a contact, see [`Client::document`].
    ///
    /// # Errors
    ///
    /// [`ApiError`] as for [`Client::document`].
    pub async fn contact(&self, id: i64) -> Result<Option<String>, ApiError> {
        self.document(Archive::CONTACT, id).await
    }

    /// Reads a record: the JSON object as SuperOffice sent it, or `None` if there is no record with this id.
    ///
    /// A page that is not SuperOffice's, for example that of a proxy, is an error and not `None`: a 404 counts only if
    /// its body is JSON. After a merge, SuperOffice may answer with another record, so compare [`Archive::id`].
    ///
    /// # Errors
    ///
    /// [`ApiError`] for any other response, with its [status](ApiError::status), and if there is no response.
    pub async fn document(&self, archive: &Archive, id: i64) -> Result<Option<String>, ApiError> {
        let path = format!("{}/{id}", archive.resource);
        let call = Call::get(&path, &[]);
        let response = self.respond(&call).await?;
        if response.status == StatusCode::NOT_FOUND && is_json(without_byte_order_mark(&response.body)) {
            return Ok(None);
        }
        let is_ok = response.status == StatusCode::OK;
        let text = String::from_utf8(self.success(&call, response)?).ok();
        let object = text.filter(|text| is_ok && text.trim_start().starts_with('{') && is_json(text.as_bytes()));
        object.map(Some).ok_or_else(|| ApiError::unexpected(call.to_string(), "not a JSON object"))
    }

    /// Reads a page of the list of all records: at most `rows` records whose id is greater than `after`.
    ///
    /// SuperOffice leaves deleted records out of the list, unless a query names the date of the deletion. The list ends
    /// with an empty page.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the page cannot be read, and [`ErrorKind::NotAscending`] if its ids do not ascend from `after`.
    pub async fn page(&self, archive: &Archive, after: i64, rows: usize) -> Result<RecordPage, ApiError> {
        let page = self.listed(archive, &format!("{} gt {after}", archive.key), archive.key, rows).await?;
        let date = page.date;
        let records = page.rows.iter().map(|row| read(archive, row)).collect::<Result<Vec<_>, _>>()?;
        let ascends = records.first().is_none_or(|first| first.id > after);
        if !ascends || !records.is_sorted_by(|first, second| first.id < second.id) {
            return Err(ApiError::new(call(), ErrorKind::NotAscending));
        }
        Ok(RecordPage { records, date })
    }

    /// Returns `true` if the list of all records has this record.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read, or if it contains another record.
    pub async fn lists(&self, archive: &Archive, id: i64) -> Result<bool, ApiError> {
        let page = self.listed(archive, &format!("{} eq {id}", archive.key), archive.key, 1).await?;
        match page.rows.first().map(|row| read(archive, row)).transpose()? {
            None => Ok(false),
            Some(record) if record.id == id => Ok(true),
            Some(_) => Err(ApiError::unexpected(call(), format!("the condition on {} has no effect", archive.key))),
        }
    }

    /// Returns the greatest id in the list of all records, for estimates; `None` if the list is empty.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read.
    pub async fn last_id(&self, archive: &Archive) -> Result<Option<i64>, ApiError> {
        let (filter, order) = (format!("{} gt 0", archive.key), format!("{} desc", archive.key));
        let page = self.listed(archive, &filter, &order, 1).await?;
        Ok(page.rows.first().map(|row| read(archive, row)).transpose()?.map(|record| record.id))
    }

    async fn listed(&self, archive: &Archive, filter: &str, order: &str, rows: usize) -> Result<Page, ApiError> {
        let query = [
            ("$select", columns(archive)),
            ("$filter", filter.to_owned()),
            ("$orderby", order.to_owned()),
            ("$top", rows.to_string()),
        ];
        self.archive(DYNAMIC, &query).await
    }
}

fn call() -> String {
    format!("GET Archive/{DYNAMIC}")
}

/// Returns the columns of the list of all records.
pub(crate) fn columns(archive: &Archive) -> String {
    [archive.key, archive.registered, archive.updated].join(",")
}

fn read(archive: &Archive, row: &Row) -> Result<ListedRecord, ApiError> {
    let id = row.integer(archive.key).or_else(|| row.integer("PrimaryKey"));
    let id = id.ok_or_else(|| ApiError::unexpected(call(), format!("a row without {}", archive.key)))?;
    Ok(ListedRecord { id, registered: row.exact(archive.registered), updated: row.exact(archive.updated) })
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn latest_date_is_read_in_every_form() {
        for (registered, updated, expected) in [
            ("2026-11-24T09:00:00Z", "2026-11-24T09:05:00Z", Some("2026-11-24T09:05:00Z")),
            ("2026-11-24T10:00:00+01:00", "2026-11-24T08:59:59Z", Some("2026-11-24T09:00:00Z")),
            ("2026-11-24T09:00:00", "0001-01-01T00:00:00", Some("2026-11-24T09:00:00Z")),
            ("soon", "[DT:11/24/2026 09:05:07.0000000]", Some("2026-11-24T09:05:07Z")),
            ("soon", "0", None),
            ("", "0001-01-01T00:00:00", None),
        ] {
            let record = ListedRecord { id: 7, registered: registered.into(), updated: updated.into() };
            assert_eq!(record.latest(), expected.map(|text| text.parse().unwrap()), "{registered} {updated}");
        }
    }

    #[test]
    fn rows_keep_the_texts_of_their_dates() {
        for archive in Archive::ALL {
            let row = |row: Value| {
                let Value::Object(row) = row else { unreachable!("a row is an object") };
                let record = read(archive, &row.into()).map_err(|error| error.to_string())?;
                Ok::<_, String>((record.id, record.registered, record.updated))
            };
            let texts = |id, registered: &str, updated: &str| Ok((id, registered.to_owned(), updated.to_owned()));
            let time = " 2026-11-24T09:05:07.10+00:00";
            let registered = archive.registered.to_uppercase();
            let found = row(json!({"PrimaryKey": "6", archive.key: "7", registered: time, archive.updated: 0}));
            assert_eq!(found, texts(7, time, "0"));
            assert_eq!(row(json!({"PrimaryKey": "6", archive.updated: null})), texts(6, "", ""));
            let problem = format!("GET Archive/dynamic: unexpected response: a row without {}", archive.key);
            assert_eq!(row(json!({"EntityName": archive.name})), Err(problem));
        }
    }
}
