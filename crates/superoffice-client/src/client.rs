//! The client for one tenant.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret, SecretString};

use crate::connection::Connection;
use crate::error::{SetupError, with_causes};
use crate::exchange::Observer;
use crate::redact::Redactor;
use crate::retry::Limits;
use crate::session::Session;

/// A clock, so that tests can choose the time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A client for one tenant. Its calls are in the modules of the resources, for example [`webhooks`](crate::webhooks).
pub struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) connection: Connection,
    pub(crate) limits: Limits,
    pub(crate) session: Session,
    pub(crate) observer: Option<Observer>,
    clock: Clock,
    redactor: Redactor,
    /// The seconds by which SuperOffice's clock is ahead, according to its last response.
    clock_offset: AtomicI64,
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
        Self::with_http(self.http.clone(), connection, self.limits, Arc::clone(&self.clock))
    }

    fn with_http(http: reqwest::Client, connection: Connection, limits: Limits, clock: Clock) -> Self {
        let redactor = Redactor::default();
        redactor.hide(connection.credentials.secrets().iter().map(String::as_str));
        Self {
            http,
            session: Session::new(connection.url.clone()),
            connection,
            limits,
            observer: None,
            clock,
            redactor,
            clock_offset: AtomicI64::new(0),
        }
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
        self.observer = Some(observer);
        self
    }

    /// Keeps further secrets out of every message.
    pub(crate) fn hide<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) {
        self.redactor.hide(secrets);
    }

    /// Replaces every secret in a text that comes from SuperOffice.
    pub fn redact(&self, text: &str) -> String {
        self.redactor.redact(text)
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

    /// Notes the time by SuperOffice's clock.
    pub(crate) fn note_date(&self, date: Timestamp) {
        self.clock_offset.store(date.duration_since(self.now()).as_secs(), Ordering::Relaxed);
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
