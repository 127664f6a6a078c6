//! HMAC-SHA256 signatures of request bodies. The only code that computes or compares a MAC.
//!
//! SuperOffice signs the raw body and sends the MAC as base64 in [`SIGNATURE_HEADER`].

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The header that contains the signature. Names of HTTP headers are case-insensitive.
pub const SIGNATURE_HEADER: &str = "x-superoffice-signature";

/// A secret shared with SuperOffice. Neither `Debug` nor any error shows its value.
#[derive(Clone)]
pub struct Secret {
    key: Box<[u8]>,
    mac: Hmac<Sha256>,
}

/// The secret is empty or only whitespace, so anyone could guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty or only whitespace")]
pub struct EmptySecret;

impl Secret {
    /// Creates a secret from the bytes that SuperOffice uses as the key, the UTF-8 bytes of the configured text.
    ///
    /// # Errors
    ///
    /// [`EmptySecret`] if there are no bytes.
    pub fn new(key: impl AsRef<[u8]>) -> Result<Self, EmptySecret> {
        let key = key.as_ref();
        if key.is_empty() { Err(EmptySecret) } else { Ok(Self { key: key.into(), mac: keyed_mac(key) }) }
    }

    /// Signs a body as SuperOffice does.
    pub fn sign(&self, body: &[u8]) -> Signature {
        Signature(self.mac.clone().chain_update(body).finalize().into_bytes().into())
    }

    /// Returns `true` if this secret signed the body. Compares in constant time, with the MAC's own check.
    pub(crate) fn verifies(&self, body: &[u8], signature: &Signature) -> bool {
        self.mac.clone().chain_update(body).verify_slice(&signature.0).is_ok()
    }

    /// The key's bytes, to derive other keys from it.
    pub(crate) fn key(&self) -> &[u8] {
        &self.key
    }
}

impl FromStr for Secret {
    type Err = EmptySecret;

    /// Rejects blank secrets, usually an unset template parameter.
    fn from_str(text: &str) -> Result<Self, EmptySecret> {
        if text.trim_ascii().is_empty() { Err(EmptySecret) } else { Self::new(text) }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[expect(clippy::expect_used, reason = "HMAC accepts a key of any length")]
fn keyed_mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC accepts a key of any length")
}

/// Returns `true` if any of the secrets signed the body. All of them are tried, so that the duration does not depend on
/// which one matches.
pub(crate) fn any_verifies<'s>(
    secrets: impl IntoIterator<Item = &'s Secret>,
    body: &[u8],
    signature: &Signature,
) -> bool {
    secrets.into_iter().fold(false, |any, secret| any | secret.verifies(body, signature))
}

/// An HMAC-SHA256 of a body. Parsed from and displayed as standard base64 with padding, 44 characters.
///
/// Signatures cannot be compared with `==`, whose duration would reveal the position of the first difference:
///
/// ```compile_fail,E0369
/// # let secret = superoffice_webhook::Secret::new("secret").unwrap();
/// let forged = secret.sign(b"one") == secret.sign(b"another");
/// ```
#[derive(Clone, Copy)]
pub struct Signature([u8; 32]);

/// A text that is not the base64 of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSignature {
    /// The text is not standard base64 with padding.
    #[error("signature is not base64")]
    NotBase64,
    /// The decoded text has another length than 32 bytes.
    #[error("signature is not 32 bytes long")]
    WrongLength,
}

impl FromStr for Signature {
    type Err = InvalidSignature;

    fn from_str(base64: &str) -> Result<Self, InvalidSignature> {
        let bytes = STANDARD.decode(base64).map_err(|_| InvalidSignature::NotBase64)?;
        Ok(Self(bytes.try_into().map_err(|_| InvalidSignature::WrongLength)?))
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_made_by_python_verifies() {
        // base64.b64encode(hmac.new(b"s3cret", b'{"a":1}', "sha256").digest())
        let signature: Signature = "WRDmIBbvUDQnLJJsJwcZkqRlwjNc7PQYUb2gcVd/T20=".parse().unwrap();
        let secret = Secret::new("s3cret").unwrap();
        assert!(secret.verifies(br#"{"a":1}"#, &signature));
        assert!(!secret.verifies(br#"{"a":2}"#, &signature));
        assert!(!Secret::new("other").unwrap().verifies(br#"{"a":1}"#, &signature));
    }

    #[test]
    fn signature_is_base64_of_32_bytes() {
        let hex = "3f".repeat(32);
        for (text, error) in [
            ("?", InvalidSignature::NotBase64),
            ("WRDmIBbvUDQnLJJsJwcZkqRlwjNc7PQYUb2gcVd/T20", InvalidSignature::NotBase64),
            (" ", InvalidSignature::NotBase64),
            ("", InvalidSignature::WrongLength),
            (&hex, InvalidSignature::WrongLength),
        ] {
            assert_eq!(text.parse::<Signature>().err(), Some(error), "{text}");
        }
    }

    #[test]
    fn any_of_several_secrets_verifies() {
        let secrets = ["a", "b"].map(|key| Secret::new(key).unwrap());
        for (key, expected) in [("a", true), ("b", true), ("c", false)] {
            let signature = Secret::new(key).unwrap().sign(b"body");
            assert_eq!(any_verifies(&secrets, b"body", &signature), expected, "{key}");
        }
    }

    #[test]
    fn empty_or_blank_secret_is_an_error() {
        assert_eq!(Secret::new("").unwrap_err().to_string(), "the secret is empty or only whitespace");
        for blank in ["", " ", "\t\r\n"] {
            assert_eq!(blank.parse::<Secret>().unwrap_err(), EmptySecret, "{blank:?}");
        }
        assert!(" s ".parse::<Secret>().is_ok());
    }

    #[test]
    fn debug_output_shows_neither_secret_nor_signature() {
        let secret = Secret::new("hush").unwrap();
        assert_eq!(format!("{secret:?} {:?}", secret.sign(b"")), "Secret(..) Signature(..)");
    }
}
