//! Authentication of a request body, and the proof of it.
//!
//! [`Verifier`] is the only source of an [`AuthorizedBody`], and a queue message is made only from an
//! [`AuthorizedBody`]. So an unsigned body cannot be queued.

use std::fmt;

use crate::webhook::authorization::{SignedBy, Signers};
use crate::webhook::diagnosis::has_stray_whitespace;
use crate::webhook::json::JsonError;
use crate::webhook::metadata::{EventMetadata, ParseError};
use crate::webhook::signature::{InvalidSignature, Secret, Signature, any_verifies};
use crate::webhook::tenant::{self, MasterSecret, TenantSecrets};

/// The reason why a request is not authenticated. For the log only: the response is the same in every case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// No signature header: the webhook has no secret in SuperOffice, or the sender is not SuperOffice.
    #[error("signature header missing")]
    Missing,
    /// More than one signature header.
    #[error("signature header repeated")]
    Repeated,
    /// The header is not base64 of 32 bytes.
    #[error(transparent)]
    Invalid(#[from] InvalidSignature),
    /// No configured secret signed this body.
    #[error("signature mismatch")]
    Mismatch,
    /// No configured secret signed this body, but a secret with other whitespace around it did.
    #[error("signature mismatch: the secret has stray whitespace here or in SuperOffice")]
    StrayWhitespace,
    /// A configured secret signed this body, but not a secret of the tenant that the body names.
    #[error("tenant mismatch")]
    TenantMismatch,
}

/// The proof that a secret of the body's own tenant signed the body.
///
/// The proof owns the body and its metadata, so other metadata cannot be passed instead. Only a [`Verifier`] creates it:
///
/// ```compile_fail,E0451
/// # use superoffice_webhook::{AuthorizedBody, Secret, SignedBy};
/// # let (bytes, signature) = (b"{}".to_vec(), Secret::new("secret").unwrap().sign(b"{}"));
/// # let metadata = superoffice_webhook::EventMetadata::default();
/// let forged = AuthorizedBody { bytes, metadata: Ok(metadata), signature, signed_by: SignedBy::Current };
/// ```
pub struct AuthorizedBody {
    bytes: Vec<u8>,
    metadata: Result<EventMetadata, ParseError>,
    signature: Signature,
    signed_by: SignedBy,
}

impl AuthorizedBody {
    /// Creates the proof after authorization. The metadata is validated last, because a malformed body must not be
    /// quarantined for another tenant either.
    fn new(
        bytes: Vec<u8>,
        metadata: Result<EventMetadata, JsonError>,
        signature: Signature,
        signed_by: SignedBy,
    ) -> Self {
        let metadata = metadata.map_err(ParseError::from).and_then(EventMetadata::validated);
        Self { bytes, metadata, signature, signed_by }
    }

    /// The body as received, byte for byte.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The metadata of the event, or the reason why the body is malformed.
    pub fn metadata(&self) -> Result<&EventMetadata, &ParseError> {
        self.metadata.as_ref()
    }

    /// The verified signature.
    pub fn signature(&self) -> Signature {
        self.signature
    }

    /// The kind of secret that signed the body.
    pub fn signed_by(&self) -> SignedBy {
        self.signed_by
    }

    /// Consumes the proof and returns the body, its parse result and its signature.
    pub(crate) fn into_parts(self) -> (Vec<u8>, Result<EventMetadata, ParseError>, Signature) {
        (self.bytes, self.metadata, self.signature)
    }
}

impl fmt::Debug for AuthorizedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorizedBody({} bytes)", self.bytes.len())
    }
}

/// The configured secrets.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    current: Option<Secret>,
    previous: Option<Secret>,
    tenants: TenantSecrets,
    masters: Vec<MasterSecret>,
}

impl Verifier {
    /// Creates a verifier with one shared secret.
    pub fn new(current: Secret) -> Self {
        Self { current: Some(current), ..Self::default() }
    }

    /// Creates a verifier with the shared secrets and the secrets of single tenants.
    pub fn with_tenants(current: Option<Secret>, previous: Option<Secret>, tenants: TenantSecrets) -> Self {
        Self { current, previous, tenants, masters: Vec::new() }
    }

