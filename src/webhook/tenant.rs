//! The secrets of each tenant: listed, or derived from a master secret.
//!
//! Derived secrets need no storage, so there can be any number of tenants. The request path names the tenant whose
//! secret to derive.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::webhook::signature::{Secret, Signature, any_verifies};

/// The maximum number of tenant secrets. Each costs one MAC over every body, signed or not.
pub const MAX_TENANT_SECRETS: usize = 100;

/// The secrets of single tenants, by `ContextIdentifier`. A listed tenant's events are accepted only with one of its
/// own secrets.
///
/// Parsed from a JSON object: `{"Cust1": "secret", "Cust2": ["secret", "secret"]}`.
#[derive(Clone, Debug, Default)]
pub struct TenantSecrets(BTreeMap<String, Vec<Secret>>);

/// An invalid list of tenant secrets. The text shows neither secrets nor tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TenantSecretsError {
    /// The text is not a JSON object of the expected types.
    #[error(
        "expected a JSON object that maps each ContextIdentifier to a secret or an array of secrets \
         (line {line}, column {column})"
    )]
    NotAnObject {
        /// The line of the error, from 1.
        line: usize,
        /// The column of the error, from 1.
        column: usize,
    },
    /// A secret is empty or only whitespace.
    #[error("contains an empty secret")]
    EmptySecret,
    /// A `ContextIdentifier` is empty.
    #[error("contains an empty ContextIdentifier")]
    EmptyTenant,
    /// A tenant has no secrets.
    #[error("contains a tenant without a secret")]
    NoSecret,
    /// A `ContextIdentifier` is repeated; letter case is ignored.
    #[error("contains a ContextIdentifier twice")]
    DuplicateTenant,
    /// There are more than [`MAX_TENANT_SECRETS`].
    #[error("contains {0} secrets, at most {MAX_TENANT_SECRETS} are accepted")]
    TooMany(usize),
}

impl TenantSecrets {
    /// Creates a list from the secrets of each `ContextIdentifier`.
    ///
    /// # Errors
    ///
    /// All of [`TenantSecretsError`] except `NotAnObject` and `EmptySecret`.
    pub fn new(secrets: impl IntoIterator<Item = (String, Vec<Secret>)>) -> Result<Self, TenantSecretsError> {
        let mut tenants: BTreeMap<String, Vec<Secret>> = BTreeMap::new();
        for (tenant, secrets) in secrets {
            if tenant.is_empty() {
                return Err(TenantSecretsError::EmptyTenant);
            }
            if secrets.is_empty() {
                return Err(TenantSecretsError::NoSecret);
            }
            if tenants.keys().any(|other| other.eq_ignore_ascii_case(&tenant)) {
                return Err(TenantSecretsError::DuplicateTenant);
            }
            tenants.insert(tenant, secrets);
        }
        match tenants.values().map(Vec::len).sum() {
            count if count > MAX_TENANT_SECRETS => Err(TenantSecretsError::TooMany(count)),
            _ => Ok(Self(tenants)),
        }
    }

    /// Returns `true` if no tenant is listed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the listed name of a tenant. Letter case is ignored, because consumers may ignore it.
    pub(super) fn listed_name(&self, tenant: &str) -> Option<&str> {
        self.0.keys().find(|listed| listed.eq_ignore_ascii_case(tenant)).map(String::as_str)
    }

    /// Returns the secrets of a listed tenant.
    pub(super) fn get(&self, tenant: &str) -> Option<&[Secret]> {
        self.0.get(self.listed_name(tenant)?).map(Vec::as_slice)
    }

    /// Returns the listed tenants whose secrets signed the body. All secrets are tried.
    pub(super) fn signers(&self, body: &[u8], signature: &Signature) -> Vec<&str> {
        let signed = |secrets: &Vec<Secret>| any_verifies(secrets, body, signature);
        self.0.iter().filter(|(_, secrets)| signed(secrets)).map(|(tenant, _)| tenant.as_str()).collect()
    }
}

