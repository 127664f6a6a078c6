//! The HTTP request in a Lambda event.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lambda_http::http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The prefix of the headers that are read.
const HEADER_PREFIX: &str = "x-superoffice-";

/// The part of an HTTP request that the function uses.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, percent-encoded as received.
    pub path: String,
    /// SuperOffice's own headers, including repeated ones: the signature, and values for diagnosis.
    pub headers: HeaderMap,
    /// The body, byte for byte.
    pub body: Vec<u8>,
}

/// An invocation that contains no HTTP request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEvent {
    /// The payload has no HTTP method, or its body is not a string.
    #[error("not an API Gateway event")]
    NotApiGateway,
    /// The body is marked as base64, but is not base64.
    #[error("request body is not base64")]
    NotBase64,
}

/// A Lambda event. Only the fields of an HTTP request are decoded.
pub(crate) struct Event<'e>(Object<'e>);

impl<'e> Event<'e> {
    /// Reads the names of the fields. A payload other than a JSON object has none.
    pub(crate) fn new(payload: &'e RawValue) -> Self {
        Self(Object::new(Some(payload)))
    }

    /// Returns `true` if the event has payload version 1.0, as from a REST API.
    ///
    /// Only payload 1.0 has the method at the top level. The field `version` is optional in it. An exception is cargo
    /// lambda, whose events with payload 2.0 have an `httpMethod` that is always `GET`.
    pub(crate) fn is_payload_1(&self) -> bool {
        // No other field decides alone: a REST event with a field `version` of "2.0" has no method there.
        let is_payload_2 =
            || self.0.get("version").and_then(text).as_deref() == Some("2.0") && self.http_method().is_some();
        self.0.get("httpMethod").is_some() && !is_payload_2()
    }

    /// Returns the method in payload 2.0.
    fn http_method(&self) -> Option<String> {
        Object::new(Object::new(self.0.get("requestContext")).get("http")).get("method").and_then(text)
    }
}

