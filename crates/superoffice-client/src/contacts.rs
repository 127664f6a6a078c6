//! The resource `Contact`. A SuperOffice *contact* is a company; a human is a *person*.

use reqwest::StatusCode;
use serde::de::IgnoredAny;

use crate::call::Call;
use crate::client::Client;
use crate::error::ApiError;

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
        let text = String::from_utf8(self.success(&call, response)?).ok();
        let object = text.filter(|text| text.trim_start().starts_with('{') && is_json(text.as_bytes()));
        object.map(Some).ok_or_else(|| ApiError::unexpected(call.to_string(), "not a JSON object"))
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<IgnoredAny>(body).is_ok()
}
