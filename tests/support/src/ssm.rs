//! SSM Parameter Store (AWS JSON 1.1): `GetParametersByPath` and `GetParameter`, with values that cannot be decrypted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::http::Server;
use crate::lock;

/// The page size of Parameter Store.
const PAGE: usize = 10;

/// An error of AWS: the code, and the message.
pub type Refusal = (&'static str, &'static str);

/// The error for a key that is disabled or does not exist.
pub const INVALID_KEY: Refusal = ("InvalidKeyId", "arn:aws:kms:eu-north-1:123456789012:key/1 is disabled.");
/// The error for a key that the caller may not use.
pub const KEY_DENIED: Refusal = (
    "AccessDeniedException",
    "The ciphertext refers to a customer master key that does not exist, does not exist in this region, or you are not \
     allowed to access.",
);

struct Parameter {
    kind: &'static str,
    value: String,
    /// The reason why the value cannot be decrypted.
    locked: Option<Refusal>,
}

#[derive(Default)]
struct State {
    parameters: BTreeMap<String, Parameter>,
    calls: Vec<String>,
    /// The number of calls until every call fails, and the error.
    failing: Option<(usize, Refusal)>,
    /// A token is only valid for pages that are decrypted as its own page was.
    binds_tokens: bool,
}

/// A running Parameter Store. Unlike other emulators, it refuses a page with a value that cannot be decrypted.
pub struct ParameterStore {
    state: Arc<Mutex<State>>,
    server: Server,
}

/// The fields of both calls.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    #[serde(alias = "Path")]
    name: String,
    #[serde(default)]
    with_decryption: bool,
    max_results: Option<usize>,
    next_token: Option<String>,
}

impl ParameterStore {
    /// Starts an empty store.
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let handler = move |_, request: Request<Incoming>| {
            let state = Arc::clone(&shared);
            async move {
                let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
                let target = target.and_then(|target| target.strip_prefix("AmazonSSM.")).unwrap_or_default().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let input: Input = serde_json::from_slice(&body).unwrap();
                Ok(response(lock(&state).call(&target, input)))
            }
            .boxed()
        };
        Self { state, server: Server::start(None, Arc::new(handler)).await }
    }

    /// The endpoint: `AWS_ENDPOINT_URL_SSM`.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Writes a `SecureString`.
    pub fn put(&self, name: &str, value: impl ToString) {
        self.insert(name, Parameter { kind: "SecureString", value: value.to_string(), locked: None });
    }

    /// Writes a `String`.
    pub fn put_plain(&self, name: &str, value: impl ToString) {
        self.insert(name, Parameter { kind: "String", value: value.to_string(), locked: None });
    }

    fn insert(&self, name: &str, parameter: Parameter) {
        lock(&self.state).parameters.insert(name.to_owned(), parameter);
    }

    /// Makes a value impossible to decrypt.
    pub fn lock(&self, name: &str, refusal: Refusal) {
        lock(&self.state).parameters.get_mut(name).unwrap().locked = Some(refusal);
    }

    /// Deletes a parameter.
    pub fn delete(&self, name: &str) {
        lock(&self.state).parameters.remove(name).unwrap();
    }

    /// Makes every call fail after a number of further calls.
    pub fn fail_after(&self, calls: usize, refusal: Refusal) {
        lock(&self.state).failing = Some((calls, refusal));
    }

    /// Ends the effect of [`fail_after`](Self::fail_after).
    pub fn succeed(&self) {
        lock(&self.state).failing = None;
    }

    /// Rejects a token of a decrypted page for a page that is not decrypted, and the reverse.
    pub fn bind_tokens(&self) {
        lock(&self.state).binds_tokens = true;
    }

    /// Returns the calls since the last use of this method: the action, and the name or path.
    pub fn take_calls(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.state).calls)
    }
}

impl State {
    fn call(&mut self, target: &str, input: Input) -> Result<Value, Refusal> {
        self.calls.push(format!("{target} {}", input.name));
        match &mut self.failing {
            Some((0, refusal)) => return Err(*refusal),
            Some((calls, _)) => *calls -= 1,
            None => {}
        }
        match target {
            "GetParameter" => {
                let (name, parameter) =
                    self.parameters.get_key_value(&input.name).ok_or(("ParameterNotFound", "not found"))?;
                Ok(json!({ "Parameter": output(name, parameter, input.with_decryption)? }))
            }
            "GetParametersByPath" => self.page(&input),
            _ => Err(("UnknownOperationException", "unknown")),
        }
    }

    fn page(&self, input: &Input) -> Result<Value, Refusal> {
        let mode = if self.binds_tokens { input.with_decryption } else { false };
        let start = match &input.next_token {
            None => 0,
            Some(token) => {
                let start =
                    token.strip_prefix(&format!("{mode}/")).ok_or(("InvalidNextToken", "the token is not valid"))?;
                start.parse().unwrap()
            }
        };
        let below = format!("{}/", input.name);
        let is_below = |name: &&String| name.strip_prefix(&below).is_some_and(|rest| !rest.contains('/'));
        let names: Vec<_> = self.parameters.keys().filter(is_below).collect();
        let end = names.len().min(start + input.max_results.unwrap_or(PAGE).min(PAGE));
        let page = names[start..end].iter().map(|name| output(name, &self.parameters[*name], input.with_decryption));
        let page = page.collect::<Result<Vec<_>, _>>()?;
        let next = (end < names.len()).then(|| format!("{mode}/{end}"));
        Ok(json!({"Parameters": page, "NextToken": next}))
    }
}

fn output(name: &str, parameter: &Parameter, decrypt: bool) -> Result<Value, Refusal> {
    let value = match parameter.locked {
        Some(refusal) if decrypt => return Err(refusal),
        _ if decrypt || parameter.kind == "String" => parameter.value.as_str(),
        _ => "AQICAHh-ciphertext",
    };
    Ok(json!({"Name": name, "Type": parameter.kind, "Value": value, "Version": 1, "DataType": "text"}))
}

fn response(result: Result<Value, Refusal>) -> Response<Full<Bytes>> {
    let (status, body) = match result {
        Ok(body) => (200, body),
        Err((code, message)) => (400, json!({"__type": code, "message": message})),
    };
    Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1")
        .body(Full::new(body.to_string().into()))
        .unwrap()
}
