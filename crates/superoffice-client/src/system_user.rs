//! The system user of an Online app, which signs in by itself and obtains a ticket.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jiff::tz::Offset;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// The claim of the system user's JWT that contains the ticket.
const TICKET_CLAIM: &str = "http://schemes.superoffice.net/identity/ticket";

/// The system user of an Online app for one tenant.
#[derive(Clone)]
pub struct SystemUser {
    token: SecretString,
    client_secret: SecretString,
    key: Arc<RsaKeyPair>,
}

impl fmt::Debug for SystemUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemUser(..)")
    }
}

/// The private key cannot be used. No message contains any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The form that the developer portal offers for .NET.
    #[error("an XML key; convert it to PEM")]
    Xml,
    /// Neither of the two PEM forms.
    #[error("not a PEM text with `BEGIN PRIVATE KEY` or `BEGIN RSA PRIVATE KEY`")]
    NotPem,
    /// Another kind of key, or a damaged key.
    #[error("not an RSA key of 2048 to 4096 bits")]
    NotRsa,
}

/// The response of the authentication endpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// SuperOffice rejected the system user.
    #[error("SuperOffice rejected the system user: {0}")]
    Rejected(String),
    /// The response has no ticket.
    #[error("the authentication response contains no ticket")]
    NoTicket,
    /// The key could not sign.
    #[error("the private key could not sign the system token")]
    NotSigned,
}

/// An Online app: the part of its system users that all tenants share.
#[derive(Clone)]
pub struct SystemApp {
    client_secret: SecretString,
    key: Arc<RsaKeyPair>,
}

impl fmt::Debug for SystemApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemApp(..)")
    }
}

impl SystemApp {
    /// Reads the private key, an RSA key in PEM. Environment variables often contain `\n` for a line break.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key cannot be used.
    pub fn new(client_secret: &str, private_key: &str) -> Result<Self, KeyError> {
        let pem = private_key.replace("\\n", "\n");
        if pem.trim_start().starts_with('<') {
            return Err(KeyError::Xml);
        }
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)? {
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            _ => return Err(KeyError::NotRsa),
        };
        Ok(Self { client_secret: client_secret.into(), key: Arc::new(key.map_err(|_| KeyError::NotRsa)?) })
    }

    /// Returns the app's system user of one tenant.
    pub fn system_user(&self, token: &str) -> SystemUser {
        SystemUser { token: token.into(), client_secret: self.client_secret.clone(), key: Arc::clone(&self.key) }
    }
}

impl SystemUser {
    /// Reads the private key, an RSA key in PEM.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the key cannot be used.
    pub fn new(token: &str, client_secret: &str, private_key: &str) -> Result<Self, KeyError> {
        Ok(SystemApp::new(client_secret, private_key)?.system_user(token))
    }

    /// Returns the application's client secret, which accompanies every ticket.
    pub(crate) fn client_secret(&self) -> &str {
        self.client_secret.expose_secret()
    }

    /// Returns the values that no message may contain.
    pub(crate) fn secrets(&self) -> [&str; 2] {
        [self.token.expose_secret(), self.client_secret()]
    }

    /// Returns the body of a request for a ticket, valid for some minutes after `now`.
    ///
    /// # Errors
    ///
    /// [`TicketError::NotSigned`] if the key does not sign.
    pub(crate) fn request(&self, tenant: &str, now: Timestamp) -> Result<serde_json::Value, TicketError> {
        Ok(serde_json::json!({
            "SignedSystemToken": self.signed_token(now)?,
            "ApplicationToken": self.client_secret(),
            "ContextIdentifier": tenant,
            "ReturnTokenType": "JWT",
        }))
    }

    /// `<system token>.<yyyyMMddHHmm>.<base64 of the RSA-SHA256 PKCS#1 v1.5 signature over both>`.
    fn signed_token(&self, now: Timestamp) -> Result<String, TicketError> {
        let minute = Offset::UTC.to_datetime(now).strftime("%Y%m%d%H%M").to_string();
        let signed = format!("{}.{minute}", self.token.expose_secret());
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature)
            .map_err(|_| TicketError::NotSigned)?;
        Ok(format!("{signed}.{}", STANDARD.encode(signature)))
    }
}

