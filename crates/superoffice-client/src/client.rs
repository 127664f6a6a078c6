//! The HTTP client for SuperOffice's REST API: base URL, authentication, timeouts and retries.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, AUTHORIZATION, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use crate::auth::{Credentials, TicketError, basic, read_ticket};
use crate::sensitive::{Sensitive, redact};
use crate::settings::{Connection, without_api_path};

/// The header that accompanies a system user's ticket.
const APP_TOKEN: HeaderName = HeaderName::from_static("so-apptoken");
/// Makes SuperOffice read and write times in UTC.
const TIME_ZONE: HeaderName = HeaderName::from_static("so-timezone");
/// A ticket lives for 6 hours and is renewed before that.
const TICKET_LIFETIME: SignedDuration = SignedDuration::from_mins(330);
/// The longest part of an error response that is shown, in characters.
const MAX_SHOWN: usize = 1000;

/// The limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The time to connect.
    pub connect: Duration,
    /// The time for one attempt.
    pub attempt: Duration,
    /// The number of attempts.
    pub attempts: u32,
    /// The wait before the second attempt; it doubles for each further attempt.
    pub first_wait: Duration,
    /// The longest wait that a `Retry-After` header may ask for.
    pub longest_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(60),
            attempts: 4,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
        }
    }
}

/// A clock, so that tests can choose the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The outcome of a failed call. No message contains a credential.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// No connection, or a broken connection.
    #[error("{call}: {host} is unreachable: {reason}")]
    Unreachable {
        /// The method and path.
        call: String,
        /// The host.
        host: String,
        /// The reason.
        reason: String,
    },
    /// No response in time.
    #[error("{call}: no response within {seconds} s")]
    Timeout {
        /// The method and path.
        call: String,
        /// The limit.
        seconds: u64,
    },
    /// 401.
    #[error("{call}: the credentials are invalid or expired (401)")]
    Unauthorized {
        /// The method and path.
        call: String,
    },
    /// 403.
    #[error(
        "{call}: access denied (403). An Online app must be granted the webhook API when it is registered, and the user \
         must be allowed to make this call{message}"
    )]
    Forbidden {
        /// The method and path.
        call: String,
        /// The response.
        message: String,
    },
    /// 421.
    #[error("{call}: wrong host for this tenant (421). Set SUPEROFFICE_TENANT to look the host up")]
    WrongHost {
        /// The method and path.
        call: String,
    },
    /// 429 or 503 in every attempt, or a `Retry-After` that is too long.
    #[error("{call}: throttled or unavailable ({status}){message}")]
    Unavailable {
        /// The method and path.
        call: String,
        /// The status.
        status: u16,
        /// The response.
        message: String,
    },
    /// Any other status that is not a success.
    #[error("{call}: status {status}{message}")]
    Status {
        /// The method and path.
        call: String,
        /// The status.
        status: u16,
        /// The response.
        message: String,
    },
    /// A success whose body is not as documented.
    #[error("{call}: unexpected response: {problem}")]
    Unexpected {
        /// The method and path.
        call: String,
        /// The problem.
        problem: String,
    },
    /// A webhook was changed since it was read, so it was left alone.
    #[error("{call}: the webhook was changed in the meantime")]
    Changed {
        /// The method and path.
        call: String,
    },
    /// The system user did not get a ticket.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The environment knows no base URL for the tenant.
    #[error("the tenant {tenant} has no usable base URL at {url}")]
    NoBaseUrl {
        /// The tenant.
        tenant: String,
        /// The URL that was asked.
        url: String,
    },
    /// The client could not be set up.
    #[error("the HTTP client cannot be used: {0}")]
    Client(String),
}

impl ApiError {
    /// Returns the status, unless it has a variant of its own that implies it.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Unavailable { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Returns `true` if the error concerns this call only, so that the next call may succeed.
    pub fn is_specific(&self) -> bool {
        matches!(self, Self::Status { .. } | Self::Unexpected { .. } | Self::Changed { .. })
    }

    /// Returns `true` if SuperOffice has refused the call, so that it had no effect.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status: 400..=499, .. } | Self::Changed { .. })
    }
}