    /// Adds a previous shared secret, accepted during rotation.
    #[must_use]
    pub fn with_previous(self, previous: Secret) -> Self {
        Self { previous: Some(previous), ..self }
    }

    /// Adds a master secret. The secrets that it derives are accepted on the tenants' paths. A second master secret is
    /// accepted during rotation.
    #[must_use]
    pub fn with_master(mut self, master: MasterSecret) -> Self {
        self.masters.push(master);
        self
    }

    /// Returns `true` if the only secret is the previous shared secret.
    pub fn has_only_previous(&self) -> bool {
        self.current.is_none() && self.tenants.is_empty() && self.masters.is_empty()
    }

    /// Verifies the signature of a request body, and that the secret may sign for the tenant that the body names.
    ///
    /// With a master secret and a tenant in the path, `…/webhook/<tenant>`, only the secrets of this tenant are
    /// accepted. Otherwise the path has no meaning, and derived secrets are not accepted. All secrets are tried, so that
    /// the duration reveals nothing about them.
    ///
    /// # Errors
    ///
    /// [`Rejection`], for the log only.
    pub fn authenticate<S: AsRef<[u8]>>(
        &self,
        path: &str,
        body: Vec<u8>,
        header_values: impl IntoIterator<Item = S>,
    ) -> Result<AuthorizedBody, Rejection> {
        let signature = parse_header(header_values)?;
        let tenant = tenant::from_path(path).filter(|_| !self.masters.is_empty());
        let signers = match &tenant {
            Some(tenant) => self.signers_for_tenant(tenant, &body, &signature)?,
            None => self.signers(&body, &signature)?,
        };
        let metadata = EventMetadata::parse(&body);
        let signed_by = self.authorize(&signers, metadata.as_ref().ok())?;
        Ok(AuthorizedBody::new(body, metadata, signature, signed_by))
    }

    /// Verifies the body of a queue message, which does not contain the path. The body is accepted if it would be
    /// accepted without a tenant in the path, or on the path of the tenant that it names.
    ///
    /// # Errors
    ///
    /// [`Rejection`]
    pub fn verify_message(&self, body: &[u8], signature: Option<&str>) -> Result<AuthorizedBody, Rejection> {
        let signature = parse_header(signature)?;
        let signers = match self.signers(body, &signature) {
            // Without a master secret, an unsigned body is not parsed.
            Err(rejection) if self.masters.is_empty() => return Err(rejection),
            signers => signers,
        };
        let metadata = EventMetadata::parse(body);
        let claimed = metadata.as_ref().ok();
        let tenant = claimed.and_then(EventMetadata::context_identifier).filter(|_| !self.masters.is_empty());
        let signed_by = match (signers.and_then(|signers| self.authorize(&signers, claimed)), tenant) {
            (Err(_), Some(tenant)) => self.authorize(&self.signers_for_tenant(tenant, body, &signature)?, claimed)?,
            (result, _) => result?,
        };
        Ok(AuthorizedBody::new(body.to_vec(), metadata, signature, signed_by))
    }

