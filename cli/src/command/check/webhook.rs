//! The webhooks in SuperOffice.

use superoffice_client::registration::ManagedWebhooks;
use superoffice_client::webhooks::{State, Webhook};
use superoffice_client::{Archive, Client, Connection};

use super::finding::Finding;
use super::targets::Target;

/// The watchdog warns of this number of consecutive errors. SuperOffice disables a webhook after nine, or seven.
const MANY_ERRORS: i64 = 3;

const CHECK: &str = "webhook";

/// Checks the webhooks that post to a tenant's URL.
pub(super) async fn check(tenant: &Target) -> Finding {
    let connection = match &tenant.connection {
        Ok(connection) => connection.clone(),
        Err(problems) => return Finding::wrong(CHECK, problems, "Set them: `so-webhook check --help`"),
    };
    match state(connection, &tenant.url).await {
        Ok(finding) => finding,
        Err(reason) => Finding::wrong(CHECK, reason, "See docs/administration.md#errors"),
    }
}

async fn state(connection: Connection, url: &str) -> Result<Finding, String> {
    let client = Client::new(connection).map_err(|error| error.to_string())?;
    let webhooks = client.webhooks(url).await.map_err(|error| error.to_string())?;
    if let Some(finding) = registration(&webhooks, url) {
        return Ok(finding);
    }
    let mut errors = 0;
    for webhook in webhooks.for_rows() {
        let usage = client.usage(webhook).await.map_err(|error| error.to_string())?;
        errors = errors.max(usage.consecutive_errors.unwrap_or_default());
    }
    let message = format!("Active, consecutive errors: {errors}");
    Ok(if errors >= MANY_ERRORS {
        Finding::wrong(CHECK, message, "Run `so-webhook status`: it shows the last error")
    } else {
        Finding::ok(CHECK, message)
    })
}

/// Returns a finding unless one webhook for contacts and one for its state are Active.
fn registration(webhooks: &ManagedWebhooks, url: &str) -> Option<Finding> {
    const REGISTER: &str = "Run `so-webhook register`";
    let not_active = |webhook: &&Webhook| webhook.state() != State::Active;
    let (message, action) = match (webhooks.contacts.as_slice(), webhooks.states.as_slice()) {
        ([], _) => (format!("no webhook for contacts posts to {url}"), REGISTER),
        ([_, _, ..], _) | (_, [_, _, ..]) => (
            format!("several webhooks post to {url}, so events arrive several times"),
            "Delete all but one: `so-webhook status`",
        ),
        _ if webhooks.all().any(|webhook| not_active(&webhook)) => {
            let states = webhooks.all().filter(not_active);
            let states: Vec<_> =
                states.map(|webhook| format!("webhook {} is {}", webhook.id(), webhook.state().as_str())).collect();
            (states.join(", "), "Run `so-webhook activate`: docs/runbooks/reactivate-webhook.md")
        }
        (_, []) => ("no webhook reports the state of the webhook for contacts".to_owned(), REGISTER),
        ([webhook], _) if !webhook.receives_resync(Archive::CONTACT) => (
            format!(
                "webhook {} does not subscribe to contact.resync, so lost events cannot be recovered",
                webhook.id()
            ),
            REGISTER,
        ),
        _ => return None,
    };
    Some(Finding::wrong(CHECK, message, action))
}
