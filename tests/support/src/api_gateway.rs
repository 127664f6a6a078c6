//! API Gateway events that contain a webhook request.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::{Map, Value, json};

const HOST: &str = "a1b2c3d4e5.execute-api.eu-north-1.amazonaws.com";
const SOURCE_IP: &str = "203.0.113.17";
const USER_AGENT: &str = "NetServer-Webhook/10.5";
const CONTENT_TYPE: &str = "application/json; charset=utf-8";
const TRACE_ID: &str = "Root=1-66f2a1b0-3f2a9c1d4e5b6a7980c1d2e3";
const SIGNATURE_HEADER: &str = "X-SuperOffice-Signature";

/// Returns the `X-SuperOffice-Signature` of a body.
///
/// Uses ring's HMAC, which shares no code with the function's.
pub fn sign(body: impl AsRef<[u8]>, secret: impl AsRef<[u8]>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
    STANDARD.encode(hmac::sign(&key, body.as_ref()))
}

/// A webhook request that API Gateway passes to a function.
///
/// Header names are spelled as SuperOffice spells them, and lower case in payload 2.0.
#[derive(Clone, Debug)]
pub struct WebhookRequest {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    base64: bool,
}

impl WebhookRequest {
    /// Creates a `POST` request without a signature. A body that is not UTF-8 is encoded as base64.
    pub fn unsigned(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let base64 = std::str::from_utf8(&body).is_err();
        Self { method: "POST".into(), path: "/webhook".into(), headers: Vec::new(), body, base64 }
            .header("Content-Type", CONTENT_TYPE)
            .header("User-Agent", USER_AGENT)
    }

    /// Creates a `POST` request with the signature of a secret.
    pub fn signed(body: impl Into<Vec<u8>>, secret: impl AsRef<[u8]>) -> Self {
        let request = Self::unsigned(body);
        let signature = sign(&request.body, secret);
        request.signature(signature)
    }

    /// Adds a header. A header can be repeated.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a signature header.
    #[must_use]
    pub fn signature(self, value: impl Into<String>) -> Self {
        self.header(SIGNATURE_HEADER, value)
    }

    /// Sets the method.
    #[must_use]
    pub fn method(mut self, method: impl Into<String>) -> Self {
        self.method = method.into();
        self
    }

    /// Sets the path.
    #[must_use]
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.path = path.into();
        self
    }

    /// Encodes the body as base64, as API Gateway does with a binary body.
    #[must_use]
    pub fn base64(mut self) -> Self {
        self.base64 = true;
        self
    }

    /// Returns the event in every form in which API Gateway passes the request, with the name of the form.
    pub fn all_forms(&self) -> Vec<(&'static str, Value)> {
        let base64 = self.clone().base64();
        let mut forms = vec![("2.0 base64", base64.http_api()), ("1.0 base64", base64.rest_api())];
        if !self.base64 {
            forms.extend([("2.0 text", self.http_api()), ("1.0 text", self.rest_api())]);
        }
        forms
    }

    /// Returns the event of an HTTP API or a function URL: payload 2.0. Repeated headers are joined by commas.
    pub fn http_api(&self) -> Value {
        let mut headers = Map::new();
        for (name, value) in self.all_headers() {
            let name = name.to_ascii_lowercase();
            let joined = match headers.get(&name).and_then(Value::as_str) {
                Some(first) => format!("{first},{value}"),
                None => value,
            };
            headers.insert(name, joined.into());
        }
        let route = format!("{} {}", self.method, self.path);
        json!({
            "version": "2.0",
            "routeKey": route,
            "rawPath": self.path,
            "rawQueryString": "",
            "headers": headers,
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "a1b2c3d4e5",
                "domainName": HOST,
                "domainPrefix": "a1b2c3d4e5",
                "http": {
                    "method": self.method,
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": SOURCE_IP,
                    "userAgent": USER_AGENT,
                },
                "requestId": "JKJaXmPLvHcESHA=",
                "routeKey": route,
                "stage": "$default",
                "time": "16/Mar/2026:08:14:23 +0000",
                "timeEpoch": 1_773_648_863_204_u64,
            },
            "body": self.event_body(),
            "isBase64Encoded": self.base64,
        })
    }

    /// Returns the event of a REST API: payload 1.0. `multiValueHeaders` contains every value of a repeated header,
    /// `headers` only the last.
    pub fn rest_api(&self) -> Value {
        let mut headers = Map::new();
        let mut multi_value_headers = Map::new();
        for (name, value) in self.all_headers() {
            if let Value::Array(values) = multi_value_headers.entry(name.clone()).or_insert_with(|| json!([])) {
                values.push(value.clone().into());
            }
            headers.insert(name, value.into());
        }
        json!({
            "resource": self.path,
            "path": self.path,
            "httpMethod": self.method,
            "headers": headers,
            "multiValueHeaders": multi_value_headers,
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
                "httpMethod": self.method,
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
                "path": format!("/Prod{}", self.path),
                "protocol": "HTTP/1.1",
                "requestId": "5f0c7d3e-2f54-4f0a-8f3c-7f1f1d0b6a99",
                "requestTime": "17/Mar/2026:07:30:01 +0000",
                "requestTimeEpoch": 1_773_732_601_022_u64,
                "resourceId": "9q3hx2",
                "resourcePath": self.path,
                "stage": "Prod",
            },
            "body": self.event_body(),
            "isBase64Encoded": self.base64,
        })
    }

    /// The request's own headers and those that the client library and API Gateway add.
    fn all_headers(&self) -> Vec<(String, String)> {
        let mut headers = self.headers.clone();
        for (name, value) in [
            ("Content-Length", self.body.len().to_string()),
            ("Host", HOST.to_owned()),
            ("X-Amzn-Trace-Id", TRACE_ID.to_owned()),
            ("X-Forwarded-For", SOURCE_IP.to_owned()),
            ("X-Forwarded-Port", "443".to_owned()),
            ("X-Forwarded-Proto", "https".to_owned()),
        ] {
            if !self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name)) {
                headers.push((name.to_owned(), value));
            }
        }
        headers
    }

    fn event_body(&self) -> String {
        match std::str::from_utf8(&self.body) {
            Ok(text) if !self.base64 => text.to_owned(),
            _ => STANDARD.encode(&self.body),
        }
    }
}
