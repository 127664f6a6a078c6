//! The tenant's state between calls: the base URL, a system user's ticket, and the accepted form of times.

use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::auth::{Credentials, basic};
use crate::call::{Call, Repeat, Response};
use crate::connection::Connection;
use crate::error::{ApiError, ErrorKind};
use crate::retry::Transport;
use crate::system_user::{TicketError, read_ticket};

/// The header that accompanies a system user's ticket.
const APP_TOKEN: HeaderName = HeaderName::from_static("so-apptoken");
/// Chooses the time zone of times, and whether each time has its offset.
const TIME_ZONE: HeaderName = HeaderName::from_static("so-timezone");
/// A ticket lives for 6 hours and is renewed before that.
const TICKET_LIFETIME: SignedDuration = SignedDuration::from_mins(330);

/// A tenant's state according to its environment.
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
    value: SecretString,
    issued: Timestamp,
}

/// A connection to a tenant, with the base URL and the ticket as far as they are known.
pub(crate) struct Session {
    pub(crate) connection: Connection,
    pub(crate) transport: Transport,
    base: Mutex<Option<Url>>,
    ticket: Mutex<Option<Ticket>>,
    /// The server refuses to send times with their offset.
    refuses_offsets: AtomicBool,
}

impl Session {
    pub(crate) fn new(connection: Connection, transport: Transport) -> Self {
        transport.redactor.hide(connection.credentials.secrets().iter().map(String::as_str));
        Self {
            base: Mutex::new(connection.url.clone()),
            ticket: Mutex::new(None),
            refuses_offsets: AtomicBool::new(false),
            connection,
            transport,
        }
    }

    /// Reads the state of the tenant; `None` without a tenant's name.
    pub(crate) async fn tenant_state(&self) -> Result<Option<TenantState>, ApiError> {
        let Some(tenant) = &self.connection.tenant else {
            return Ok(None);
        };
        let url = under(&self.connection.environment_url, &format!("api/state/{tenant}"));
        let call = Call::get("api/state", &[]);
        let response = self.transport.attempts(&call, &url, &accept_json()).await?;
        let body = response.success(&call, &self.transport.redactor)?;
        let state: TenantState =
            serde_json::from_slice(&body).map_err(|error| ApiError::unexpected(call.to_string(), error))?;
        if self.connection.url.is_none() {
            *self.base.lock().await = self.stated_base_url(&state);
        }
        Ok(Some(state))
    }

    /// Makes a call with the tenant's base URL and credentials. If SuperOffice rejects a base URL or a ticket that can
    /// be replaced, the call is repeated once with the replacement. A server that refuses offsets is not asked for them
    /// again.
    pub(crate) async fn respond(&self, call: &Call<'_>) -> Result<Response, ApiError> {
        let mut response = self.authenticated(call).await?;
        if refuses_offsets(&response) && !self.refuses_offsets.swap(true, Ordering::Relaxed) {
            response = self.authenticated(call).await?;
        }
        let is_refused = response.status == StatusCode::UNAUTHORIZED && !self.transport.limits.renews_tickets;
        if !self.end_session(response.status).await || is_refused {
            return Ok(response);
        }
        let response = self.authenticated(call).await?;
        self.end_session(response.status).await;
        Ok(response)
    }

    async fn authenticated(&self, call: &Call<'_>) -> Result<Response, ApiError> {
        let url = under(&self.base_url().await?, &format!("api/v1/{}", call.path));
        let headers = self.headers(call).await?;
        self.transport.attempts(call, &url, &headers).await
    }

    /// Forgets what a response shows to be outdated. Returns `true` if it can be replaced.
    async fn end_session(&self, status: StatusCode) -> bool {
        let is_moved = status == StatusCode::MISDIRECTED_REQUEST;
        if !is_moved && status != StatusCode::UNAUTHORIZED && !status.is_redirection() {
            return false;
        }
        // A configured base URL is only replaced if SuperOffice says that the tenant is elsewhere.
        let is_replaceable = self.connection.tenant.is_some() && (is_moved || self.connection.url.is_none());
        let base = if is_replaceable { self.base.lock().await.take() } else { None };
        let ticket = self.ticket.lock().await.take();
        base.is_some() || ticket.is_some()
    }