impl FromStr for TenantSecrets {
    type Err = TenantSecretsError;

    fn from_str(json: &str) -> Result<Self, TenantSecretsError> {
        // The text of a JSON error quotes values, which are secrets.
        let Entries(entries) = serde_json::from_str(json)
            .map_err(|error| TenantSecretsError::NotAnObject { line: error.line(), column: error.column() })?;
        let mut tenants = Vec::with_capacity(entries.len());
        for (tenant, secrets) in entries {
            let secrets: Result<_, _> = secrets.iter().map(|text| text.parse()).collect();
            tenants.push((tenant, secrets.map_err(|_| TenantSecretsError::EmptySecret)?));
        }
        Self::new(tenants)
    }
}

/// The entries of a JSON object in order, so that a repeated tenant is noticed.
struct Entries(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }

        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some((tenant, secrets)) = map.next_entry()? {
                    let secrets = match secrets {
                        OneOrMany::One(secret) => vec![secret],
                        OneOrMany::Many(secrets) => secrets,
                    };
                    entries.push((tenant, secrets));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// A secret that derives a secret for every tenant.
#[derive(Clone, Debug)]
pub struct MasterSecret(Secret);

/// The minimum length of a master secret, in bytes: the length of the secrets that it derives.
pub const MIN_MASTER_SECRET_BYTES: usize = 32;

/// A master secret that is too short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the master secret is shorter than {MIN_MASTER_SECRET_BYTES} bytes, or only whitespace")]
pub struct ShortMasterSecret;

impl FromStr for MasterSecret {
    type Err = ShortMasterSecret;

    fn from_str(text: &str) -> Result<Self, ShortMasterSecret> {
        if text.len() < MIN_MASTER_SECRET_BYTES {
            return Err(ShortMasterSecret);
        }
        text.parse().map(Self).map_err(|_| ShortMasterSecret)
    }
}

impl MasterSecret {
    /// Returns the text to configure as the tenant's secret in SuperOffice. Letter case of the tenant is ignored.
    pub fn derive_text(&self, tenant: &str) -> String {
        let message = format!("superoffice-webhook/tenant/v1/{}", tenant.to_ascii_lowercase());
        self.0.sign(message.as_bytes()).to_string()
    }

    /// Returns the tenant's secret.
    pub fn derive(&self, tenant: &str) -> Secret {
        #[expect(clippy::expect_used, reason = "the base64 of 32 bytes is not empty")]
        Secret::new(self.derive_text(tenant)).expect("the base64 of 32 bytes is not empty")
    }
}

/// Returns the tenant in a path: the last segment, percent-decoded, if it directly follows a segment `webhook` in any
/// letter case.
///
/// A stage and a base path may precede the two segments. A trailing slash is ignored.
///
/// ```
/// use superoffice_webhook::webhook::tenant;
///
/// assert_eq!(tenant::from_path("/prod/webhook/Cust1234/").as_deref(), Some("Cust1234"));
/// assert_eq!(tenant::from_path("/webhook"), None);
/// ```
pub fn from_path(path: &str) -> Option<Cow<'_, str>> {
    let mut segments = path.trim_end_matches('/').rsplit('/');
    let tenant = segments.next()?;
    let is_tenant = segments.next()?.eq_ignore_ascii_case("webhook");
    is_tenant.then(|| percent_decode_str(tenant).decode_utf8_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_mistake_without_the_secret() {
        let many: Vec<String> = (0..=MAX_TENANT_SECRETS).map(|i| format!(r#""{i}":"hush""#)).collect();
        let many = format!("{{{}}}", many.join(","));
        let expected = "expected a JSON object that maps each ContextIdentifier to a secret or an array of secrets";
        for (json, error) in [
            (r#"{"Cust1":""}"#, "contains an empty secret"),
            (r#"{"Cust1":["hush",""]}"#, "contains an empty secret"),
            (r#"{"Cust1":" "}"#, "contains an empty secret"),
            (r#"{"":"hush"}"#, "contains an empty ContextIdentifier"),
            (r#"{"Cust1":[]}"#, "contains a tenant without a secret"),
            (r#"{"Cust1":"hush","Cust1":"hush2"}"#, "contains a ContextIdentifier twice"),
            (r#"{"Cust1":"hush","cusT1":"hush2"}"#, "contains a ContextIdentifier twice"),
            (&many, "contains 101 secrets, at most 100 are accepted"),
            (r#"["hush"]"#, &format!("{expected} (line 1, column 0)")),
            (r#"{"Cust1":"hush""#, &format!("{expected} (line 1, column 15)")),
            (r#"{"Cust1":{"hush":1}}"#, &format!("{expected} (line 1, column 20)")),
        ] {
            assert_eq!(json.parse::<TenantSecrets>().unwrap_err().to_string(), *error, "{json}");
        }
    }

    #[test]
    fn tenant_has_one_or_several_secrets() {
        let tenants: TenantSecrets = r#"{"Cust1":"a","Cust2":["b","c"]}"#.parse().unwrap();
        assert_eq!(tenants.0.values().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
        assert!("{}".parse::<TenantSecrets>().unwrap().is_empty());
    }

    #[test]
    fn derived_secret_has_fixed_vectors() {
        // base64.b64encode(hmac.new(b"0123456789abcdef0123456789abcdef",
        //     b"superoffice-webhook/tenant/v1/cust12345", "sha256").digest())
        let master: MasterSecret = "0123456789abcdef0123456789abcdef".parse().unwrap();
        for tenant in ["Cust12345", "cust12345", "CUST12345"] {
            assert_eq!(master.derive_text(tenant), "ept8pKsU7Xu8M45EHzsNvZr7otRE6RXuLYcuTmu1Ghk=", "{tenant}");
        }
        assert_ne!(master.derive_text("Cust12346"), master.derive_text("Cust12345"));
        // Only ASCII letters are lowercased.
        assert_ne!(master.derive_text("\u{c6}"), master.derive_text("\u{e6}"));
        let signature = master.derive("Cust12345").sign(b"body").to_string();
        assert_eq!(
            signature,
            Secret::new("ept8pKsU7Xu8M45EHzsNvZr7otRE6RXuLYcuTmu1Ghk=").unwrap().sign(b"body").to_string()
        );
    }

    #[test]
    fn short_or_blank_master_secret_is_an_error() {
        let error = "the master secret is shorter than 32 bytes, or only whitespace";
        for text in ["", "0123456789abcdef0123456789abcde", &" ".repeat(32)] {
            assert_eq!(text.parse::<MasterSecret>().unwrap_err().to_string(), error, "{text:?}");
        }
        assert!("æ".repeat(16).parse::<MasterSecret>().is_ok());
    }

    #[test]
    fn tenant_is_the_last_segment_after_webhook() {
        for (path, tenant) in [
            ("/webhook/Cust1", Some("Cust1")),
            ("/prod/base/webhook/Cust1/", Some("Cust1")),
            ("webhook/Cust1", Some("Cust1")),
            ("/webhook/Cust%31", Some("Cust1")),
            ("/webhook/a%2Fb", Some("a/b")),
            ("/webhook/webhook", Some("webhook")),
            ("/Prod/WebHook/Cust1", Some("Cust1")),
            ("/webhook/%ff", Some("\u{fffd}")),
            ("/webhook", None),
            ("/webhook/", None),
            ("/webhook//Cust1", None),
            ("/webhook/Cust1/more", None),
            ("/webhooks/Cust1", None),
            ("/Cust1", None),
            ("", None),
        ] {
            assert_eq!(from_path(path).as_deref(), tenant, "{path}");
        }
    }
}
