//! API Gateway's envelopes around SuperOffice's deliveries: what `events/` holds.
//!
//! Used by `examples/sign.rs`, which writes the files, and by `tests/events.rs`, which fails when one of them is no
//! longer what its payload says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use superoffice_webhook::signature::Secret;

/// Signs the events in `events/`, and the local stack's. Known to everybody: no secret at all.
pub(crate) const SAMPLE_SECRET: &str = "sample-secret-do-not-use-in-production";

const HOST: &str = "a1b2c3d4e5.execute-api.eu-north-1.amazonaws.com";
const USER_AGENT: &str = "NetServer-Webhook/10.5";
const SOURCE_IP: &str = "203.0.113.17";
const TRACE_ID: &str = "Root=1-66f2a1b0-3f2a9c1d4e5b6a7980c1d2e3";
const CONTENT_TYPE: &str = "application/json; charset=utf-8";

/// How API Gateway hands a request on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// An HTTP API or a function URL, payload 2.0; the body as text.
    Http,
    /// The same with the body in base64.
    HttpBase64,
    /// A REST API, payload 1.0.
    Rest,
}

/// Who signed a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SignedBy {
    Sample,
    SomebodyElse,
    Nobody,
}

/// One file of `events/`.
struct Delivery {
    name: &'static str,
    payload: &'static str,
    form: Form,
    signed_by: SignedBy,
    retry: Option<&'static str>,
}

const fn delivery(name: &'static str, payload: &'static str) -> Delivery {
    Delivery { name, payload, form: Form::Http, signed_by: SignedBy::Sample, retry: None }
}

const DELIVERIES: &[Delivery] = &[
    delivery("contact-created", "contact-created.json"),
    Delivery { retry: Some("1"), ..delivery("contact-created-retried", "contact-created.json") },
    delivery("contact-changed", "contact-changed.json"),
    delivery("contact-softdeleted", "contact-softdeleted.json"),
    delivery("contact-deleted", "contact-deleted.json"),
    Delivery { form: Form::HttpBase64, ..delivery("contact-changed-base64", "contact-changed-unicode.json") },
    Delivery { form: Form::Rest, ..delivery("contact-changed-rest", "contact-changed-onsite.json") },
    delivery("test", "test.json"),
    delivery("sale-created", "sale-created.json"),
    Delivery { signed_by: SignedBy::SomebodyElse, ..delivery("signature-wrong", "contact-changed.json") },
    Delivery { signed_by: SignedBy::Nobody, ..delivery("signature-missing", "contact-changed.json") },
    delivery("not-json", "not-json.txt"),
];

/// Every envelope, by its path below the project's root, in the text that its file has.
pub(crate) fn envelopes(root: &Path) -> io::Result<Vec<(PathBuf, String)>> {
    DELIVERIES
        .iter()
        .map(|delivery| {
            let body = fs::read(root.join("events/payloads").join(delivery.payload))?;
            let envelope = envelope(delivery, &body)?;
            let path = root.join("events").join(delivery.name).with_extension("json");
            Ok((path, format!("{envelope:#}\n")))
        })
        .collect()
}

/// SuperOffice's own headers for a body, in its spelling.
pub(crate) fn superoffice_headers(
    body: &[u8],
    signature: Option<&str>,
    retry: Option<&str>,
) -> Vec<(&'static str, String)> {
    let event: Value = serde_json::from_slice(body).unwrap_or_default();
    let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let mut headers = vec![("Content-Type", CONTENT_TYPE.to_owned()), ("User-Agent", USER_AGENT.to_owned())];
    headers.push(("X-SuperOffice-Event", field("Event")));
    headers.push(("X-SuperOffice-EventId", field("EventId")));
    headers.retain(|(_, value)| !value.is_empty());
    if field("Event") == "test" {
        headers.push(("X-Hook-Test", "true".to_owned()));
    }
    headers.extend(retry.map(|retry| ("X-SuperOffice-Retry", retry.to_owned())));
    headers.extend(signature.map(|signature| ("X-SuperOffice-Signature", signature.to_owned())));
    headers
}

