//! Signatures: who may speak for SuperOffice. The only code that computes or compares a MAC.
//!
//! SuperOffice signs the raw request body with HMAC-SHA256 and sends the MAC as base64 in
//! [`SIGNATURE_HEADER`]. [`Verifier::verify`] is the only way to a [`VerifiedBody`], and everything
//! behind it takes nothing else, so that nothing unsigned can be parsed, queued or logged.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::event::EventHead;

/// The header that carries the signature; names of HTTP headers are case-insensitive.
pub const SIGNATURE_HEADER: &str = "x-superoffice-signature";

/// Most tenant secrets that the configuration may hold. Each costs one MAC over every body, signed or not: with 100 of
/// them and the shared secret, a refusal took 0.19 ms for a body of 3 KiB and 59 ms for one of 1 MiB (release build, one
/// core of an x86-64 machine with SHA extensions; one secret: 0.01 ms and 0.6 ms). Events are of the first kind.
pub const MAX_TENANT_SECRETS: usize = 100;

/// A body larger than this, in bytes, is not tried for the mistakes that only a log line tells apart.
const MAX_DIAGNOSED_BYTES: usize = 64 * 1024;

/// A shared secret, keyed and ready to sign. It never shows its value.
#[derive(Clone)]
pub struct Secret {
    mac: Hmac<Sha256>,
    /// The same secret as it looks after the usual copy-and-paste mistakes, to name them in the log.
    slips: Vec<Hmac<Sha256>>,
}

/// The secret is empty: anyone could sign with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the secret is empty")]
pub struct EmptySecret;

impl Secret {
    /// Takes the secret as SuperOffice has it: its UTF-8 bytes are the key.
    ///
    /// # Errors
    ///
    /// [`EmptySecret`] when it has no bytes.
    pub fn new(secret: impl AsRef<[u8]>) -> Result<Self, EmptySecret> {
        let secret = secret.as_ref();
        if secret.is_empty() {
            return Err(EmptySecret);
        }
        let trimmed = secret.trim_ascii();
        let slips = [
            trimmed.to_vec(),
            [trimmed, b"\n"].concat(),
            [trimmed, b"\r\n"].concat(),
            [trimmed, b" "].concat(),
            [b" ", trimmed].concat(),
        ];
        Ok(Self {
            mac: keyed(secret),
            slips: slips
                .iter()
                .filter(|slip| !slip.is_empty() && slip.as_slice() != secret)
                .map(|slip| keyed(slip))
                .collect(),
        })
    }

    /// Signs a body as SuperOffice does.
    pub fn sign(&self, body: &[u8]) -> Signature {
        Signature(self.mac.clone().chain_update(body).finalize().into_bytes().into())
    }

    fn signed(&self, body: &[u8], signature: &Signature) -> bool {
        matches(&self.mac, body, signature)
    }

