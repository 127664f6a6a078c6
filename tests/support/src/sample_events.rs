//! The sample events in `events/`: API Gateway events, generated from the payloads in `events/payloads/`. Those of other
//! entities than contacts are in `events/entities/`, one for each documented event.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::Value;

use crate::api_gateway::WebhookRequest;
use crate::entity_events::{EntityFacts, schema};
use crate::project_root;

/// The secret that signs the sample events. Public, so never use it in production.
pub const SAMPLE_SECRET: &str = "sample-secret-do-not-use-in-production";

/// The form in which API Gateway passes a request.
#[derive(Clone, Copy)]
enum Form {
    /// Payload 2.0 (HTTP API, function URL), body as text.
    Http,
    /// Payload 2.0, body as base64.
    HttpBase64,
    /// Payload 1.0 (REST API), body as text.
    Rest,
}

/// The signature of a request.
#[derive(Clone, Copy)]
enum Signature {
    Valid,
    Wrong,
    Missing,
}

/// A file in `events/`.
struct Sample {
    name: &'static str,
    payload: &'static str,
    form: Form,
    signature: Signature,
    retry: Option<&'static str>,
}

const fn sample(name: &'static str, payload: &'static str) -> Sample {
    Sample { name, payload, form: Form::Http, signature: Signature::Valid, retry: None }
}

const SAMPLES: &[Sample] = &[
    sample("contact-created", "contact-created.json"),
    Sample { retry: Some("1"), ..sample("contact-created-retried", "contact-created.json") },
    sample("contact-changed", "contact-changed.json"),
    sample("contact-softdeleted", "contact-softdeleted.json"),
    sample("contact-deleted", "contact-deleted.json"),
    Sample { form: Form::HttpBase64, ..sample("contact-changed-base64", "contact-changed-unicode.json") },
    Sample { form: Form::Rest, ..sample("contact-changed-rest", "contact-changed-onsite.json") },
    sample("test", "test.json"),
    sample("sale-created", "sale-created.json"),
    Sample { signature: Signature::Wrong, ..sample("signature-wrong", "contact-changed.json") },
    Sample { signature: Signature::Missing, ..sample("signature-missing", "contact-changed.json") },
    sample("not-json", "not-json.txt"),
];

/// Returns the path and the content of every file in `events/` and in `events/entities/`, and of the schema of the
/// events.
///
/// # Errors
///
/// The error of a payload that cannot be read.
pub fn sample_events() -> io::Result<BTreeMap<PathBuf, String>> {
    let folder = project_root().join("events");
    let mut events = entity_events(&folder.join("entities"))?;
    let contacts: io::Result<Vec<_>> = SAMPLES
        .iter()
        .map(|sample| {
            let body = fs::read(folder.join("payloads").join(sample.payload))?;
            let path = folder.join(sample.name).with_extension("json");
            Ok((path, content(sample, body)))
        })
        .collect();
    events.extend(contacts?);
    events.insert(project_root().join("schema/entities.schema.json"), schema()?);
    Ok(events)
}

/// Returns a signed event for each documented event of another entity than contacts.
fn entity_events(folder: &Path) -> io::Result<BTreeMap<PathBuf, String>> {
    let others = EntityFacts::all()?.into_iter().filter(|entity| entity.name != "contact");
    Ok(others
        .flat_map(|entity| entity.samples())
        .map(|mut event| {
            event.body.sort_all_objects();
            let path = folder.join(event.name.replace('.', "-")).with_extension("json");
            (path, content(&sample("", ""), event.body.to_string().into_bytes()))
        })
        .collect())
}

fn content(sample: &Sample, body: Vec<u8>) -> String {
    let mut event = event(sample, body);
    // The order must not depend on serde_json's feature preserve_order, which other crates enable.
    event.sort_all_objects();
    format!("{event:#}\n")
}

fn event(sample: &Sample, body: Vec<u8>) -> Value {
    let payload: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut request = match sample.signature {
        Signature::Valid => WebhookRequest::signed(body, SAMPLE_SECRET),
        Signature::Wrong => WebhookRequest::signed(body, "a secret that nobody has configured"),
        Signature::Missing => WebhookRequest::unsigned(body),
    };
    for (header, field) in [("X-SuperOffice-Event", "Event"), ("X-SuperOffice-EventId", "EventId")] {
        if let Some(value) = payload[field].as_str().filter(|value| !value.is_empty()) {
            request = request.header(header, value);
        }
    }
    if payload["Event"] == "test" {
        request = request.header("X-Hook-Test", "true");
    }
    if let Some(retry) = sample.retry {
        request = request.header("X-SuperOffice-Retry", retry);
    }
    match sample.form {
        Form::Http => request.http_api(),
        Form::HttpBase64 => request.base64().http_api(),
        Form::Rest => request.rest_api(),
    }
}
