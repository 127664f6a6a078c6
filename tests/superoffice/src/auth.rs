//! Credentials, and the system user's sign-in.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::error::Refusal;

/// The claim of the JWT that contains the ticket.
pub const TICKET_CLAIM: &str = "http://schemes.superoffice.net/identity/ticket";
/// A ticket lives this long after its last use.
const TICKET_LIFETIME: SignedDuration = SignedDuration::from_hours(6);
/// A signed system token is accepted this long.
const SIGNED_TOKEN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

pub(crate) struct SystemUser {
    pub(crate) token: String,
    pub(crate) client_secret: String,
    pub(crate) public_key: Vec<u8>,
}

#[derive(Default)]
pub(crate) struct Access {
    pub(crate) tokens: BTreeSet<String>,
    pub(crate) users: BTreeSet<(String, String)>,
    pub(crate) system_user: Option<SystemUser>,
    /// Tickets, with the time of their last use.
    pub(crate) tickets: BTreeMap<String, Timestamp>,
    pub(crate) forbidden: Vec<String>,
    issued: u64,
}

impl Access {
    /// Checks the credentials of a request, and the access to its path.
    pub(crate) fn check(
        &mut self,
        authorization: &str,
        app_token: &str,
        path: &str,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if !self.allows(authorization, app_token, now) {
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "SoSessionException", "Authentication failed"));
        }
        if self.forbidden.iter().any(|part| path.contains(part.as_str())) {
            let message = "The Webhook agent is not available to this application";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "SoAccessDeniedException", message));
        }
        Ok(())
    }

    /// Returns `true` if the credentials of a request are valid.
    fn allows(&mut self, authorization: &str, app_token: &str, now: Timestamp) -> bool {
        let Some((scheme, value)) = authorization.split_once(' ') else {
            return false;
        };
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => self.tokens.contains(value),
            "basic" => {
                let pair = STANDARD.decode(value).ok().and_then(|pair| String::from_utf8(pair).ok());
                let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
                pair.is_some_and(|(user, password)| self.users.contains(&(user.to_owned(), password.to_owned())))
            }
            "soticket" => {
                if self.system_user.as_ref().is_none_or(|user| user.client_secret != app_token) {
                    return false;
                }
                let Some(used) = self.tickets.get_mut(value) else {
                    return false;
                };
                let alive = now.duration_since(*used) < TICKET_LIFETIME;
                *used = now;
                alive
            }
            _ => false,
        }
    }

    /// Signs a system user of a tenant in: the response of `PartnerSystemUser/Authenticate`.
    pub(crate) fn authenticate(&mut self, context: &str, request: &Value, now: Timestamp) -> Value {
        match self.verify(context, request, now) {
            Ok(()) => {
                self.issued += 1;
                let ticket = format!("7T:ticket-{}", self.issued);
                self.tickets.insert(ticket.clone(), now);
                let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
                let claims = json!({TICKET_CLAIM: ticket, "http://schemes.superoffice.net/identity/ctx": context});
                let jwt = format!("{}.{}.c2lnbmF0dXJl", part(json!({"alg": "RS256"})), part(claims));
                json!({"IsSuccessful": true, "Token": jwt, "ErrorMessage": null})
            }
            Err(reason) => json!({"IsSuccessful": false, "Token": null, "ErrorMessage": reason}),
        }
    }

    fn verify(&self, context: &str, request: &Value, now: Timestamp) -> Result<(), &'static str> {
        let field = |name: &str| request.get(name).and_then(Value::as_str).unwrap_or_default();
        let user = self.system_user.as_ref().ok_or("There is no system user")?;
        if field("ReturnTokenType") != "JWT" {
            return Err("The token type is not supported");
        }
        if field("ApplicationToken") != user.client_secret || !field("ContextIdentifier").eq_ignore_ascii_case(context)
        {
            return Err("The application is not authorized for this tenant");
        }
        let (signed, signature) = field("SignedSystemToken").rsplit_once('.').ok_or("The token is not signed")?;
        let (token, minute) = signed.rsplit_once('.').ok_or("The token has no time")?;
        if token != user.token {
            return Err("The system user token is unknown");
        }
        let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M", minute).map_err(|_| "The token's time is invalid")?;
        let time = jiff::tz::Offset::UTC.to_timestamp(time).map_err(|_| "The token's time is invalid")?;
        if now.duration_since(time).abs() > SIGNED_TOKEN_LIFETIME {
            return Err("The signed token has expired");
        }
        let signature = STANDARD.decode(signature).map_err(|_| "The signature is not base64")?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &user.public_key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "The signature is invalid")
    }
}
