//! Contacts that a program creates, changes and deletes. To read a contact, see [`records`](crate::records).

use reqwest::Method;
use serde_json::{Value, json};

use crate::archives::{integer, lookup, set};
use crate::client::Client;
use crate::error::ApiError;
use crate::records::DYNAMIC;

const ID: &str = "contact.contact_id";
const NAME: &str = "contact.name";

impl Client {
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
        let page = self.archive(DYNAMIC, &query).await?;
        // A server that does not know the condition would return other contacts.
        let named = page.rows.iter().filter_map(|row| Some((row.integer(ID)?, row.text(NAME)?.to_owned())));
        Ok(named.filter(|(_, name)| name.starts_with(beginning)).collect())
    }

    /// Creates a contact, and returns its id.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call fails, or if the response has no `ContactId`.
    pub async fn create_contact(&self, name: &str) -> Result<i64, ApiError> {
        let contact = self.post_once("Contact", &json!({"Name": name})).await?;
        let id = contact.as_object().and_then(|contact| integer(lookup(contact, "ContactId")?));
        id.ok_or_else(|| ApiError::unexpected("POST Contact", "no ContactId"))
    }

    /// Changes the name of a contact: by JSON Patch, or by `PUT` on servers that do not know it.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if a call fails.
    pub async fn rename_contact(&self, id: i64, name: &str) -> Result<(), ApiError> {
        let path = format!("Contact/{id}");
        let patch = json!([{"op": "replace", "path": "/Name", "value": name}]);
        match self.send(Method::PATCH, &path, Some(&patch)).await {
            Err(error) if matches!(error.status(), Some(404 | 405 | 501)) => {}
            result => return result.map(drop),
        }
        let Value::Object(mut contact) = self.get(&path, &[]).await? else {
            return Err(ApiError::unexpected(format!("GET {path}"), "not a JSON object"));
        };
        set(&mut contact, "Name", json!(name));
        self.send(Method::PUT, &path, Some(&Value::Object(contact))).await.map(drop)
    }

    /// Deletes a contact, unless it is gone already. Someone can restore it for some days.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call fails.
    pub async fn delete_contact(&self, id: i64) -> Result<(), ApiError> {
        match self.send(Method::DELETE, &format!("Contact/{id}"), None).await {
            Err(error) if error.status() != Some(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// Merges the contact `source` into `destination`, which remains.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the call fails.
    pub async fn merge_contacts(&self, source: i64, destination: i64) -> Result<(), ApiError> {
        let merge = json!({
            "SourceContactId": source,
            "DestinationContactId": destination,
            "MergeIdenticalPersons": false,
            "ReplaceEmptyFieldsOnDestination": false,
        });
        self.post_once("Agents/Contact/Merge", &merge).await.map(drop)
    }
}
