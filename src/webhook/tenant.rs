//! Tenant authorization: the secrets of each tenant, and the check that a secret may sign for the tenant in the body.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::webhook::metadata::EventMetadata;
use crate::webhook::signature::{Secret, Signature, any_verifies};

/// The maximum number of tenant secrets. Each costs one MAC over every body, signed or not.
pub const MAX_TENANT_SECRETS: usize = 100;

/// The secrets of single tenants, by `ContextIdentifier`. A listed tenant's events are accepted only with one of its own
/// secrets.
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

    /// Returns the listed name of a tenant. Consumers may ignore letter case, so it is ignored here too.
    fn listed_name(&self, tenant: &str) -> Option<&str> {
        self.0.keys().find(|listed| listed.eq_ignore_ascii_case(tenant)).map(String::as_str)
    }

    /// Returns the listed tenants whose secrets signed the body. All secrets are tried.
    pub(crate) fn signers(&self, body: &[u8], signature: &Signature) -> Vec<String> {
        let signed = |secrets: &Vec<Secret>| any_verifies(secrets, body, signature);
        self.0.iter().filter(|(_, secrets)| signed(secrets)).map(|(tenant, _)| tenant.clone()).collect()
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

/// The kind of secret that signed a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignedBy {
    /// The shared secret.
    Current,
    /// The previous shared secret, accepted during rotation.
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

/// The configured secrets that signed a body. At least one did.
#[derive(Clone, Debug)]
pub(crate) struct Signers {
    /// The shared secret that signed it.
    pub(crate) shared: Option<SignedBy>,
    /// The listed tenants whose secrets signed it.
    pub(crate) tenants: Vec<String>,
}

/// Returns the secret that signed the body, if it may sign for the tenant that the body names. `metadata` is `None` if
/// the body is not a JSON object.
pub(crate) fn authorize(
    signers: &Signers,
    listed: &TenantSecrets,
    metadata: Option<&EventMetadata>,
) -> Option<SignedBy> {
    if listed.is_empty() {
        return signers.shared;
    }
    let any = signers.shared.or((!signers.tenants.is_empty()).then_some(SignedBy::Tenant));
    let Some(metadata) = metadata else {
        // A malformed body belongs to no tenant. It is quarantined, and authorized again when it is redriven.
        return any;
    };
    if metadata.has_ambiguous_tenant() {
        return None;
    }
    let tenant = metadata.context_identifier();
    match tenant.and_then(|tenant| listed.listed_name(tenant)) {
        Some(tenant) => signers.tenants.iter().any(|signer| signer == tenant).then_some(SignedBy::Tenant),
        // The registration probe has no effect, and SuperOffice sends it without the tenant.
        None if metadata.is_test() && metadata.has_no_tenant() => any,
        // A malformed body, as above.
        None if tenant.is_none() && metadata.validate().is_err() => any,
        None => signers.shared,
    }
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
}
