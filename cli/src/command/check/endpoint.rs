//! Requests to the function: one without a signature, a signed probe, and a signed event.

use jiff::Timestamp;
use reqwest::StatusCode;
use serde_json::{Value, json};
use superoffice_webhook::Secret;

use super::finding::Finding;
use crate::delivery::{DeliveryError, Response, deliver};

/// The event that `check` sends. Contact 0 does not exist.
const EVENT: &str = "contact.changed";

/// A URL of the function, and the secret that signs for it.
pub(super) struct Endpoint<'a> {
    pub(super) url: &'a str,
    pub(super) secret: &'a Secret,
    /// The tenant that the bodies name.
    pub(super) context_identifier: &'a str,
}

impl Endpoint<'_> {
    /// Posts a probe without a signature. The function must reject it.
    pub(super) async fn reject_unsigned(&self) -> Finding {
        const CHECK: &str = "unsigned";
        let response = match self.post(&self.body("test", "unsigned"), false).await {
            Ok(response) => response,
            Err(error) => return unreachable(CHECK, &error),
        };
        match (response.status.as_u16(), response.is_from_function()) {
            (401, true) => Finding::ok(CHECK, "an unsigned request is rejected"),
            (200, _) => Finding::wrong(
                CHECK,
                "an unsigned request is accepted",
                "Another program than the function responds: is this the output WebhookUrl?",
            ),
            _ => unexpected(CHECK, &response),
        }
    }

    /// Posts a signed registration probe.
    pub(super) async fn accept_probe(&self) -> Finding {
        const CHECK: &str = "probe";
        match self.post(&self.body("test", "probe"), true).await {
            Err(error) => unreachable(CHECK, &error),
            Ok(response) if response.outcome() == Some("test") => Finding::ok(CHECK, "a signed probe is accepted"),
            Ok(response) => unexpected(CHECK, &response),
        }
    }

    /// Posts a signed event.
    pub(super) async fn accept_event(&self, event_id: &str) -> Finding {
        const CHECK: &str = "event";
        match self.post(&self.body(EVENT, event_id), true).await {
            Err(error) => unreachable(CHECK, &error),
            Ok(response) => match response.outcome() {
                Some("forwarded") => Finding::ok(CHECK, "a signed event is forwarded to the queue"),
                Some("ignored") => Finding::ok(
                    CHECK,
                    format!("a signed event is accepted and ignored: FORWARD_EVENTS does not match {EVENT}"),
                ),
                _ => unexpected(CHECK, &response),
            },
        }
    }

    async fn post(&self, body: &[u8], is_signed: bool) -> Result<Response, DeliveryError> {
        let signature = is_signed.then(|| self.secret.sign(body));
        deliver(self.url, body.to_vec(), signature.as_ref()).await
    }

    /// Returns a body as SuperOffice sends it.
    fn body(&self, event: &str, event_id: &str) -> Vec<u8> {
        let is_probe = event == "test";
        json!({
            "EventId": event_id,
            "Timestamp": Timestamp::now().to_string(),
            "Changes": if is_probe { json!([]) } else { json!(["name"]) },
            "Event": event,
            "PrimaryKey": 0,
            "Entity": if is_probe { "test" } else { "contact" },
            "ContextIdentifier": self.context_identifier,
            "ChangedByAssociateId": 0,
            "WebhookName": "so-webhook check",
        })
        .to_string()
        .into_bytes()
    }
}

impl Response {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// Returns the outcome of an accepted request.
    fn outcome(&self) -> Option<&'static str> {
        let body = self.json();
        let outcome = body["outcome"].as_str().filter(|_| self.status == StatusCode::OK)?;
        ["test", "forwarded", "ignored", "quarantined"].into_iter().find(|known| *known == outcome)
    }

    /// Returns `true` for a body in one of the function's formats. API Gateway's errors have no `title`.
    fn is_from_function(&self) -> bool {
        let body = self.json();
        body["outcome"].is_string() || body["title"].is_string()
    }
}

fn unreachable(check: &'static str, error: &DeliveryError) -> Finding {
    let action =
        "Check the host name in the URL, its DNS record and its certificate. SuperOffice needs all of them, too";
    Finding::wrong(check, error.to_string(), action)
}

/// Explains a response that was not expected.
fn unexpected(check: &'static str, response: &Response) -> Finding {
    let (origin, is_from_function) =
        if response.is_from_function() { ("the function", true) } else { ("not the function", false) };
    let message = format!("status {} from {origin}", response.status.as_u16());
    Finding::wrong(check, message, cause(response.status.as_u16(), is_from_function))
}

/// Returns the probable cause of a response, and the first thing to check.
fn cause(status: u16, is_from_function: bool) -> &'static str {
    match (status, is_from_function) {
        (200, true) => "An older version of the function is deployed: deploy the current release",
        (200, false) => "Another program than the function responds: is this the output WebhookUrl?",
        (401, true) => {
            "Compare SUPEROFFICE_WEBHOOK_SECRET with the deployed secret; a tenant with its own secret needs that one. \
             `reason` in the function's log distinguishes a mismatch from a wrong tenant"
        }
        (401, false) => "SuperOffice cannot send credentials: remove the authorizer of the API",
        (403, false) => {
            "API Gateway or a firewall rejects requests: check the mapping of the custom domain, authorizers and WAF rules"
        }
        (404, false) => {
            "No route matches: the URL must end in /webhook or /webhook/<tenant>, and DefaultEndpoint must not be \
             disabled for this host"
        }
        (405 | 413, true) => "A proxy changed the request: post to the output WebhookUrl",
        (429, false) => {
            "Raise ThrottlingRateLimit and ThrottlingBurstLimit, or find the flood: docs/runbooks/endpoint.md"
        }
        (500, true) => "The function has a bug: see `reason` in its log",
        (500 | 502, false) => {
            "The function does not start, or API Gateway may not invoke it: see `cannot start` in the function's log, and \
             deploy the previous parameters and release: docs/upgrade.md"
        }
        (503, true) => "No queue accepts events: `reason` in the function's log names the error of SQS",
        (503 | 504, false) => {
            "Lambda does not run the function in time: check ReservedConcurrency and the account's quota: \
             docs/runbooks/function.md"
        }
        _ => "Compare the URL with the output WebhookUrl; the endpoint's access log has the cause",
    }
}