    /// Returns the shared and listed secrets that signed a body.
    fn signers(&self, body: &[u8], signature: &Signature) -> Result<Signers<'_>, Rejection> {
        let signed = |secret: &Option<Secret>| secret.as_ref().is_some_and(|secret| secret.verifies(body, signature));
        let (current, previous) = (signed(&self.current), signed(&self.previous));
        let shared = if current { Some(SignedBy::Current) } else { previous.then_some(SignedBy::Previous) };
        let tenants = self.tenants.signers(body, signature);
        if shared.is_none() && tenants.is_empty() {
            return Err(self.diagnose(body, signature));
        }
        Ok(Signers::AnyTenant { shared, tenants })
    }

    /// Returns the kind of a tenant's secrets that signed a body: the listed secrets, otherwise the derived ones.
    fn signers_for_tenant<'t>(
        &self,
        tenant: &'t str,
        body: &[u8],
        signature: &Signature,
    ) -> Result<Signers<'t>, Rejection> {
        let (is_valid, signed_by) = match self.tenants.get(tenant) {
            Some(listed) => (any_verifies(listed, body, signature), SignedBy::Tenant),
            None => {
                let derived: Vec<Secret> = self.masters.iter().map(|master| master.derive(tenant)).collect();
                (any_verifies(&derived, body, signature), SignedBy::Derived)
            }
        };
        if is_valid { Ok(Signers::PathTenant { tenant, signed_by }) } else { Err(Rejection::Mismatch) }
    }

    fn authorize(&self, signers: &Signers<'_>, metadata: Option<&EventMetadata>) -> Result<SignedBy, Rejection> {
        signers.authorize(&self.tenants, metadata).ok_or(Rejection::TenantMismatch)
    }

    fn diagnose(&self, body: &[u8], signature: &Signature) -> Rejection {
        let shared: Vec<&Secret> = [&self.current, &self.previous].into_iter().flatten().collect();
        if has_stray_whitespace(&shared, body, signature) { Rejection::StrayWhitespace } else { Rejection::Mismatch }
    }
}

