//! API Gateway's envelopes, payload 2.0 and 1.0: from invocation to request, and from response to answer.
//!
//! Whatever happens in between, the caller has an answer and the log has its line: `lambda_http` panics on a body that
//! is marked as base64 and is not, and no panic may end the process or leave the sender without a 500.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures_util::FutureExt;
use lambda_http::aws_lambda_events::apigw::{ApiGatewayProxyResponse, ApiGatewayV2httpResponse};
use lambda_http::aws_lambda_events::query_map::QueryMap;
use lambda_http::http::header::HOST;
use lambda_http::request::LambdaRequest;
use lambda_http::{Body, Request, Response};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::queue::Queue;
use crate::receiver::{Facts, ReceiveError, Receiver};
use crate::response::response;
use crate::telemetry::{self, Claims, Invocation};

/// Answers invocations.
#[derive(Debug)]
pub struct Gateway<Q> {
    receiver: Receiver<Q>,
    started: AtomicBool,
}

impl<Q: Queue> Gateway<Q> {
    /// Puts a receiver behind API Gateway.
    pub fn new(receiver: Receiver<Q>) -> Arc<Self> {
        Arc::new(Self { receiver, started: AtomicBool::new(false) })
    }

    /// Answers one invocation, and writes its line.
    ///
    /// # Errors
    ///
    /// None: every request has an answer.
    pub async fn invoke(self: Arc<Self>, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Infallible> {
        let (answer, line) = self.answer(event).await;
        telemetry::write(line);
        Ok(answer)
    }

    /// The answer to one invocation, and its line.
    pub async fn answer(&self, event: LambdaEvent<Box<RawValue>>) -> (Answer, String) {
        let LambdaEvent { payload, context } = event;
        let trace_header = context.xray_trace_id.as_deref().filter(|header| !header.is_empty());
        let mut facts = Facts::default();
        let mut claims = Claims::default();
        let envelope = serde_json::from_str::<LambdaRequest>(payload.get()).ok();
        drop(payload);
        let to_rest = matches!(envelope, Some(LambdaRequest::ApiGatewayV1(_)));
        let result = match envelope.map(|envelope| std::panic::catch_unwind(|| request(envelope))) {
            Some(Ok(request)) => {
                claims = Claims::of(request.headers());
                AssertUnwindSafe(self.receiver.receive(request, trace_header, &mut facts))
                    .catch_unwind()
                    .await
                    .unwrap_or(Err(ReceiveError::Unforeseen("panic")))
            }
            Some(Err(_)) => Err(ReceiveError::Unforeseen("unreadable event of API Gateway")),
            None => Err(ReceiveError::Unforeseen("not an event of API Gateway")),
        };
        let response = response(&result);
        let invocation = Invocation {
            function_name: &context.env_config.function_name,
            request_id: &context.request_id,
            trace_header,
            cold_start: !self.started.swap(true, Ordering::Relaxed),
            now: SystemTime::now(),
        };
        let line = telemetry::line(&result, response.status().as_u16(), &facts, &claims, &invocation);
        if facts.head.as_ref().is_some_and(|head| head.says_webhook_disabled()) {
            tracing::error!(
                request_id = context.request_id,
                "SuperOffice has disabled the webhook: no event comes until it is set active again"
            );
        }
        (Answer::new(response, to_rest), line)
    }
}

/// The request in an envelope. Panics where `lambda_http` does, on a body that is marked as base64 and is not.
fn request(mut envelope: LambdaRequest) -> Request {
    // Path, query and host decide nothing here, and lambda_http panics when it cannot make a URL of them.
    match &mut envelope {
        LambdaRequest::ApiGatewayV1(rest) => {
            rest.path = None;
            rest.query_string_parameters = QueryMap::default();
            rest.multi_value_query_string_parameters = QueryMap::default();
            rest.request_context.domain_name = None;
            // Of a repeated header, the single-value map has the last value, and lambda_http would let it stand alone.
            for name in rest.multi_value_headers.keys().chain([&HOST]) {
                rest.headers.remove(name);
            }
            rest.multi_value_headers.remove(HOST);
        }
        LambdaRequest::ApiGatewayV2(http) => {
            http.raw_path = None;
            http.raw_query_string = None;
            http.query_string_parameters = QueryMap::default();
            http.request_context.domain_name = None;
            http.headers.remove(HOST);
        }
        _ => {}
    }
    envelope.into()
}

/// What API Gateway takes as an answer, by the version of its payload.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// Payload 2.0: HTTP APIs and function URLs.
    Http(ApiGatewayV2httpResponse),
    /// Payload 1.0: REST APIs.
    Rest(ApiGatewayProxyResponse),
}

impl Answer {
    fn new(response: Response<Body>, to_rest: bool) -> Self {
        let (parts, body) = response.into_parts();
        let status = i64::from(parts.status.as_u16());
        if to_rest {
            let mut answer = ApiGatewayProxyResponse::default();
            (answer.status_code, answer.headers, answer.body) = (status, parts.headers, Some(body));
            Self::Rest(answer)
        } else {
            let mut answer = ApiGatewayV2httpResponse::default();
            (answer.status_code, answer.headers, answer.body) = (status, parts.headers, Some(body));
            Self::Http(answer)
        }
    }
}
