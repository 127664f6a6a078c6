//! Lambda invocations: reads the request from the event, and returns the response in the form that API Gateway expects.
//!
//! Every invocation has a response and a log line.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::FutureExt;
use lambda_http::Body;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use lambda_http::http::Response;
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::function::handler::Handler;
use crate::function::outcome::{DeliveryRecord, HandleError};
use crate::function::queue::Queue;
use crate::function::request::{Event, Request};
use crate::function::response::response;
use crate::function::telemetry::{self, Invocation, UnverifiedHeaders};
use crate::log_line;

/// Connects a [`Handler`] to Lambda.
#[derive(Debug)]
pub struct LambdaAdapter<Q> {
    handler: Handler<Q>,
    started: AtomicBool,
}

impl<Q: Queue> LambdaAdapter<Q> {
    /// Creates an adapter for a handler.
    pub fn new(handler: Handler<Q>) -> Arc<Self> {
        Arc::new(Self { handler, started: AtomicBool::new(false) })
    }

    /// Responds to one invocation, and writes its log line to standard output.
    ///
    /// # Errors
    ///
    /// None: every invocation has a response.
    pub async fn invoke(self: Arc<Self>, event: LambdaEvent<Box<RawValue>>) -> Result<ApiGatewayResponse, Infallible> {
        let (response, line) = self.respond(event).await;
        log_line::write(line);
        Ok(response)
    }

    /// Returns the response to one invocation, and its log line.
    pub async fn respond(&self, event: LambdaEvent<Box<RawValue>>) -> (ApiGatewayResponse, String) {
        let LambdaEvent { payload, context } = event;
        let trace_header = context.xray_trace_id.as_deref().filter(|header| !header.is_empty());
        let event = Event::new(&payload);
        let is_payload_1 = event.is_payload_1();

        let mut record = DeliveryRecord::default();
        let mut headers = UnverifiedHeaders::default();
        // A panic must neither end the process nor leave the sender without a response.
        let result = AssertUnwindSafe(async {
            let request = Request::try_from(event)?;
            headers = UnverifiedHeaders::from_headers(&request.headers);
            self.handler.handle(request, trace_header, &mut record).await
        });
        let result = result.catch_unwind().await.unwrap_or(Err(HandleError::Panic));

        let response = response(&result);
        let invocation = Invocation {
            function_name: &context.env_config.function_name,
            request_id: &context.request_id,
            trace_header,
            cold_start: !self.started.swap(true, Ordering::Relaxed),
            now: SystemTime::now(),
        };
        let line = telemetry::line(&result, response.status().as_u16(), &record, &headers, &invocation);
        if record.metadata.as_ref().is_some_and(|metadata| metadata.is_webhook_disabled()) {
            tracing::error!(
                request_id = context.request_id,
                "SuperOffice disabled or stopped the webhook; no events will arrive until it is active again"
            );
        }
        (ApiGatewayResponse::new(response, is_payload_1), line)
    }
}

/// A response in the form that API Gateway expects, by payload version.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ApiGatewayResponse {
    /// Payload 2.0: HTTP APIs and function URLs.
    V2(ApiGatewayV2httpResponse),
    /// Payload 1.0: REST APIs.
    V1(ApiGatewayProxyResponse),
}

impl ApiGatewayResponse {
    fn new(response: Response<String>, is_payload_1: bool) -> Self {
        let (parts, body) = response.into_parts();
        let (status, body) = (i64::from(parts.status.as_u16()), Some(Body::Text(body)));
        if is_payload_1 {
            let mut response = ApiGatewayProxyResponse::default();
            (response.status_code, response.headers, response.body) = (status, parts.headers, body);
            Self::V1(response)
        } else {
            let mut response = ApiGatewayV2httpResponse::default();
            (response.status_code, response.headers, response.body) = (status, parts.headers, body);
            Self::V2(response)
        }
    }
}