    /// Returns the base URL, and looks it up only if it is not known.
    async fn base_url(&self) -> Result<Url, ApiError> {
        if let Some(url) = &*self.base.lock().await {
            return Ok(url.clone());
        }
        let state = self.tenant_state().await?;
        let url = state.and_then(|state| self.stated_base_url(&state)).ok_or_else(|| {
            let tenant = self.connection.tenant.clone().unwrap_or_default();
            let url = self.connection.environment_url.to_string();
            ApiError::new("GET api/state", ErrorKind::NoBaseUrl { tenant, url })
        })?;
        *self.base.lock().await = Some(url.clone());
        Ok(url)
    }

    /// Returns the base URL in a tenant's state, if it may receive the credentials.
    fn stated_base_url(&self, state: &TenantState) -> Option<Url> {
        self.connection.trusted_base_url(state.api.as_deref()?)
    }

    async fn headers(&self, call: &Call<'_>) -> Result<HeaderMap, ApiError> {
        let sensitive = |value: &str| {
            let mut value = HeaderValue::from_str(value)
                .map_err(|_| ApiError::new(call.to_string(), ErrorKind::InvalidCredential))?;
            value.set_sensitive(true);
            Ok(value)
        };
        let mut headers = accept_json();
        let has_offsets = !self.refuses_offsets.load(Ordering::Relaxed);
        headers.insert(TIME_ZONE, HeaderValue::from_static(if has_offsets { "UTC, includeTZOffset" } else { "UTC" }));
        let authorization = match &self.connection.credentials {
            Credentials::Bearer(token) => format!("Bearer {}", token.expose_secret()),
            Credentials::Basic { user, password } => format!("Basic {}", basic(user, password)),
            Credentials::SystemUser(user) => {
                headers.insert(APP_TOKEN, sensitive(user.client_secret())?);
                format!("SOTicket {}", self.ticket().await?.expose_secret())
            }
        };
        headers.insert(AUTHORIZATION, sensitive(&authorization)?);
        Ok(headers)
    }

    /// Returns the ticket, and obtains one only if there is none or its lifetime ends soon.
    async fn ticket(&self) -> Result<SecretString, ApiError> {
        let path = "Login/api/PartnerSystemUser/Authenticate";
        let failed = |error| ApiError::new(format!("POST {path}"), ErrorKind::Ticket(error));
        let (Credentials::SystemUser(user), Some(tenant)) = (&self.connection.credentials, &self.connection.tenant)
        else {
            return Err(failed(TicketError::NoTicket));
        };
        let mut cached = self.ticket.lock().await;
        if let Some(ticket) = &*cached
            && self.transport.now().duration_since(ticket.issued) < TICKET_LIFETIME
        {
            return Ok(ticket.value.clone());
        }
        let body = user.request(tenant, self.transport.now()).map_err(failed)?;
        let call = Call { method: Method::POST, path, query: &[], body: Some(&body), repeat: Repeat::Always };
        let url = under(&self.connection.environment_url, path);
        let response = self.transport.attempts(&call, &url, &accept_json()).await?;
        let response = response.success(&call, &self.transport.redactor)?;
        let value = read_ticket(&response).map_err(|error| match error {
            TicketError::Rejected(reason) => failed(TicketError::Rejected(self.transport.redactor.redact(&reason))),
            error => failed(error),
        })?;
        self.transport.redactor.hide([value.expose_secret()]);
        *cached = Some(Ticket { value: value.clone(), issued: self.transport.now() });
        Ok(value)
    }
}

/// Returns `true` if a response refuses the request because of the header for the time zone.
fn refuses_offsets(response: &Response) -> bool {
    let text = String::from_utf8_lossy(&response.body).to_ascii_lowercase();
    let names = ["tzoffset", "timezone", "time zone"];
    response.status == StatusCode::BAD_REQUEST && names.iter().any(|name| text.contains(name))
}

fn under(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url
}

fn accept_json() -> HeaderMap {
    HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static("application/json"))])
}

#[cfg(test)]
mod tests {
    use super::*;

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
