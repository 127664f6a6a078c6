//! What API Gateway hands to a function: a webhook request, signed for real, in payload format 2.0 or 1.0.

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value, json};
use sha2::Sha256;

/// The value of `X-SuperOffice-Signature` for a body.
pub fn sign(body: &[u8], secret: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
    mac.update(body);
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// A request on its way through API Gateway.
#[derive(Clone, Debug)]
pub struct Envelope {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    base64: bool,
}

impl Envelope {
    /// A `POST` as SuperOffice sends it, without a signature.
    pub fn unsigned(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let base64 = std::str::from_utf8(&body).is_err();
        let headers = vec![
            ("content-type".into(), "application/json; charset=utf-8".into()),
            ("user-agent".into(), "NetServer-Webhook/10.3".into()),
        ];
        Self { method: "POST".into(), path: "/superoffice".into(), headers, body, base64 }
    }

    /// A `POST` as SuperOffice sends it, with the signature of `secret`.
    pub fn signed(body: impl Into<Vec<u8>>, secret: &str) -> Self {
        let envelope = Self::unsigned(body);
        let signature = sign(&envelope.body, secret);
        envelope.header("x-superoffice-signature", signature)
    }

    /// With one header more; a header can be repeated.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With another method.
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// With another path.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// With the body as base64, as API Gateway does with a binary one; a body that is not UTF-8 is sent so anyway.
    pub fn base64(mut self) -> Self {
        self.base64 = true;
        self
    }

    fn body(&self) -> String {
        match String::from_utf8(self.body.clone()) {
            Ok(text) if !self.base64 => text,
            _ => BASE64_STANDARD.encode(&self.body),
        }
    }

    /// Payload format 2.0: HTTP APIs and function URLs. Repeated headers are joined by commas.
    pub fn v2(&self) -> String {
        let mut headers = Map::new();
        for (name, value) in &self.headers {
            let name = name.to_lowercase();
            let joined = match headers.get(&name).and_then(Value::as_str) {
                Some(first) => format!("{first},{value}"),
                None => value.clone(),
            };
            headers.insert(name, joined.into());
        }
        json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": self.path,
            "rawQueryString": "",
            "headers": headers,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "domainName": "api.execute-api.eu-north-1.amazonaws.com",
                "domainPrefix": "api",
                "http": {
                    "method": self.method,
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": "192.0.2.1",
                    "userAgent": "NetServer-Webhook/10.3"
                },
                "requestId": "gateway-request",
                "routeKey": "$default",
                "stage": "$default",
                "time": "16/Sep/2025:12:22:14 +0000",
                "timeEpoch": 1_758_025_334_000_u64
            },
            "body": self.body(),
            "isBase64Encoded": self.base64
        })
        .to_string()
    }

    /// Payload format 1.0: REST APIs. Repeated headers are in `multiValueHeaders`.
    pub fn v1(&self) -> String {
        let mut headers = Map::new();
        let mut all = Map::new();
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone().into());
            if let Value::Array(values) = all.entry(name.clone()).or_insert_with(|| json!([])) {
                values.push(value.clone().into());
            }
        }
        json!({
            "resource": "/{proxy+}",
            "path": self.path,
            "httpMethod": self.method,
            "headers": headers,
            "multiValueHeaders": all,
            "queryStringParameters": null,
            "multiValueQueryStringParameters": null,
            "pathParameters": null,
            "stageVariables": null,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "api",
                "domainName": "api.execute-api.eu-north-1.amazonaws.com",
                "domainPrefix": "api",
                "extendedRequestId": "extended",
                "httpMethod": self.method,
                "identity": { "sourceIp": "192.0.2.1", "userAgent": "NetServer-Webhook/10.3" },
                "path": self.path,
                "protocol": "HTTP/1.1",
                "requestId": "gateway-request",
                "requestTime": "16/Sep/2025:12:22:14 +0000",
                "requestTimeEpoch": 1_758_025_334_000_u64,
                "resourceId": "resource",
                "resourcePath": "/{proxy+}",
                "stage": "prod"
            },
            "body": self.body(),
            "isBase64Encoded": self.base64
        })
        .to_string()
    }
}
