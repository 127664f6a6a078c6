//! The same job in Rust, written as in the documentation of the SDK and of `lambda_http`.

use std::env;

use aws_config::BehaviorVersion;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageAttributeValue;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use lambda_http::{Body, Error, Request, Response, run, service_fn, tracing};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event: String,
    event_id: String,
    entity: String,
    primary_key: i64,
    context_identifier: String,
}

fn attribute(data_type: &str, value: impl Into<String>) -> Result<MessageAttributeValue, Error> {
    Ok(MessageAttributeValue::builder().data_type(data_type).string_value(value).build()?)
}

async fn handle(client: &Client, queue_url: &str, secret: &str, request: Request) -> Result<Response<Body>, Error> {
    let body: &[u8] = request.body();
    let signature = request.headers().get("x-superoffice-signature").map(|value| BASE64_STANDARD.decode(value));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())?;
    mac.update(body);
    match signature {
        Some(Ok(signature)) if mac.verify_slice(&signature).is_ok() => {}
        _ => return Ok(Response::builder().status(401).body(Body::Empty)?),
    }
    let event: Event = serde_json::from_slice(body)?;
    let sent = client
        .send_message()
        .queue_url(queue_url)
        .message_body(String::from_utf8(body.to_vec())?)
        .message_attributes("Event", attribute("String", event.event)?)
        .message_attributes("EventId", attribute("String", &event.event_id)?)
        .message_attributes("Entity", attribute("String", event.entity)?)
        .message_attributes("PrimaryKey", attribute("Number", event.primary_key.to_string())?)
        .message_attributes("ContextIdentifier", attribute("String", event.context_identifier)?)
        .send()
        .await?;
    let body = json!({ "outcome": "forwarded", "eventId": event.event_id, "messageId": sent.message_id() });
    Ok(Response::builder().header("content-type", "application/json").body(body.to_string().into())?)
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    tracing::init_default_subscriber();
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let client = &Client::new(&config);
    let queue_url = &env::var("QUEUE_URL")?;
    let secret = &env::var("SUPEROFFICE_WEBHOOK_SECRET")?;
    run(service_fn(|request| handle(client, queue_url, secret, request))).await
}