    fn signed_but_for_white_space(&self, body: &[u8], signature: &Signature) -> bool {
        self.slips.iter().fold(false, |any, slip| any | matches(slip, body, signature))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn keyed(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes a key of any length")
}

/// Compares in constant time, by the MAC's own check.
fn matches(mac: &Hmac<Sha256>, body: &[u8], signature: &Signature) -> bool {
    mac.clone().chain_update(body).verify_slice(&signature.0).is_ok()
}

/// An HMAC-SHA256 of a body. Shown and parsed as standard base64 with padding, 44 characters.
///
/// Two of them cannot be compared: `==` would take a time that tells where they differ.
///
/// ```compile_fail,E0369
/// # let secret = superoffice_webhook::signature::Secret::new("secret").unwrap();
/// let forged = secret.sign(b"one") == secret.sign(b"another");
/// ```
#[derive(Clone, Copy)]
pub struct Signature([u8; 32]);

impl FromStr for Signature {
    type Err = Rejection;

    fn from_str(base64: &str) -> Result<Self, Rejection> {
        let bytes = STANDARD.decode(base64).map_err(|_| Rejection::NotBase64)?;
        Ok(Self(bytes.try_into().map_err(|_| Rejection::WrongLength)?))
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

/// Why a request was not let in. For the operator's log only: a caller is told the same in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No signature header: the webhook has no secret in SuperOffice, or the caller is not SuperOffice.
    #[error("signature header missing")]
    Missing,
    /// More than one signature header.
    #[error("signature header repeated")]
    Repeated,
    /// The header is not standard base64 with padding.
    #[error("signature is not base64")]
    NotBase64,
    /// The header is base64, but not of 32 bytes.
    #[error("signature is not 32 bytes long")]
    WrongLength,
    /// No configured secret signed this body.
    #[error("signature mismatch")]
    Mismatch,
    /// No configured secret signed this body, but one with other white space around it did.
    #[error("signature mismatch: the secret has stray white space here or in SuperOffice")]
    StrayWhiteSpace,
    /// A configured secret signed this body, but not one of the tenant that the body names.
    #[error("signature of another tenant")]
    TenantMismatch,
}

/// Which of the configured secrets signed a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignedBy {
    /// The shared secret.
    Current,
    /// The shared secret that is being rotated out.
    Previous,
    /// One of the tenant's own secrets.
    Tenant,
}

impl SignedBy {
    /// `current`, `previous` or `tenant`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Tenant => "tenant",
        }
    }
}

/// A request body that one of the configured secrets signed, and the proof of it.
#[derive(Clone)]
pub struct VerifiedBody {
    bytes: Vec<u8>,
    signature: Signature,
    signed_by: SignedBy,
}

impl VerifiedBody {
    /// The body as it was received, byte for byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body as it was received, given away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The signature that was verified.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// Which secret signed it.
    pub fn signed_by(&self) -> SignedBy {
        self.signed_by
    }
}

impl fmt::Debug for VerifiedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifiedBody({} bytes)", self.bytes.len())
    }
}

/// The configured secrets, and the check against them.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    current: Option<Secret>,
    previous: Option<Secret>,
    tenants: BTreeMap<String, Vec<Secret>>,
}

impl Verifier {
    /// Accepts what `current` signed.
    pub fn new(current: Secret) -> Self {
        Self { current: Some(current), ..Self::default() }
    }

    /// Accepts what one of these signed: the shared secret, the one that is being rotated out, and for the
    /// tenants listed by `ContextIdentifier` their own secrets and no other.
    pub fn with_tenants(
        current: Option<Secret>,
        previous: Option<Secret>,
        tenants: BTreeMap<String, Vec<Secret>>,
    ) -> Self {
        Self { current, previous, tenants }
    }

    /// Also accepts what `previous` signed, while the secret is being rotated.
    #[must_use]
    pub fn with_previous(self, previous: Secret) -> Self {
        Self { previous: Some(previous), ..self }
    }

