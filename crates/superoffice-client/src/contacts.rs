//! The resource `Contact`, and the list of all contacts. A SuperOffice *contact* is a company; a human is a *person*.

mod change;

use jiff::Timestamp;
use reqwest::StatusCode;
use serde::de::IgnoredAny;
use superoffice_webhook::DateTime;

use crate::archives::{Page, Row};
use crate::call::Call;
use crate::client::Client;
use crate::error::{ApiError, ErrorKind};

const ARCHIVE: &str = "dynamic";
const ID: &str = "contact.contact_id";
const NAME: &str = "contact.name";
const REGISTERED: &str = "contact.registered";
const UPDATED: &str = "contact.updated";

/// A page of the list of all contacts, in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContactPage {
    /// The contacts, by ascending id. An empty page is the end of the list; a short page is not.
    pub contacts: Vec<ListedContact>,
    /// The header `Date` of the response: the page's time by SuperOffice's clock.
    pub date: Option<Timestamp>,
}

/// A contact in the list of all contacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedContact {
    /// The contact id.
    pub id: i64,
    /// The column `registered`, exactly as SuperOffice wrote it.
    pub registered: String,
    /// The column `updated`, exactly as SuperOffice wrote it.
    pub updated: String,
}

impl ListedContact {
    /// Returns the later of both dates; `None` if neither is a date. A date without an offset is read as UTC.
    pub fn latest(&self) -> Option<Timestamp> {
        let time = |text: &str| DateTime::parse(text).ok().flatten().and_then(|time| time.in_utc());
        time(&self.registered).max(time(&self.updated))
    }
}

impl Client {
    /// Reads a contact: the JSON object as SuperOffice sent it, or `None` if there is no contact with this id.
    ///
    /// A page that is not SuperOffice's, for example that of a proxy, is an error and not `None`: a 404 counts only if
    /// its body is JSON. After a merge, SuperOffice may answer with another contact, so compare `ContactId`.
    ///
    /// # Errors
    ///
    /// [`ApiError`] for any other response, with its [status](ApiError::status), and if there is no response.
    pub async fn contact(&self, id: i64) -> Result<Option<String>, ApiError> {
        let path = format!("Contact/{id}");
        let call = Call::get(&path, &[]);
        let response = self.respond(&call).await?;
        if response.status == StatusCode::NOT_FOUND && is_json(&response.body) {
            return Ok(None);
        }
        let is_ok = response.status == StatusCode::OK;
        let text = String::from_utf8(self.success(&call, response)?).ok();
        let object = text.filter(|text| is_ok && text.trim_start().starts_with('{') && is_json(text.as_bytes()));
        object.map(Some).ok_or_else(|| ApiError::unexpected(call.to_string(), "not a JSON object"))
    }

    /// Reads a page of the list of all contacts: at most `rows` contacts whose id is greater than `after`.
    ///
    /// SuperOffice leaves deleted contacts out of the list, unless a query names the date of the deletion. The list ends
    /// with an empty page.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the page cannot be read, and [`ErrorKind::NotAscending`] if its ids do not ascend from `after`.
    pub async fn contact_page(&self, after: i64, rows: usize) -> Result<ContactPage, ApiError> {
        let page = self.listed(&format!("{ID} gt {after}"), ID, rows).await?;
        let date = page.date;
        let contacts = page.rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let ascends = contacts.first().is_none_or(|first| first.id > after);
        if !ascends || !contacts.is_sorted_by(|first, second| first.id < second.id) {
            return Err(ApiError::new(call(), ErrorKind::NotAscending));
        }
        Ok(ContactPage { contacts, date })
    }

    /// Returns `true` if the list of all contacts has this contact.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read, or if it contains another contact.
    pub async fn lists_contact(&self, id: i64) -> Result<bool, ApiError> {
        let page = self.listed(&format!("{ID} eq {id}"), ID, 1).await?;
        match page.rows.first().map(read).transpose()? {
            None => Ok(false),
            Some(contact) if contact.id == id => Ok(true),
            Some(_) => Err(ApiError::unexpected(call(), format!("the condition on {ID} has no effect"))),
        }
    }

    /// Lists the contacts whose name begins with a text, at most 1,000: their ids and names.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call fails.
    pub async fn contacts_named(&self, beginning: &str) -> Result<Vec<(i64, String)>, ApiError> {
        let quoted = beginning.replace('\'', "\\'");
        let query = [
            ("$select", format!("{ID},{NAME}")),
            ("$filter", format!("{NAME} begins '{quoted}'")),
            ("$orderby", ID.to_owned()),
            ("$top", "1000".to_owned()),
        ];
        let page = self.archive(ARCHIVE, &query).await?;
        // A server that does not know the condition would return other contacts.
        let named = page.rows.iter().filter_map(|row| Some((row.integer(ID)?, row.text(NAME)?.to_owned())));
        Ok(named.filter(|(_, name)| name.starts_with(beginning)).collect())
    }

    /// Returns the greatest id in the list of all contacts, for estimates; `None` if the list is empty.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the list cannot be read.
    pub async fn last_contact(&self) -> Result<Option<i64>, ApiError> {
        let page = self.listed(&format!("{ID} gt 0"), &format!("{ID} desc"), 1).await?;
        Ok(page.rows.first().map(read).transpose()?.map(|contact| contact.id))
    }

    async fn listed(&self, filter: &str, order: &str, rows: usize) -> Result<Page, ApiError> {
        let query = [
            ("$select", format!("{ID},{REGISTERED},{UPDATED}")),
            ("$filter", filter.to_owned()),
            ("$orderby", order.to_owned()),
            ("$top", rows.to_string()),
        ];
        self.archive(ARCHIVE, &query).await
    }
}

fn call() -> String {
    format!("GET Archive/{ARCHIVE}")
}

fn read(row: &Row) -> Result<ListedContact, ApiError> {
    let id = row.integer(ID).or_else(|| row.integer("PrimaryKey"));
    let id = id.ok_or_else(|| ApiError::unexpected(call(), format!("a row without {ID}")))?;
    Ok(ListedContact { id, registered: row.exact(REGISTERED), updated: row.exact(UPDATED) })
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
            let contact = ListedContact { id: 7, registered: registered.into(), updated: updated.into() };
            assert_eq!(contact.latest(), expected.map(|text| text.parse().unwrap()), "{registered} {updated}");
        }
    }

    #[test]
    fn rows_keep_the_texts_of_their_dates() {
        let row = |row: Value| {
            let Value::Object(row) = row else { unreachable!("a row is an object") };
            let contact = read(&row.into()).map_err(|error| error.to_string())?;
            Ok::<_, String>((contact.id, contact.registered, contact.updated))
        };
        let texts = |id, registered: &str, updated: &str| Ok((id, registered.to_owned(), updated.to_owned()));
        let time = " 2026-11-24T09:05:07.10+00:00";
        assert_eq!(
            row(json!({"PrimaryKey": "6", ID: "7", "contact.Registered": time, UPDATED: 0})),
            texts(7, time, "0")
        );
        assert_eq!(row(json!({"PrimaryKey": "6", UPDATED: null})), texts(6, "", ""));
        let problem = "GET Archive/dynamic: unexpected response: a row without contact.contact_id";
        assert_eq!(row(json!({"EntityName": "contact"})), Err(problem.into()));
    }
}
