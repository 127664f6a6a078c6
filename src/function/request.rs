//! The HTTP request in an API Gateway event.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_http::http::{HeaderMap, Method};
use lambda_http::request::LambdaRequest;

/// The part of an HTTP request that the function uses.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, percent-encoded as received.
    pub path: String,
    /// All headers, including repeated ones.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// An invocation that contains no HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The payload is not an event of API Gateway.
    #[error("not an API Gateway event")]
    NotApiGateway,
    /// The body is marked as base64, but is not.
    #[error("request body is not base64")]
    NotBase64,
}

impl TryFrom<LambdaRequest> for Request {
    type Error = InvalidEvent;

    /// Uses the public fields only: `lambda_http`'s own conversion panics if it cannot build a URL or decode the body.
    fn try_from(event: LambdaRequest) -> Result<Self, InvalidEvent> {
        let (method, path, headers, body, is_base64) = match event {
            LambdaRequest::ApiGatewayV2(event) => {
                let method = event.request_context.http.method;
                (method, event.raw_path, event.headers, event.body, event.is_base64_encoded)
            }
            LambdaRequest::ApiGatewayV1(event) => {
                let headers = merge(event.multi_value_headers, event.headers);
                (event.http_method, event.path, headers, event.body, event.is_base64_encoded)
            }
            _ => return Err(InvalidEvent::NotApiGateway),
        };
        let body = body.unwrap_or_default();
        let body =
            if is_base64 { STANDARD.decode(body).map_err(|_| InvalidEvent::NotBase64)? } else { body.into_bytes() };
        Ok(Self { method, path: path.unwrap_or_default(), headers, body })
    }
}

/// Adds the headers that have no list of values. In the single-value map, a repeated header has only its last value.
fn merge(mut lists: HeaderMap, single_values: HeaderMap) -> HeaderMap {
    for (name, value) in &single_values {
        if !lists.contains_key(name) {
            lists.insert(name, value.clone());
        }
    }
    lists
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn request(event: Value) -> Result<Request, InvalidEvent> {
        Request::try_from(serde_json::from_value::<LambdaRequest>(event).unwrap())
    }

    fn http_api(body: Value, is_base64: bool) -> Value {
        json!({
            "version": "2.0", "routeKey": "$default", "rawPath": "\u{0}%zz", "rawQueryString": "\u{0}",
            "headers": {"host": "not a host", "x-a": "1"}, "body": body, "isBase64Encoded": is_base64,
            "requestContext": {"http": {"method": "POST", "path": "\u{0}"}, "domainName": "not a host"},
        })
    }

    #[test]
    fn http_api_event_is_converted_without_building_a_url() {
        let request = request(http_api(json!("b\u{e6}"), false)).unwrap();
        assert_eq!((request.method, request.headers["x-a"].as_bytes()), (Method::POST, &b"1"[..]));
        assert_eq!((request.path.as_str(), &*request.body), ("\u{0}%zz", "b\u{e6}".as_bytes()));
    }

    #[test]
    fn body_is_decoded_from_base64_or_empty() {
        assert_eq!(request(http_api(json!("//4="), true)).unwrap().body, b"\xff\xfe");
        assert_eq!(request(http_api(json!("//4"), true)).unwrap_err(), InvalidEvent::NotBase64);
        assert!(request(http_api(Value::Null, false)).unwrap().body.is_empty());
    }

    #[test]
    fn rest_api_event_keeps_all_values_of_a_header() {
        let request = request(json!({
            "httpMethod": "POST", "path": "/webhook/Cust1", "resource": "/webhook", "body": "b", "isBase64Encoded": false,
            "headers": {"X-A": "2", "X-B": "3"}, "multiValueHeaders": {"X-A": ["1", "2"]}, "requestContext": {"httpMethod": "POST", "identity": {}},
        }))
        .unwrap();
        let values =
            |name| request.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
        assert_eq!(request.path, "/webhook/Cust1");
        assert_eq!((values("x-a"), values("x-b")), (vec!["1", "2"], vec!["3"]));
    }
}