    /// Verifies a body against the values of its signature header.
    ///
    /// Every configured secret is tried, whichever matches, so that the time of a refusal tells nothing
    /// of them. The body is not looked into before one of them has signed it.
    ///
    /// # Errors
    ///
    /// [`Rejection`], for the log only.
    pub fn verify<S: AsRef<[u8]>>(
        &self,
        body: Vec<u8>,
        header_values: impl IntoIterator<Item = S>,
    ) -> Result<VerifiedBody, Rejection> {
        let signature = signature_from(header_values)?;
        let by = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| secret.signed(&body, &signature));
        let (current, previous) = (by(&self.current), by(&self.previous));
        let shared = if current { Some(SignedBy::Current) } else { previous.then_some(SignedBy::Previous) };
        let mut signers = Vec::new();
        for (tenant, secrets) in &self.tenants {
            if secrets.iter().fold(false, |any, secret| any | secret.signed(&body, &signature)) {
                signers.push(tenant.as_str());
            }
        }
        if shared.is_none() && signers.is_empty() {
            return Err(self.diagnose(&body, &signature));
        }
        let signed_by = self.authorize(&body, shared, &signers).ok_or(Rejection::TenantMismatch)?;
        Ok(VerifiedBody { bytes: body, signature, signed_by })
    }

    /// Whether those who signed the body may speak for the tenant that it names.
    fn authorize(&self, body: &[u8], shared: Option<SignedBy>, signers: &[&str]) -> Option<SignedBy> {
        if self.tenants.is_empty() {
            return shared;
        }
        let any = shared.or((!signers.is_empty()).then_some(SignedBy::Tenant));
        let Ok(head) = EventHead::read_signed(body) else {
            // Nobody's event: it goes to quarantine, and is checked again when it leaves it.
            return any;
        };
        if head.context_identifier_ambiguous {
            return None;
        }
        // A reader that does not mind the case takes one tenant for the other, so neither does this one.
        let named = head.context_identifier.as_deref().unwrap_or_default();
        match self.tenants.keys().find(|tenant| tenant.eq_ignore_ascii_case(named)) {
            Some(tenant) => signers.contains(&tenant.as_str()).then_some(SignedBy::Tenant),
            // The probe does nothing, and SuperOffice sends it without the tenant whose webhook is being saved.
            None if head.is_test() && head.names_no_tenant() => any,
            // Nobody's event either.
            None if head.context_identifier.is_none() && EventHead::parse_signed(body).is_err() => any,
            None => shared,
        }
    }

    /// Tells the usual mistakes apart. The same work is done whatever the outcome.
    fn diagnose(&self, body: &[u8], signature: &Signature) -> Rejection {
        if body.len() > MAX_DIAGNOSED_BYTES {
            return Rejection::Mismatch;
        }
        let slip = [&self.current, &self.previous]
            .into_iter()
            .flatten()
            .fold(false, |any, secret| any | secret.signed_but_for_white_space(body, signature));
        if slip { Rejection::StrayWhiteSpace } else { Rejection::Mismatch }
    }
}

