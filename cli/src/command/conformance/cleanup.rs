//! Removal of the test data, which is found by its mark.

use std::collections::BTreeSet;

use superoffice_client::{ApiError, Archive, Client};

use crate::output::message;

/// The beginning of the names of test data.
pub(super) const MARK: &str = "so-webhook conformance";

/// Returns the URL of the test's webhooks. It leads to the function and is no other webhook's URL.
pub(super) fn marked_url(url: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}so-webhook-conformance")
}

/// Deletes contacts and webhooks of this run and of earlier ones, and reports their number. The contacts that this run
/// has `created` are deleted whatever their names are. Webhooks are deleted even if contacts cannot be.
pub(super) async fn clean_up(client: &Client, url: &str, created: &[i64]) -> Result<(), ApiError> {
    let contacts = delete_contacts(client, created).await;
    let webhooks = client.unregister(url).await?.all().count();
    let contacts = contacts?;
    if contacts + webhooks > 0 {
        message(format_args!("deleted {contacts} contacts and {webhooks} webhooks of the test"));
    }
    Ok(())
}

async fn delete_contacts(client: &Client, created: &[i64]) -> Result<usize, ApiError> {
    let mut contacts: BTreeSet<i64> = client.contacts_named(MARK).await?.into_iter().map(|(id, _)| id).collect();
    for id in created {
        if client.lists(Archive::CONTACT, *id).await? {
            contacts.insert(*id);
        }
    }
    for id in &contacts {
        client.delete_contact(*id).await?;
    }
    Ok(contacts.len())
}