/// The condition for another attempt after a failed one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Repeat {
    /// The call has the same effect once and twice.
    Always,
    /// Only if SuperOffice cannot have acted on the failed attempt.
    IfNotProcessed,
}

/// A call of the REST API.
struct Call<'a> {
    method: Method,
    path: &'a str,
    query: &'a [(&'a str, String)],
    body: Option<&'a Value>,
    repeat: Repeat,
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A tenant's state, as its environment states it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct TenantState {
    /// The base URL of the API.
    pub api: Option<String>,
    /// `true` unless the tenant is stopped, for example while it is upgraded.
    pub is_running: Option<bool>,
    /// The name of the state, `Running`.
    pub state: Option<String>,
}

struct Ticket {
    value: Sensitive,
    issued: Timestamp,
}

/// A client for one tenant.
pub struct Client {
    http: reqwest::Client,
    connection: Connection,
    limits: Limits,
    clock: Clock,
    /// Further values that must not appear in any message.
    secrets: std::sync::Mutex<Vec<Sensitive>>,
    /// The seconds by which SuperOffice's clock is ahead, according to its last response.
    clock_offset: AtomicI64,
    base: Mutex<Option<Url>>,
    ticket: Mutex<Option<Ticket>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client with the system's clock and the default limits.
    ///
    /// # Errors
    ///
    /// [`ApiError::Client`] if TLS cannot be set up.
    pub fn new(connection: Connection) -> Result<Self, ApiError> {
        Self::with(connection, Limits::default(), Arc::new(Timestamp::now))
    }

    /// Creates a client.
    ///
    /// # Errors
    ///
    /// [`ApiError::Client`] if TLS cannot be set up.
    pub fn with(connection: Connection, limits: Limits, clock: Clock) -> Result<Self, ApiError> {
        // Fails only if the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("superoffice-webhook-admin/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(limits.connect)
            .timeout(limits.attempt)
            // A redirect would send the credentials elsewhere.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ApiError::Client(with_causes(&error)))?;
        let base = Mutex::new(connection.url.clone());
        Ok(Self {
            http,
            connection,
            limits,
            clock,
            secrets: std::sync::Mutex::default(),
            clock_offset: AtomicI64::new(0),
            base,
            ticket: Mutex::new(None),
        })
    }

    /// Keeps another secret out of every message.
    #[must_use]
    pub fn hiding(self, secret: Option<&Sensitive>) -> Self {
        self.hide(secret.map(Sensitive::expose));
        self
    }