fn signature_from<S: AsRef<[u8]>>(header_values: impl IntoIterator<Item = S>) -> Result<Signature, Rejection> {
    let mut values = header_values.into_iter();
    let value = values.next().ok_or(Rejection::Missing)?;
    // API Gateway joins the values of a repeated header with commas, which base64 does not have.
    if values.next().is_some() || value.as_ref().contains(&b',') {
        return Err(Rejection::Repeated);
    }
    std::str::from_utf8(value.as_ref()).map_err(|_| Rejection::NotBase64)?.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustA"}"#;

    fn secret(text: &str) -> Secret {
        Secret::new(text).unwrap()
    }

    fn signed(text: &str, body: &[u8]) -> String {
        secret(text).sign(body).to_string()
    }

    fn verify(verifier: &Verifier, body: &[u8], headers: &[&str]) -> Result<SignedBy, Rejection> {
        verifier.verify(body.to_vec(), headers).map(|body| body.signed_by())
    }

    fn with_tenants(current: Option<&str>, tenants: &[(&str, &[&str])]) -> Verifier {
        let tenants = tenants
            .iter()
            .map(|(tenant, secrets)| ((*tenant).to_owned(), secrets.iter().map(|text| secret(text)).collect()))
            .collect();
        Verifier::with_tenants(current.map(secret), None, tenants)
    }

    #[test]
    fn a_signature_made_by_pythons_hmac_is_accepted() {
        // base64.b64encode(hmac.new(b"s3cret", b'{"a":1}', "sha256").digest())
        let verifier = Verifier::new(secret("s3cret"));
        let signature = "WRDmIBbvUDQnLJJsJwcZkqRlwjNc7PQYUb2gcVd/T20=";
        assert_eq!(verify(&verifier, br#"{"a":1}"#, &[signature]), Ok(SignedBy::Current));
        assert_eq!(verify(&verifier, br#"{"a":2}"#, &[signature]), Err(Rejection::Mismatch));
    }

    #[test]
    fn a_refusal_names_the_mistake() {
        let verifier = Verifier::new(secret("right"));
        let signature = signed("right", BODY);
        let hex = "3f".repeat(32);
        for (headers, rejection, text) in [
            (vec![], Rejection::Missing, "signature header missing"),
            (vec![&*signature, &*signature], Rejection::Repeated, "signature header repeated"),
            (vec!["AAAA,AAAA"], Rejection::Repeated, "signature header repeated"),
            (vec!["?"], Rejection::NotBase64, "signature is not base64"),
            (vec![&signature[..43]], Rejection::NotBase64, "signature is not base64"),
            (vec![" "], Rejection::NotBase64, "signature is not base64"),
            (vec![""], Rejection::WrongLength, "signature is not 32 bytes long"),
            (vec![&hex], Rejection::WrongLength, "signature is not 32 bytes long"),
            (vec![&*signed("wrong", BODY)], Rejection::Mismatch, "signature mismatch"),
            (
                vec![&*signed("right\n", BODY)],
                Rejection::StrayWhiteSpace,
                "signature mismatch: the secret has stray white space here or in SuperOffice",
            ),
        ] {
            assert_eq!(verify(&verifier, BODY, &headers), Err(rejection), "{headers:?}");
            assert_eq!(rejection.to_string(), text);
        }
    }

    #[test]
    fn stray_white_space_is_found_on_either_side() {
        for (here, there) in [("right", "right "), ("right", " right"), ("right\r\n", "right"), (" right", "right\n")] {
            let verifier = Verifier::new(secret(here));
            assert_eq!(
                verify(&verifier, BODY, &[&signed(there, BODY)]),
                Err(Rejection::StrayWhiteSpace),
                "{here:?} {there:?}"
            );
            assert_eq!(verify(&verifier, BODY, &[&signed(here, BODY)]), Ok(SignedBy::Current));
        }
    }

    #[test]
    fn both_secrets_are_accepted_during_rotation() {
        let verifier = Verifier::new(secret("new")).with_previous(secret("old"));
        assert_eq!(verify(&verifier, BODY, &[&signed("new", BODY)]), Ok(SignedBy::Current));
        assert_eq!(verify(&verifier, BODY, &[&signed("old", BODY)]), Ok(SignedBy::Previous));
        assert_eq!(verify(&verifier, BODY, &[&signed("older", BODY)]), Err(Rejection::Mismatch));
    }

    #[test]
    fn a_listed_tenant_speaks_with_its_own_secrets_and_no_other() {
        let verifier =
            with_tenants(Some("shared"), &[("CustA", &["a", "a2"]), ("CustB", &["b", "both"]), ("C", &["both"])]);
        let event = |tenant: &str| format!(r#"{{"Event":"contact.changed","EventId":"1"{tenant}}}"#).into_bytes();
        let (a, b) = (event(r#","ContextIdentifier":"CustA""#), event(r#","ContextIdentifier":"CustB""#));
        let other_case = event(r#","ContextIdentifier":"CUSTa""#);
        let (unlisted, none) = (event(r#","ContextIdentifier":"CustX""#), event(""));
        for (body, by, expected) in [
            (&a, "a", Ok(SignedBy::Tenant)),
            (&a, "a2", Ok(SignedBy::Tenant)),
            (&a, "b", Err(Rejection::TenantMismatch)),
            (&a, "shared", Err(Rejection::TenantMismatch)),
            (&other_case, "a", Ok(SignedBy::Tenant)),
            (&other_case, "shared", Err(Rejection::TenantMismatch)),
            (&a, "nobody's", Err(Rejection::Mismatch)),
            (&b, "both", Ok(SignedBy::Tenant)),
            (&unlisted, "shared", Ok(SignedBy::Current)),
            (&unlisted, "a", Err(Rejection::TenantMismatch)),
            (&none, "shared", Ok(SignedBy::Current)),
            (&none, "a", Err(Rejection::TenantMismatch)),
        ] {
            assert_eq!(verify(&verifier, body, &[&signed(by, body)]), expected, "{by}");
        }
    }

    #[test]
    fn a_tenant_cannot_hide_behind_a_second_context_identifier() {
        let verifier = with_tenants(Some("shared"), &[("CustA", &["a"]), ("CustB", &["b"])]);
        let body =
            br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustB","ContextIdentifier":"CustA"}"#;
        assert_eq!(verify(&verifier, body, &[&signed("a", body)]), Err(Rejection::TenantMismatch));
        let escaped = br#"{"Event":"contact.changed","EventId":"1","Context\u0049dentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, escaped, &[&signed("a", escaped)]), Err(Rejection::TenantMismatch));
    }

    #[test]
    fn a_tenant_cannot_hide_behind_a_context_identifier_in_other_case() {
        let verifier = with_tenants(Some("shared"), &[("CustA", &["a"]), ("CustB", &["b"])]);
        let both =
            br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustA","contextIdentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, both, &[&signed("a", both)]), Err(Rejection::TenantMismatch));
        let only = br#"{"Event":"contact.changed","EventId":"1","contextidentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, only, &[&signed("shared", only)]), Err(Rejection::TenantMismatch));
        // Who has no tenants of their own has nothing to mix up.
        let verifier = Verifier::new(secret("shared"));
        assert_eq!(verify(&verifier, both, &[&signed("shared", both)]), Ok(SignedBy::Current));
    }

    #[test]
    fn a_tenants_webhook_can_be_saved_although_the_probe_need_not_name_the_tenant() {
        let verifier = with_tenants(None, &[("CustA", &["a"]), ("CustB", &["b"])]);
        let probe = br#"{"Event":"test","EventId":"1","ContextIdentifier":"Default"}"#;
        assert_eq!(verify(&verifier, probe, &[&signed("a", probe)]), Ok(SignedBy::Tenant));
        for other in ["CustX", "default", "CustA "] {
            let probe = format!(r#"{{"Event":"test","EventId":"1","ContextIdentifier":"{other}"}}"#).into_bytes();
            assert_eq!(verify(&verifier, &probe, &[&signed("a", &probe)]), Err(Rejection::TenantMismatch), "{other}");
        }
        let of_b = br#"{"Event":"test","EventId":"1","ContextIdentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, of_b, &[&signed("a", of_b)]), Err(Rejection::TenantMismatch));
    }

    #[test]
    fn a_body_that_is_not_understood_is_anybodys() {
        let verifier = with_tenants(None, &[("CustA", &["a"])]);
        for body in [&b"not JSON"[..], br#"{"EventId":"1"}"#, br#"{"ContextIdentifier":"CustA"}"#] {
            assert_eq!(verify(&verifier, body, &[&signed("a", body)]), Ok(SignedBy::Tenant));
        }
        let of_another = br#"{"ContextIdentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, of_another, &[&signed("a", of_another)]), Err(Rejection::TenantMismatch));
    }

    #[test]
    fn nothing_shows_a_secret_a_signature_or_a_body() {
        let verifier = with_tenants(Some("hush-current"), &[("CustA", &["hush-tenant"])]);
        let body = verifier.verify(b"hush-body".to_vec(), [signed("hush-current", b"hush-body")]).unwrap();
        let shown = format!("{verifier:?} {body:?} {:?}", body.signature());
        assert!(!shown.contains("hush") && !shown.contains(&body.signature().to_string()), "{shown}");
    }

    #[test]
    fn an_empty_secret_is_refused() {
        assert_eq!(Secret::new("").unwrap_err().to_string(), "the secret is empty");
    }
}