fn parse_header<S: AsRef<[u8]>>(header_values: impl IntoIterator<Item = S>) -> Result<Signature, Rejection> {
    let mut values = header_values.into_iter();
    let value = values.next().ok_or(Rejection::Missing)?;
    // API Gateway joins the values of a repeated header with commas, which base64 does not contain.
    if values.next().is_some() || value.as_ref().contains(&b',') {
        return Err(Rejection::Repeated);
    }
    Ok(std::str::from_utf8(value.as_ref()).map_err(|_| InvalidSignature::NotBase64)?.parse::<Signature>()?)
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
        verifier.authenticate("/webhook", body.to_vec(), headers).map(|body| body.signed_by())
    }

    fn with_tenants(current: Option<&str>, tenants: &[(&str, &[&str])]) -> Verifier {
        let tenants = tenants
            .iter()
            .map(|(tenant, secrets)| ((*tenant).to_owned(), secrets.iter().map(|text| secret(text)).collect()));
        Verifier::with_tenants(current.map(secret), None, TenantSecrets::new(tenants).unwrap())
    }

    #[test]
    fn rejection_names_the_mistake() {
        let verifier = Verifier::new(secret("right"));
        let signature = signed("right", BODY);
        for (headers, text) in [
            (vec![], "signature header missing"),
            (vec![&*signature, &*signature], "signature header repeated"),
            (vec!["AAAA,AAAA"], "signature header repeated"),
            (vec!["?"], "signature is not base64"),
            (vec!["AAAA"], "signature is not 32 bytes long"),
            (vec![&*signed("wrong", BODY)], "signature mismatch"),
            (
                vec![&*signed("right\n", BODY)],
                "signature mismatch: the secret has stray whitespace here or in SuperOffice",
            ),
        ] {
            assert_eq!(verify(&verifier, BODY, &headers).unwrap_err().to_string(), text, "{headers:?}");
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
    fn listed_tenant_is_accepted_with_its_own_secrets_only() {
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
            (&a, "unknown", Err(Rejection::Mismatch)),
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
    fn second_context_identifier_is_rejected() {
        let verifier = with_tenants(Some("shared"), &[("CustA", &["a"]), ("CustB", &["b"])]);
        let body =
            br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustB","ContextIdentifier":"CustA"}"#;
        assert_eq!(verify(&verifier, body, &[&signed("a", body)]), Err(Rejection::TenantMismatch));
        let escaped = br#"{"Event":"contact.changed","EventId":"1","Context\u0049dentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, escaped, &[&signed("a", escaped)]), Err(Rejection::TenantMismatch));
        // Neither a registration probe nor a malformed body may name two tenants.
        for body in [
            &br#"{"Event":"test","EventId":"1","ContextIdentifier":"CustB","ContextIdentifier":"CustA"}"#[..],
            br#"{"Event":"test","contextidentifier":"CustB"}"#,
            br#"{"ContextIdentifier":"CustB","ContextIdentifier":"CustA"}"#,
            br#"{"ContextIdentifier":"CustA","ContextIdentifier":"Default"}"#,
        ] {
            let text = String::from_utf8_lossy(body);
            for secret in ["a", "b", "shared"] {
                let result = verify(&verifier, body, &[&signed(secret, body)]);
                assert_eq!(result, Err(Rejection::TenantMismatch), "{secret} {text}");
            }
            let verifier = Verifier::default().with_master(MASTER.parse().unwrap());
            for tenant in ["CustA", "CustB"] {
                let result = verify_at(&verifier, &format!("/webhook/{tenant}"), body, &derived(MASTER, tenant));
                assert_eq!(result, Err(Rejection::TenantMismatch), "{tenant} {text}");
            }
        }
        // A shared secret alone signs for every tenant.
        let shared = with_tenants(Some("shared"), &[]);
        assert_eq!(verify(&shared, body, &[&signed("shared", body)]), Ok(SignedBy::Current));
    }

    #[test]
    fn secret_that_is_configured_twice_is_accepted() {
        let verifier = Verifier::with_tenants(None, None, r#"{"CustA":["a","a"]}"#.parse().unwrap());
        let body = br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustA"}"#;
        assert_eq!(verify(&verifier, body, &[&signed("a", body)]), Ok(SignedBy::Tenant));
    }

    #[test]
    fn message_of_another_tenant_is_a_mismatch_of_tenants() {
        let verifier = with_tenants(None, &[("CustA", &["a"]), ("CustB", &["b"])]);
        let body = br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustB"}"#;
        let result = verifier.verify_message(body, Some(&signed("a", body)));
        assert_eq!(result.unwrap_err(), Rejection::TenantMismatch);
    }

    #[test]
    fn context_identifier_in_another_case_is_rejected() {
        let verifier = with_tenants(Some("shared"), &[("CustA", &["a"]), ("CustB", &["b"])]);
        let both =
            br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustA","contextIdentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, both, &[&signed("a", both)]), Err(Rejection::TenantMismatch));
        let only = br#"{"Event":"contact.changed","EventId":"1","contextidentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, only, &[&signed("shared", only)]), Err(Rejection::TenantMismatch));
        // Without tenant secrets there is nothing to confuse.
        let verifier = Verifier::new(secret("shared"));
        assert_eq!(verify(&verifier, both, &[&signed("shared", both)]), Ok(SignedBy::Current));
    }

    #[test]
    fn registration_probe_need_not_name_its_tenant() {
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
    fn malformed_body_without_a_tenant_is_accepted_from_any_tenant() {
        let verifier = with_tenants(None, &[("CustA", &["a"])]);
        for body in [&b"not JSON"[..], br#"{"EventId":"1"}"#, br#"{"ContextIdentifier":"CustA"}"#] {
            assert_eq!(verify(&verifier, body, &[&signed("a", body)]), Ok(SignedBy::Tenant));
        }
        let of_another = br#"{"ContextIdentifier":"CustB"}"#;
        assert_eq!(verify(&verifier, of_another, &[&signed("a", of_another)]), Err(Rejection::TenantMismatch));
    }

    #[test]
    fn proof_owns_the_parse_result_of_its_body() {
        let verifier = Verifier::new(secret("shared"));
        for (body, expected) in [
            (BODY, Ok("contact.changed")),
            (b"", Err("not JSON: EOF while parsing a value at line 1 column 0")),
            (br#"{"EventId":"1"}"#, Err("no usable Event")),
        ] {
            let signature = signed("shared", body);
            let authenticated = verifier.authenticate("", body.to_vec(), [&signature]).unwrap();
            let message = verifier.verify_message(body, Some(&signature)).unwrap();
            for proof in [authenticated, message] {
                let event = proof.metadata().map(EventMetadata::event).map_err(ToString::to_string);
                assert_eq!((event, proof.bytes()), (expected.map_err(str::to_owned), body));
                assert_eq!(proof.signature().to_string(), signature);
            }
        }
    }

    #[test]
    fn debug_output_shows_neither_secrets_nor_signature_nor_body() {
        let verifier = with_tenants(Some("hush-current"), &[("CustA", &["hush-tenant"])])
            .with_previous(secret("hush-previous"))
            .with_master("hush-master-secret of 32 bytes or more".parse().unwrap());
        let authorized = verifier.verify_message(b"hush-body", Some(&signed("hush-current", b"hush-body"))).unwrap();
        let shown = format!("{verifier:?} {authorized:?} {:?}", authorized.signature());
        assert!(shown.contains("AuthorizedBody(9 bytes)"), "{shown}");
        assert!(!shown.contains("hush") && !shown.contains(&authorized.signature().to_string()), "{shown}");
    }

    const MASTER: &str = "0123456789abcdef0123456789abcdef";
    const PREVIOUS_MASTER: &str = "an older master secret of 32 bytes";

    fn derived(master: &str, tenant: &str) -> String {
        master.parse::<MasterSecret>().unwrap().derive_text(tenant)
    }

    fn event_of(tenant: &str) -> Vec<u8> {
        format!(r#"{{"Event":"contact.changed","EventId":"1","ContextIdentifier":"{tenant}"}}"#).into_bytes()
    }

    fn verify_at(verifier: &Verifier, path: &str, body: &[u8], secret: &str) -> Result<SignedBy, Rejection> {
        verifier.authenticate(path, body.to_vec(), [signed(secret, body)]).map(|body| body.signed_by())
    }

    #[test]
    fn derived_secret_is_accepted_on_its_tenants_path_only() {
        let verifier = Verifier::new(secret("shared")).with_master(MASTER.parse().unwrap());
        let (a, b) = (derived(MASTER, "CustA"), derived(MASTER, "CustB"));
        let (of_a, of_b) = (event_of("CustA"), event_of("CustB"));
        let none = br#"{"Event":"contact.changed","EventId":"1"}"#;
        for (path, body, secret, expected) in [
            ("/webhook/CustA", &of_a[..], a.as_str(), Ok(SignedBy::Derived)),
            ("/prod/Webhook/cust%41/", &of_a, &a, Ok(SignedBy::Derived)),
            ("/webhook/CustA", &event_of("CUSTA"), &a, Ok(SignedBy::Derived)),
            ("/webhook/CustB", &of_a, &a, Err(Rejection::Mismatch)),
            ("/webhook/CustB", &of_a, &b, Err(Rejection::TenantMismatch)),
            ("/webhook/CustA", &of_b, &a, Err(Rejection::TenantMismatch)),
            ("/webhook/CustA", none, &a, Err(Rejection::TenantMismatch)),
            ("/webhook/CustA", &event_of("Default"), &a, Err(Rejection::TenantMismatch)),
            ("/webhook/CustA", &of_a, "shared", Err(Rejection::Mismatch)),
            ("/webhook", &of_a, &a, Err(Rejection::Mismatch)),
            ("/webhook/CustA/events", &of_a, &a, Err(Rejection::Mismatch)),
            ("/", &of_a, &a, Err(Rejection::Mismatch)),
            ("/webhook/CustA", &of_a, &derived(PREVIOUS_MASTER, "CustA"), Err(Rejection::Mismatch)),
            ("/webhook", &of_a, "shared", Ok(SignedBy::Current)),
            ("/webhook/CustA", b"not JSON", &a, Ok(SignedBy::Derived)),
            ("/webhook/CustA", br#"{"Event":" test ","EventId":"1"}"#, &a, Ok(SignedBy::Derived)),
        ] {
            assert_eq!(verify_at(&verifier, path, body, secret), expected, "{path} {}", String::from_utf8_lossy(body));
        }
        let twice =
            br#"{"Event":"contact.changed","EventId":"1","ContextIdentifier":"CustB","ContextIdentifier":"CustA"}"#;
        assert_eq!(verify_at(&verifier, "/webhook/CustA", twice, &a), Err(Rejection::TenantMismatch));
    }

    #[test]
    fn listed_secrets_override_the_derived_one() {
        let verifier = with_tenants(Some("shared"), &[("CustA", &["a", "a2"])]).with_master(MASTER.parse().unwrap());
        let of_a = event_of("CustA");
        for (secret, expected) in [
            ("a", Ok(SignedBy::Tenant)),
            ("a2", Ok(SignedBy::Tenant)),
            ("shared", Err(Rejection::Mismatch)),
            (&derived(MASTER, "CustA"), Err(Rejection::Mismatch)),
        ] {
            assert_eq!(verify_at(&verifier, "/webhook/custA", &of_a, secret), expected);
        }
        assert_eq!(verify_at(&verifier, "/webhook", &of_a, "a"), Ok(SignedBy::Tenant));
        let of_b = event_of("CustB");
        assert_eq!(verify_at(&verifier, "/webhook/CustA", &of_b, "a"), Err(Rejection::TenantMismatch));
        assert_eq!(verify_at(&verifier, "/webhook/CustB", &of_a, "a"), Err(Rejection::Mismatch));
        for path in ["/webhook", "/", "/webhook/CustB"] {
            let result = verify_at(&verifier, path, &of_a, &derived(MASTER, "CustA"));
            assert_eq!(result, Err(Rejection::Mismatch), "{path}");
        }
    }

    #[test]
    fn registration_probe_on_a_tenants_path_may_name_no_tenant() {
        let verifier = Verifier::default().with_master(MASTER.parse().unwrap());
        let secret = derived(MASTER, "CustA");
        for (tenant, expected) in [
            ("", Ok(SignedBy::Derived)),
            (r#","ContextIdentifier":"Default""#, Ok(SignedBy::Derived)),
            (r#","ContextIdentifier":"custa""#, Ok(SignedBy::Derived)),
            (r#","ContextIdentifier":"CustB""#, Err(Rejection::TenantMismatch)),
        ] {
            let probe = format!(r#"{{"Event":"test","EventId":"1"{tenant}}}"#).into_bytes();
            assert_eq!(verify_at(&verifier, "/webhook/CustA", &probe, &secret), expected, "{tenant}");
        }
        // With whitespace around `Event`, the body is malformed, and no probe.
        let malformed = br#"{"Event":"test ","EventId":"1","ContextIdentifier":"Default"}"#;
        assert_eq!(verify_at(&verifier, "/webhook/CustA", malformed, &secret), Err(Rejection::TenantMismatch));
    }

    #[test]
    fn both_master_secrets_are_accepted_during_rotation() {
        let verifier =
            Verifier::default().with_master(MASTER.parse().unwrap()).with_master(PREVIOUS_MASTER.parse().unwrap());
        for master in [MASTER, PREVIOUS_MASTER] {
            let secret = derived(master, "CustA");
            assert_eq!(
                verify_at(&verifier, "/webhook/CustA", &event_of("CustA"), &secret),
                Ok(SignedBy::Derived),
                "{master}"
            );
        }
    }

    #[test]
    fn path_has_no_meaning_without_a_master_secret() {
        let verifier = Verifier::new(secret("shared"));
        assert_eq!(verify_at(&verifier, "/webhook/CustA", &event_of("CustB"), "shared"), Ok(SignedBy::Current));
    }

    #[test]
    fn message_is_verified_with_the_secret_of_the_tenant_in_its_body() {
        let verifier = with_tenants(Some("shared"), &[("CustL", &["l"])]).with_master(MASTER.parse().unwrap());
        let a = derived(MASTER, "CustA");
        for (tenant, secret, expected) in [
            ("CustA", a.as_str(), Ok(SignedBy::Derived)),
            ("CustA", "shared", Ok(SignedBy::Current)),
            ("CustB", &a, Err(Rejection::Mismatch)),
            ("CustL", "l", Ok(SignedBy::Tenant)),
            ("CustL", &derived(MASTER, "CustL"), Err(Rejection::Mismatch)),
        ] {
            let body = event_of(tenant);
            let result = verifier.verify_message(&body, Some(&signed(secret, &body)));
            assert_eq!(result.map(|body| body.signed_by()), expected, "{tenant}");
        }
        assert_eq!(verifier.verify_message(&event_of("CustA"), None).unwrap_err(), Rejection::Missing);
    }
}