/// Reads the ticket from a response. The JWT's signature is not verified: TLS has authenticated its sender.
///
/// # Errors
///
/// [`TicketError`] if the response is a rejection or has no ticket.
pub(crate) fn read_ticket(body: &[u8]) -> Result<SecretString, TicketError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Response {
        is_successful: Option<bool>,
        token: Option<String>,
        error_message: Option<String>,
    }
    let response: Response = serde_json::from_slice(body).map_err(|_| TicketError::NoTicket)?;
    if response.is_successful == Some(false) {
        return Err(TicketError::Rejected(response.error_message.unwrap_or_else(|| "no reason was given".into())));
    }
    let claims = response.token.as_deref().and_then(|token| token.split('.').nth(1));
    let claims = claims.and_then(|claims| URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok());
    let claims: Option<serde_json::Value> = claims.and_then(|claims| serde_json::from_slice(&claims).ok());
    let ticket = claims.as_ref().and_then(|claims| claims.get(TICKET_CLAIM)?.as_str());
    ticket.filter(|ticket| !ticket.is_empty()).map(SecretString::from).ok_or(TicketError::NoTicket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    const PKCS8: &str = include_str!("../tests/keys/system-user.pkcs8.pem");
    const PKCS1: &str = include_str!("../tests/keys/system-user.pkcs1.pem");
    const EC: &str = include_str!("../tests/keys/elliptic-curve.pem");

    fn now() -> Timestamp {
        "2026-11-24T09:05:59Z".parse().unwrap()
    }

    #[test]
    fn token_is_signed_with_both_pem_forms() {
        for pem in [PKCS8.to_owned(), PKCS1.to_owned(), PKCS8.replace('\n', "\\n")] {
            let user = SystemUser::new("Application-abc", "client secret", &pem).unwrap();
            let signed = user.signed_token(now()).unwrap();
            let (message, signature) = signed.rsplit_once('.').unwrap();
            assert_eq!(message, "Application-abc.202611240905");
            UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, user.key.public())
                .verify(message.as_bytes(), &STANDARD.decode(signature).unwrap())
                .unwrap();
        }
    }

    #[test]
    fn signature_equals_the_one_made_by_openssl() {
        // printf Application-abc.202611240905 | openssl dgst -sha256 -sign system-user.pkcs8.pem | base64 -w0
        let user = SystemUser::new("Application-abc", "client secret", PKCS8).unwrap();
        let expected = include_str!("../tests/keys/application-abc.202611240905.signature").trim();
        assert_eq!(user.signed_token(now()).unwrap(), format!("Application-abc.202611240905.{expected}"));
    }

    #[test]
    fn unusable_keys_are_explained() {
        for (key, expected) in
            [("<RSAKeyValue><Modulus>", KeyError::Xml), ("hunter2", KeyError::NotPem), (EC, KeyError::NotRsa)]
        {
            assert_eq!(SystemUser::new("t", "s", key).unwrap_err(), expected);
        }
        assert_eq!(KeyError::Xml.to_string(), "an XML key; convert it to PEM");
        assert_eq!(KeyError::NotRsa.to_string(), "not an RSA key of 2048 to 4096 bits");
    }

    #[test]
    fn request_has_the_documented_fields() {
        let request = SystemUser::new("t", "s", PKCS8).unwrap().request("Cust1", now()).unwrap();
        assert!(request["SignedSystemToken"].as_str().unwrap().starts_with("t.202611240905."));
        assert_eq!(request["ApplicationToken"], "s");
        assert_eq!(request["ContextIdentifier"], "Cust1");
        assert_eq!(request["ReturnTokenType"], "JWT");
    }

    #[test]
    fn ticket_is_read_from_the_jwt() {
        let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"{TICKET_CLAIM}":"7T:abc"}}"#));
        let body = format!(r#"{{"IsSuccessful":true,"Token":"x.{claims}.y"}}"#);
        assert_eq!(read_ticket(body.as_bytes()).unwrap().expose_secret(), "7T:abc");
    }

    #[test]
    fn responses_without_a_ticket_are_errors() {
        let rejected = r#"{"IsSuccessful":false,"ErrorMessage":"Unknown application"}"#;
        let error = read_ticket(rejected.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "SuperOffice rejected the system user: Unknown application");
        for body in ["", "{}", r#"{"IsSuccessful":true,"Token":"x.e30.y"}"#, r#"{"IsSuccessful":true,"Token":"x"}"#] {
            assert_eq!(read_ticket(body.as_bytes()).unwrap_err(), TicketError::NoTicket, "{body}");
        }
    }

    #[test]
    fn debug_output_contains_no_secret() {
        let user = SystemUser::new("hunter2", "hunter2", PKCS8).unwrap();
        let app = SystemApp::new("hunter2", PKCS8).unwrap();
        assert_eq!(format!("{user:?} {app:?}"), "SystemUser(..) SystemApp(..)");
    }
}