    /// Keeps further secrets out of every message.
    pub(crate) fn hide<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        let mut known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        for secret in secrets {
            if !known.iter().any(|known| known.expose() == secret) {
                known.push(Sensitive::new(secret));
            }
        }
    }

    /// Returns the tenant's `ContextIdentifier`, if it is known.
    pub fn context_identifier(&self) -> Option<&str> {
        self.connection.context_identifier()
    }

    /// Returns `true` if the base URL is configured, so that the tenant's state need not be known.
    pub fn has_base_url(&self) -> bool {
        self.connection.url.is_some()
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Returns the time by which SuperOffice's clock is ahead of the local clock, negative if it is behind. Known to a
    /// second.
    pub fn clock_offset(&self) -> SignedDuration {
        SignedDuration::from_secs(self.clock_offset.load(Ordering::Relaxed))
    }

    /// Replaces every secret in a text that comes from SuperOffice.
    pub fn redact(&self, text: &str) -> String {
        let known = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        redact(text, self.connection.credentials.secrets().iter().chain(known.iter()))
    }

    /// Reads the state of the tenant; `None` if `SUPEROFFICE_TENANT` is not set.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the environment does not tell it.
    pub async fn tenant_state(&self) -> Result<Option<TenantState>, ApiError> {
        let Some(tenant) = &self.connection.tenant else {
            return Ok(None);
        };
        let url = under(&self.connection.environment_url, &format!("api/state/{tenant}"));
        let call = Call { method: Method::GET, path: "api/state", query: &[], body: None, repeat: Repeat::Always };
        let headers = accept_json();
        let body = self.attempts(&call, async || Ok((url.clone(), headers.clone()))).await?;
        let state: TenantState = serde_json::from_slice(&body).map_err(|error| self.unexpected(&call, error))?;
        if self.connection.url.is_none() {
            *self.base.lock().await = self.stated_base_url(&state);
        }
        Ok(Some(state))
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ApiError> {
        self.call(&Call { method: Method::GET, path, query, body: None, repeat: Repeat::Always }).await
    }

    /// Sends a request that has the same effect once and twice.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        self.call(&Call { method, path, query: &[], body, repeat: Repeat::Always }).await
    }

    /// Sends a `POST` that is only repeated if SuperOffice cannot have acted on it.
    pub(crate) async fn post_once(&self, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        self.call(&Call { method: Method::POST, path, query: &[], body, repeat: Repeat::IfNotProcessed }).await
    }

    async fn call(&self, call: &Call<'_>) -> Result<Value, ApiError> {
        let target =
            async || Ok((under(&self.base_url().await?, &format!("api/v1/{}", call.path)), self.headers().await?));
        let mut result = self.attempts(call, target).await;
        if matches!(result, Err(ApiError::WrongHost { .. })) && self.connection.tenant.is_some() {
            *self.base.lock().await = None;
            result = self.attempts(call, target).await;
        }
        if matches!(result, Err(ApiError::Unauthorized { .. })) && self.discard_ticket().await {
            result = self.attempts(call, target).await;
        }
        let body = result?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| self.unexpected(call, error))
    }

    /// Makes attempts until one succeeds, or a further attempt makes no sense.
    async fn attempts(
        &self,
        call: &Call<'_>,
        target: impl AsyncFn() -> Result<(Url, HeaderMap), ApiError>,
    ) -> Result<Vec<u8>, ApiError> {
        let (url, headers) = target().await?;
        let mut wait = self.limits.first_wait;
        for attempt in 1.. {
            let mut request = self.http.request(call.method.clone(), url.clone()).headers(headers.clone());
            if !call.query.is_empty() {
                request = request.query(call.query);
            }
            if let Some(body) = call.body {
                request = request.json(body);
            } else if call.method == Method::POST {
                // Some servers reject a POST without a length.
                request = request.header("content-length", "0");
            }
            let failure = match self.attempt(call, request).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            let repeatable = match call.repeat {
                Repeat::Always => failure.passing,
                Repeat::IfNotProcessed => failure.passing && failure.unprocessed,
            };
            let delay = failure.retry_after.unwrap_or_else(|| jittered(wait));
            if !repeatable || attempt >= self.limits.attempts || delay > self.limits.longest_wait {
                return Err(failure.error);
            }
            tokio::time::sleep(delay).await;
            wait = wait.saturating_mul(2);
        }
        unreachable!("the loop only ends by returning")
    }

    async fn attempt(&self, call: &Call<'_>, request: reqwest::RequestBuilder) -> Result<Vec<u8>, Failure> {
        let response = request.send().await.map_err(|error| self.not_sent(call, &error))?;
        let (status, retry_after) = (response.status(), retry_after(response.headers(), self.now()));
        if let Some(date) = response.headers().get(DATE).and_then(http_date) {
            self.clock_offset.store(date.duration_since(self.now()).as_secs(), Ordering::Relaxed);
        }
        let body = response.bytes().await.map_err(|error| self.not_sent(call, &error))?;
        if status.is_success() {
            return Ok(body.into());
        }
        let (name, message) = (call.to_string(), self.message(&body));
        let error = match status {
            StatusCode::UNAUTHORIZED => ApiError::Unauthorized { call: name },
            StatusCode::FORBIDDEN => ApiError::Forbidden { call: name, message },
            StatusCode::MISDIRECTED_REQUEST => ApiError::WrongHost { call: name },
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                ApiError::Unavailable { call: name, status: status.as_u16(), message }
            }
            status => ApiError::Status { call: name, status: status.as_u16(), message },
        };
        Err(Failure {
            error,
            passing: status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error(),
            unprocessed: status == StatusCode::TOO_MANY_REQUESTS || retry_after.is_some(),
            retry_after,
        })
    }

    fn not_sent(&self, call: &Call<'_>, error: &reqwest::Error) -> Failure {
        let connected = !error.is_connect();
        let error = if error.is_timeout() {
            ApiError::Timeout { call: call.to_string(), seconds: self.limits.attempt.as_secs() }
        } else {
            let host = error.url().and_then(Url::host_str).unwrap_or("SuperOffice").to_owned();
            ApiError::Unreachable { call: call.to_string(), host, reason: self.redact(&innermost(error)) }
        };
        Failure { error, passing: true, unprocessed: !connected, retry_after: None }
    }

    /// Returns the message of an error response, for people: `: <text>`, or nothing.
    fn message(&self, body: &[u8]) -> String {
        let text = String::from_utf8_lossy(body);
        let json: Option<Value> = serde_json::from_str(&text).ok();
        let field = |name: &str| Some(json.as_ref()?.get(name)?.as_str()?.to_owned());
        let text = ["Message", "ErrorMessage", "detail", "title"].into_iter().find_map(field).unwrap_or(text.into());
        let text: String = self.redact(text.trim()).chars().take(MAX_SHOWN).collect();
        if text.is_empty() { text } else { format!(": {text}") }
    }

    fn unexpected(&self, call: &Call<'_>, problem: impl fmt::Display) -> ApiError {
        ApiError::Unexpected { call: call.to_string(), problem: problem.to_string() }
    }

    /// Returns the base URL, and looks it up only if it is not known.
    async fn base_url(&self) -> Result<Url, ApiError> {
        if let Some(url) = &*self.base.lock().await {
            return Ok(url.clone());
        }
        let state = self.tenant_state().await?;
        let url = state.and_then(|state| self.stated_base_url(&state)).ok_or_else(|| ApiError::NoBaseUrl {
            tenant: self.connection.tenant.clone().unwrap_or_default(),
            url: self.connection.environment_url.to_string(),
        })?;
        *self.base.lock().await = Some(url.clone());
        Ok(url)
    }

    /// Returns the base URL in a tenant's state, if it may receive the credentials.
    fn stated_base_url(&self, state: &TenantState) -> Option<Url> {
        base_url(state.api.as_deref()?, &self.connection.environment_url)
    }

    async fn headers(&self) -> Result<HeaderMap, ApiError> {
        let mut headers = accept_json();
        headers.insert(TIME_ZONE, HeaderValue::from_static("UTC"));
        let authorization = match &self.connection.credentials {
            Credentials::Bearer(token) => format!("Bearer {}", token.expose()),
            Credentials::Basic { user, password } => format!("Basic {}", basic(user, password).expose()),
            Credentials::SystemUser(user) => {
                headers.insert(APP_TOKEN, sensitive(user.client_secret().expose())?);
                format!("SOTicket {}", self.ticket().await?.expose())
            }
        };
        headers.insert(AUTHORIZATION, sensitive(&authorization)?);
        Ok(headers)
    }

    /// Returns the ticket, and obtains one only if there is none or its lifetime ends soon.
    async fn ticket(&self) -> Result<Sensitive, ApiError> {
        let (Credentials::SystemUser(user), Some(tenant)) = (&self.connection.credentials, &self.connection.tenant)
        else {
            return Err(TicketError::NoTicket.into());
        };
        let mut cached = self.ticket.lock().await;
        if let Some(ticket) = &*cached
            && self.now().duration_since(ticket.issued) < TICKET_LIFETIME
        {
            return Ok(ticket.value.clone());
        }
        let body = user.request(tenant, self.now())?;
        let path = "Login/api/PartnerSystemUser/Authenticate";
        let call = Call { method: Method::POST, path, query: &[], body: Some(&body), repeat: Repeat::Always };
        let url = under(&self.connection.environment_url, path);
        let headers = accept_json();
        let response = self.attempts(&call, async || Ok((url.clone(), headers.clone()))).await?;
        let value = read_ticket(&response).map_err(|error| match error {
            TicketError::Rejected(reason) => TicketError::Rejected(self.redact(&reason)),
            error => error,
        })?;
        self.hide([value.expose()]);
        *cached = Some(Ticket { value: value.clone(), issued: self.now() });
        Ok(value)
    }

    /// Returns `true` if there was a ticket that can be replaced.
    async fn discard_ticket(&self) -> bool {
        self.ticket.lock().await.take().is_some()
    }
}