impl TryFrom<Event<'_>> for Request {
    type Error = InvalidEvent;

    /// Reads a request from payload 1.0 or 2.0.
    fn try_from(event: Event<'_>) -> Result<Self, InvalidEvent> {
        let field = |name| event.0.get(name).and_then(text);
        let (method, path) = if event.is_payload_1() {
            (field("httpMethod"), field("path"))
        } else {
            (event.http_method(), field("rawPath"))
        };
        let Event(event) = event;
        let mut headers = headers(event.get("headers"));
        // In payload 1.0, `headers` has only the last value of a repeated header. `extend` replaces it by all values.
        headers.extend(self::headers(event.get("multiValueHeaders")));
        let body = match event.get("body") {
            None => String::new(),
            Some(body) => text(body).ok_or(InvalidEvent::NotApiGateway)?,
        };
        let is_base64 = event.get("isBase64Encoded").is_some_and(|flag| matches!(flag.get(), "true" | r#""true""#));
        Ok(Self {
            method: method.and_then(|method| method.parse().ok()).ok_or(InvalidEvent::NotApiGateway)?,
            path: path.unwrap_or_default(),
            headers,
            body: if is_base64 {
                STANDARD.decode(body).map_err(|_| InvalidEvent::NotBase64)?
            } else {
                body.into_bytes()
            },
        })
    }
}

/// Returns SuperOffice's headers in a JSON object. A value is a string, or a list of strings.
///
/// Omits each header whose name or value is not valid in HTTP.
fn headers(object: Option<&RawValue>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in Object::new(object).0 {
        let Some(Ok(name)) = text(name).map(HeaderName::try_from) else { continue };
        if !name.as_str().starts_with(HEADER_PREFIX) {
            continue;
        }
        let values = if value.get().starts_with('[') { serde_json::from_str(value.get()) } else { Ok(vec![value]) };
        for value in values.into_iter().flatten().filter_map(text).flat_map(HeaderValue::try_from) {
            headers.append(&name, value);
        }
    }
    headers
}

/// Returns the value of a JSON string, or `None` for every other JSON value and for a string that is not Unicode.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

/// The fields of a JSON object, with undecoded names and values.
struct Object<'e>(Vec<(&'e RawValue, &'e RawValue)>);

impl<'e> Object<'e> {
    /// Reads a JSON object. Every other JSON value counts as an empty object.
    fn new(value: Option<&'e RawValue>) -> Self {
        value.and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or(Self(Vec::new()))
    }

    /// Returns the value of a field, or `None` if it is missing or `null`.
    fn get(&self, name: &str) -> Option<&'e RawValue> {
        let is_named = |field: &RawValue| field.get().trim_matches('"') == name;
        let (_, value) = self.0.iter().find(|(field, _)| is_named(field))?;
        Some(*value).filter(|value| value.get() != "null")
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut fields = Vec::with_capacity(16);
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Object(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use serde_json::{Value, json};
    use test_support::WebhookRequest;

    use super::*;
    use crate::webhook::signature::SIGNATURE_HEADER;

    const SIGNATURE: &str = "c2lnbmF0dXJl";

    /// JSON of every kind. A [`Value`] cannot represent the last two.
    const VALUES: [&str; 15] = [
        "null",
        "true",
        "0",
        "-1.5",
        r#""""#,
        r#""A\u007fB""#,
        r#""1.0""#,
        r#""2.0""#,
        "[]",
        r#"[null, 1, "a"]"#,
        "{}",
        r#"{"http": {"method": "GET"}}"#,
        r#"{"": [{}]}"#,
        "1e999",
        r#""\ud800""#,
    ];

    fn read(event: &str) -> Result<Request, InvalidEvent> {
        Request::try_from(Event::new(serde_json::from_str(event).unwrap()))
    }

    /// Returns the signatures of a request.
    fn signatures(event: &str) -> Vec<String> {
        let headers = read(event).unwrap().headers;
        headers.get_all(SIGNATURE_HEADER).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
    }

    fn signed_request() -> WebhookRequest {
        WebhookRequest::unsigned("{\"\u{e6}\":1}").signature(SIGNATURE).path("/%zz/\0")
    }

    fn expected_request() -> Request {
        let mut headers = HeaderMap::new();
        headers.insert(SIGNATURE_HEADER, HeaderValue::from_static(SIGNATURE));
        Request { method: Method::POST, path: "/%zz/\0".into(), headers, body: "{\"\u{e6}\":1}".into() }
    }

    /// Returns the events of a request in every payload form and of every service, and whether the payload is 1.0.
    fn events() -> Vec<(Value, bool)> {
        let request = signed_request();
        let forms = request.all_forms().into_iter();
        let mut events: Vec<_> = forms.map(|(form, event)| (event, form.starts_with('1'))).collect();
        let mut function_url = request.http_api();
        function_url["cookies"] = json!(["a=b"]);
        function_url["queryStringParameters"] = json!({"a": "b"});
        function_url["requestContext"]["authorizer"] = json!({"iam": {"userId": "a"}});
        events.push((function_url, false));
        let mut http_api = request.rest_api();
        http_api["version"] = json!("1.0");
        http_api["requestContext"]["authorizer"] = json!({"claims": null, "scopes": null});
        events.push((http_api, true));
        events
    }

    /// Returns the paths of all values in an event that the request does not consist of.
    fn other_fields(event: &Value) -> Vec<String> {
        fn collect(value: &Value, path: String, paths: &mut Vec<String>) {
            let own = ["/rawPath", "/path", "/httpMethod", "/requestContext/http/method", "/body", "/isBase64Encoded"];
            if own.contains(&path.as_str()) || path.to_lowercase().contains("/x-superoffice-") {
                return;
            }
            let contains_own = ["", "/headers", "/multiValueHeaders", "/requestContext/http"].contains(&path.as_str())
                || path == "/requestContext" && value.get("http").is_some();
            if !contains_own {
                paths.push(path.clone());
            }
            for (name, value) in value.as_object().into_iter().flatten() {
                collect(value, format!("{path}/{name}"), paths);
            }
            for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                collect(value, format!("{path}/{index}"), paths);
            }
        }
        let mut paths = Vec::new();
        collect(event, String::new(), &mut paths);
        paths
    }

    #[test]
    fn other_field_of_any_type_does_not_change_the_request() {
        for (event, is_payload_1) in events() {
            assert_eq!(read(&event.to_string()), Ok(expected_request()), "{event}");
            let paths = other_fields(&event);
            assert!(paths.len() > 20, "{paths:?}");
            for path in paths {
                let mut changed = event.clone();
                *changed.pointer_mut(&path).unwrap() = json!("another value");
                for value in VALUES {
                    let changed = changed.to_string().replace(r#""another value""#, value);
                    assert_eq!(read(&changed), Ok(expected_request()), "{path}: {value}");
                    let payload: &RawValue = serde_json::from_str(&changed).unwrap();
                    assert_eq!(Event::new(payload).is_payload_1(), is_payload_1, "{path}: {value}");
                }
            }
        }
    }

    #[test]
    fn field_of_the_other_payload_version_does_not_change_the_request() {
        for (event, is_payload_1) in events() {
            for name in if is_payload_1 { ["version", "rawPath"] } else { ["httpMethod", "path"] } {
                for value in VALUES {
                    let mut changed = event.clone();
                    changed[name] = json!("another value");
                    let changed = changed.to_string().replace(r#""another value""#, value);
                    assert_eq!(read(&changed), Ok(expected_request()), "{name}: {value}");
                }
            }
        }
    }

    #[test]
    fn method_of_an_event_from_cargo_lambda_is_that_of_the_request() {
        let mut event = signed_request().http_api();
        event["httpMethod"] = json!("GET");
        assert_eq!(read(&event.to_string()), Ok(expected_request()));
    }

    fn any_json() -> impl Strategy<Value = String> {
        let leaf =
            prop_oneof![prop::sample::select(VALUES.to_vec()).prop_map(str::to_owned), any::<String>().prop_map(quote)];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|values| format!("[{}]", values.join(","))),
                prop::collection::vec((any_name(), inner), 0..4).prop_map(|fields| object(&fields)),
            ]
        })
    }

    fn any_name() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>().prop_map(quote), Just(r#""\udfff""#.to_owned()), Just(r#""x-\u00e9""#.to_owned())]
    }

    fn quote(text: impl AsRef<str>) -> String {
        Value::from(text.as_ref()).to_string()
    }

    fn object(fields: &[(String, String)]) -> String {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }

    proptest! {
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(20_180_424), failure_persistence: None, ..Default::default() })]

        #[test]
        fn any_other_headers_do_not_change_the_request(
            mut single in prop::collection::vec((any_name(), any_json()), 0..6),
            mut lists in prop::collection::vec((any_name(), any_json()), 0..6),
        ) {
            single.insert(single.len() / 2, (quote("X-SuperOffice-Signature"), quote(SIGNATURE)));
            lists.insert(lists.len() / 2, (quote("x-superoffice-SIGNATURE"), format!("[{}]", quote(SIGNATURE))));
            let payload = |mut event: Value, headers: &[(String, String)], lists: &[(String, String)]| {
                event["headers"] = json!("the headers");
                event["multiValueHeaders"] = json!("the lists");
                event.to_string().replace(r#""the headers""#, &object(headers)).replace(r#""the lists""#, &object(lists))
            };
            let (http_api, rest_api) = (signed_request().http_api(), signed_request().rest_api());
            prop_assert_eq!(read(&payload(http_api, &single, &[])), Ok(expected_request()));
            prop_assert_eq!(read(&payload(rest_api, &single, &lists)), Ok(expected_request()));
        }
    }

    #[test]
    fn signature_is_read_once_for_each_time_it_was_sent() {
        let event = |headers: &str, lists: &str| {
            format!(r#"{{"httpMethod":"POST","headers":{headers},"multiValueHeaders":{lists}}}"#)
        };
        let name = "X-SuperOffice-Signature";
        for (headers, lists, expected) in [
            (r#"{"N":"a"}"#, "null", vec!["a"]),
            (r#"{"N":"a"}"#, "{}", vec!["a"]),
            (r#"{"N":"a"}"#, r#"["N","a"]"#, vec!["a"]),
            ("null", r#"{"N":["a"]}"#, vec!["a"]),
            (r#"[["N","a"]]"#, r#"{"N":["a"]}"#, vec!["a"]),
            (r#"{"N":"b"}"#, r#"{"N":["a","b"]}"#, vec!["a", "b"]),
            (r#"{"N":"a","N":"b"}"#, "null", vec!["a", "b"]),
            (r#"{"N":"a","x-superoffice-signature":"b"}"#, "null", vec!["a", "b"]),
            ("null", r#"{"N":["a"],"x-SUPEROFFICE-signature":["b"]}"#, vec!["a", "b"]),
            (r#"{"N":["a","b"]}"#, "null", vec!["a", "b"]),
            ("null", r#"{"N":"a"}"#, vec!["a"]),
            // A value that is not valid in HTTP counts as absent.
            (r#"{"N":"a"}"#, r#"{"N":[null,7,["b"],"\u0000","\ud800"]}"#, vec!["a"]),
            ("null", r#"{"N":["a",null]}"#, vec!["a"]),
            (r#"{"N":null}"#, "null", vec![]),
            (r#"{"N":7}"#, "null", vec![]),
            (r#"{"N":"a\r\nb"}"#, "null", vec![]),
            (r#"{"N ":"a","\ud800":"a","N\u00e9":"a"}"#, "null", vec![]),
            ("\"N\"", "7", vec![]),
        ] {
            let event = event(headers, lists).replace('N', name);
            assert_eq!(signatures(&event), expected, "{event}");
        }
    }

    #[test]
    fn body_is_decoded_if_it_is_base64() {
        for (fields, expected) in [
            (r#""body":"e30=","isBase64Encoded":true"#, Ok("{}")),
            (r#""body":"e30=","isBase64Encoded":"true""#, Ok("{}")),
            (r#""body":"e30=","isBase64Encoded":false"#, Ok("e30=")),
            (r#""body":"e30=","isBase64Encoded":"false""#, Ok("e30=")),
            (r#""body":"e30=","isBase64Encoded":null"#, Ok("e30=")),
            (r#""body":"e30=","isBase64Encoded":1"#, Ok("e30=")),
            (r#""body":"e30=""#, Ok("e30=")),
            (r#""body":null,"isBase64Encoded":true"#, Ok("")),
            ("\"isBase64Encoded\":false", Ok("")),
            (r#""body":"e30","isBase64Encoded":true"#, Err(InvalidEvent::NotBase64)),
            (r#""body":{},"isBase64Encoded":false"#, Err(InvalidEvent::NotApiGateway)),
            (r#""body":7"#, Err(InvalidEvent::NotApiGateway)),
            (r#""body":"\ud800""#, Err(InvalidEvent::NotApiGateway)),
        ] {
            let event = format!(r#"{{"requestContext":{{"http":{{"method":"POST"}}}},{fields}}}"#);
            assert_eq!(read(&event).map(|request| request.body), expected.map(|body| body.into()), "{event}");
        }
    }

    #[test]
    fn method_is_case_sensitive_and_required() {
        for (event, expected) in [
            (r#"{"httpMethod":"POST","requestContext":{"http":{"method":"GET"}}}"#, Some("POST")),
            (r#"{"httpMethod":"post"}"#, Some("post")),
            (r#"{"requestContext":{"elb":{}},"httpMethod":"POST"}"#, Some("POST")),
            (r#"{"httpMethod":null,"requestContext":{"http":{"method":"PUT"}}}"#, Some("PUT")),
            (r#"{"httpMethod":7}"#, None),
            (r#"{"httpMethod":""}"#, None),
            (r#"{"requestContext":{"http":["POST"]}}"#, None),
            (r#"{"requestContext":{"eventType":"MESSAGE"}}"#, None),
            ("{}", None),
            (r#"["POST"]"#, None),
            ("\"POST\"", None),
            ("null", None),
        ] {
            let method = read(event).map(|request| request.method.to_string());
            assert_eq!(method, expected.map(str::to_owned).ok_or(InvalidEvent::NotApiGateway), "{event}");
        }
    }
}