fn envelope(delivery: &Delivery, body: &[u8]) -> io::Result<Value> {
    let sign = |secret: &str| Secret::new(secret).map(|secret| secret.sign(body).to_string()).map_err(io::Error::other);
    let signature = match delivery.signed_by {
        SignedBy::Sample => Some(sign(SAMPLE_SECRET)?),
        SignedBy::SomebodyElse => Some(sign("a secret that nobody has configured")?),
        SignedBy::Nobody => None,
    };
    let mut headers = superoffice_headers(body, signature.as_deref(), delivery.retry);
    headers.extend([
        ("Content-Length", body.len().to_string()),
        ("Host", HOST.to_owned()),
        ("X-Amzn-Trace-Id", TRACE_ID.to_owned()),
        ("X-Forwarded-For", SOURCE_IP.to_owned()),
        ("X-Forwarded-Port", "443".to_owned()),
        ("X-Forwarded-Proto", "https".to_owned()),
    ]);
    let text = || String::from_utf8(body.to_vec()).map_err(io::Error::other);
    Ok(match delivery.form {
        Form::Http => http_api(&headers, &text()?, false),
        Form::HttpBase64 => http_api(&headers, &STANDARD.encode(body), true),
        Form::Rest => rest_api(&headers, &text()?),
    })
}

/// Payload 2.0: header names in lower case.
fn http_api(headers: &[(&str, String)], body: &str, is_base64_encoded: bool) -> Value {
    let headers: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str().into())).collect();
    json!({
        "version": "2.0",
        "routeKey": "POST /webhook",
        "rawPath": "/webhook",
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "domainName": HOST,
            "domainPrefix": "a1b2c3d4e5",
            "http": {
                "method": "POST",
                "path": "/webhook",
                "protocol": "HTTP/1.1",
                "sourceIp": SOURCE_IP,
                "userAgent": USER_AGENT,
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": "POST /webhook",
            "stage": "$default",
            "time": "16/Mar/2026:08:14:23 +0000",
            "timeEpoch": 1_773_648_863_204_u64,
        },
        "body": body,
        "isBase64Encoded": is_base64_encoded,
    })
}

/// Payload 1.0: header names as the sender spelt them, and every value a second time in a list.
fn rest_api(headers: &[(&str, String)], body: &str) -> Value {
    let single: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
    let multi: serde_json::Map<_, _> =
        headers.iter().map(|(name, value)| ((*name).to_owned(), json!([value]))).collect();
    json!({
        "resource": "/webhook",
        "path": "/webhook",
        "httpMethod": "POST",
        "headers": single,
        "multiValueHeaders": multi,
        "queryStringParameters": null,
        "multiValueQueryStringParameters": null,
        "pathParameters": null,
        "stageVariables": null,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "a1b2c3d4e5",
            "deploymentId": "k7x2pq",
            "domainName": HOST,
            "domainPrefix": "a1b2c3d4e5",
            "extendedRequestId": "JKJaXFPoPHcFm5g=",
            "httpMethod": "POST",
            "identity": {
                "accessKey": null,
                "accountId": null,
                "caller": null,
                "cognitoAuthenticationProvider": null,
                "cognitoAuthenticationType": null,
                "cognitoIdentityId": null,
                "cognitoIdentityPoolId": null,
                "principalOrgId": null,
                "sourceIp": SOURCE_IP,
                "user": null,
                "userAgent": USER_AGENT,
                "userArn": null,
            },
            "path": "/Prod/webhook",
            "protocol": "HTTP/1.1",
            "requestId": "5f0c7d3e-2f54-4f0a-8f3c-7f1f1d0b6a99",
            "requestTime": "17/Mar/2026:07:30:01 +0000",
            "requestTimeEpoch": 1_773_732_601_022_u64,
            "resourceId": "9q3hx2",
            "resourcePath": "/webhook",
            "stage": "Prod",
        },
        "body": body,
        "isBase64Encoded": false,
    })
}
