//! The client for one tenant.

use std::fmt;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::call::{Call, Repeat, Response};
use crate::connection::Connection;
use crate::error::{ApiError, SetupError, with_causes};
use crate::exchange::Observer;
use crate::retry::{Clock, Limits, Transport};
use crate::session::{Session, TenantState};

/// A client for one tenant. Its calls are in the modules of the resources, for example [`webhooks`](crate::webhooks).
pub struct Client {
    session: Session,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("connection", &self.session.connection).finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client with the system's clock and the default limits.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if TLS cannot be set up.
    pub fn new(connection: Connection) -> Result<Self, SetupError> {
        Self::with(connection, Limits::default(), Arc::new(Timestamp::now))
    }

    /// Creates a client.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if TLS cannot be set up.
    pub fn with(connection: Connection, limits: Limits, clock: Clock) -> Result<Self, SetupError> {
        Ok(Self::with_http(http_client(&connection, &limits)?, connection, limits, clock))
    }

    /// Creates a client for another tenant with the clock, limits, network connections and trusted certificates of this
    /// one. A program with many tenants saves the memory of their certificates.
    #[must_use]
    pub fn for_tenant(&self, connection: Connection) -> Self {
        let Transport { http, limits, clock, .. } = &self.session.transport;
        Self::with_http(http.clone(), connection, *limits, Arc::clone(clock))
    }

    fn with_http(http: reqwest::Client, connection: Connection, limits: Limits, clock: Clock) -> Self {
        Self { session: Session::new(connection, Transport::new(http, limits, clock)) }
    }

    /// Keeps another secret out of every message.
    #[must_use]
    pub fn hiding(self, secret: Option<&SecretString>) -> Self {
        self.hide(secret.map(ExposeSecret::expose_secret));
        self
    }

    /// Calls a function after each response.
    #[must_use]
    pub fn observed_by(mut self, observer: Observer) -> Self {
        self.session.transport.observer = Some(observer);
        self
    }

    /// Keeps further secrets out of every message.
    pub(crate) fn hide<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        self.session.transport.redactor.hide(secrets);
    }

    /// Replaces every secret in a text that comes from SuperOffice.
    pub fn redact(&self, text: &str) -> String {
        self.session.transport.redactor.redact(text)
    }

    /// Returns the tenant's `ContextIdentifier`, if it is known.
    pub fn context_identifier(&self) -> Option<&str> {
        self.session.connection.context_identifier()
    }

    /// Returns `true` if the base URL is configured, so that the tenant's state need not be known.
    pub fn has_base_url(&self) -> bool {
        self.session.connection.url.is_some()
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        self.session.transport.now()
    }

    /// Returns the time by which SuperOffice's clock is ahead of the local clock, negative if it is behind. Known to a
    /// second.
    pub fn clock_offset(&self) -> SignedDuration {
        self.session.transport.clock_offset()
    }

    /// Reads the state of the tenant; `None` without a tenant's name.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if the environment does not return it.
    pub async fn tenant_state(&self) -> Result<Option<TenantState>, ApiError> {
        self.session.tenant_state().await
    }

    pub(crate) async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, ApiError> {
        self.call(&Call::get(path, query)).await
    }

    /// Sends a request that has the same effect once and twice.
    pub(crate) async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ApiError> {
        self.call(&Call { method, path, query: &[], body, repeat: Repeat::Always }).await
    }

    /// Sends a `POST` that is only repeated if SuperOffice cannot have acted on it.
    pub(crate) async fn post_once(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let (method, body) = (Method::POST, Some(body));
        self.call(&Call { method, path, query: &[], body, repeat: Repeat::IfNotProcessed }).await
    }

    async fn call(&self, call: &Call<'_>) -> Result<Value, ApiError> {
        let response = self.respond(call).await?;
        self.json(call, response)
    }

    /// Returns the response to a call, whatever its status.
    pub(crate) async fn respond(&self, call: &Call<'_>) -> Result<Response, ApiError> {
        self.session.respond(call).await
    }

    /// Parses the JSON of a success. An empty body is `null`.
    pub(crate) fn json(&self, call: &Call<'_>, response: Response) -> Result<Value, ApiError> {
        let body = self.success(call, response)?;
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|error| ApiError::unexpected(call.to_string(), error))
    }

    /// Returns the body of a success, without a byte order mark.
    pub(crate) fn success(&self, call: &Call<'_>, response: Response) -> Result<Vec<u8>, ApiError> {
        response.success(call, &self.session.transport.redactor)
    }
}

/// Builds the HTTP client. Everything that decides how SuperOffice is reached over the network is set here: TLS,
/// redirects and timeouts. Proxies come from `HTTPS_PROXY` and `NO_PROXY`.
fn http_client(connection: &Connection, limits: &Limits) -> Result<reqwest::Client, SetupError> {
    // Fails only if the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("superoffice-client/", env!("CARGO_PKG_VERSION")))
        .tls_certs_merge(connection.certificates.iter().cloned())
        .connect_timeout(limits.connect)
        .timeout(limits.attempt)
        // A redirect would send the credentials elsewhere.
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .map_err(|error| SetupError(with_causes(&error)))
}