/// A failed attempt.
struct Failure {
    error: ApiError,
    /// Another attempt may succeed.
    passing: bool,
    /// SuperOffice cannot have acted on the request.
    unprocessed: bool,
    retry_after: Option<Duration>,
}

fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

/// Reads a base URL that may receive the credentials: over HTTPS, or over HTTP where the environment itself is local.
fn base_url(api: &str, environment: &Url) -> Option<Url> {
    let url = Url::parse(api).ok()?;
    let is_trusted = url.scheme() == "https" || (url.scheme() == "http" && environment.scheme() == "http");
    is_trusted.then(|| without_api_path(&url))
}

fn sensitive(value: &str) -> Result<HeaderValue, ApiError> {
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| ApiError::Client("a credential contains characters that HTTP does not allow".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Reads `Retry-After`, in seconds or as a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = http_date(headers.get(RETRY_AFTER)?)?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

fn http_date(value: &HeaderValue) -> Option<Timestamp> {
    Some(jiff::fmt::rfc2822::parse(value.to_str().ok()?.trim()).ok()?.timestamp())
}

/// Spreads waits, so that several programs do not return at the same time.
fn jittered(wait: Duration) -> Duration {
    wait.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn accept_json() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))])
}

/// Returns the text of an error and of its causes.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = "2026-11-24T09:00:00Z".parse().unwrap();
        let read = |value: &'static str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]), now)
        };
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("Tue, 24 Nov 2026 09:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(read("Tue, 24 Nov 2026 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn credentials_are_sent_over_https_unless_the_environment_is_local() {
        let url = |api: &str, environment: &str| base_url(api, &Url::parse(environment).unwrap()).map(String::from);
        let (online, local) = ("https://online.superoffice.com", "http://127.0.0.1:8080");
        assert_eq!(url("https://host/Cust1/api", online).as_deref(), Some("https://host/Cust1"));
        assert_eq!(url("https://host/Cust1", local).as_deref(), Some("https://host/Cust1"));
        assert_eq!(url("http://127.0.0.1:9/Cust1", local).as_deref(), Some("http://127.0.0.1:9/Cust1"));
        for (api, environment) in [("http://host/Cust1", online), ("ftp://host/Cust1", local), ("Cust1", online)] {
            assert_eq!(url(api, environment), None, "{api}");
        }
    }

    #[test]
    fn errors_of_one_call_and_refusals_are_recognized() {
        let call = || "GET Webhook".to_owned();
        let status = |status| ApiError::Status { call: call(), status, message: String::new() };
        for (error, is_specific, is_refusal) in [
            (status(400), true, true),
            (status(499), true, true),
            (status(500), true, false),
            (status(302), true, false),
            (ApiError::Changed { call: call() }, true, true),
            (ApiError::Unexpected { call: call(), problem: String::new() }, true, false),
            (ApiError::Unauthorized { call: call() }, false, false),
            (ApiError::Unavailable { call: call(), status: 429, message: String::new() }, false, false),
            (ApiError::Timeout { call: call(), seconds: 60 }, false, false),
        ] {
            assert_eq!((error.is_specific(), error.is_refusal()), (is_specific, is_refusal), "{error}");
        }
    }

    #[test]
    fn jitter_stays_between_half_and_the_whole_wait() {
        for _ in 0..100 {
            let wait = jittered(Duration::from_secs(10));
            assert!(wait >= Duration::from_secs(5) && wait <= Duration::from_secs(10), "{wait:?}");
        }
    }

    #[test]
    fn path_is_added_to_the_base_url() {
        let url = |base: &str| under(&Url::parse(base).unwrap(), "api/v1/Webhook").to_string();
        assert_eq!(
            url("https://online3.superoffice.com/Cust1"),
            "https://online3.superoffice.com/Cust1/api/v1/Webhook"
        );
        assert_eq!(url("https://server/"), "https://server/api/v1/Webhook");
    }
}
