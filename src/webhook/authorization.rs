//! Authorization: may the secret that signed a body sign for the tenant that the body names?

use crate::webhook::metadata::EventMetadata;
use crate::webhook::tenant::TenantSecrets;

/// The kind of secret that signed a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignedBy {
    /// The shared secret.
    Current,
    /// The previous shared secret, accepted during rotation.
    Previous,
    /// One of the tenant's listed secrets.
    Tenant,
    /// The tenant's derived secret.
    Derived,
}

impl SignedBy {
    /// `current`, `previous`, `tenant` or `derived`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Previous => "previous",
            Self::Tenant => "tenant",
            Self::Derived => "derived",
        }
    }
}

/// The configured secrets that signed a body, one or more.
pub(super) enum Signers<'a> {
    /// The path selects no tenant: it has none, or there is no master secret.
    AnyTenant {
        /// The shared secret that signed the body.
        shared: Option<SignedBy>,
        /// The listed tenants whose secrets signed the body.
        tenants: Vec<&'a str>,
    },
    /// The request path has this tenant, and a secret of this tenant signed the body.
    PathTenant {
        tenant: &'a str,
        /// `Tenant` or `Derived`.
        signed_by: SignedBy,
    },
}

impl Signers<'_> {
    /// Returns the secret that signed the body, if it may sign for the tenant that the body names. `metadata` is `None`
    /// if the body is not a JSON object.
    pub(super) fn authorize(&self, listed: &TenantSecrets, metadata: Option<&EventMetadata>) -> Option<SignedBy> {
        match self {
            // Without listed tenants, a shared secret signs for every tenant, so an ambiguous tenant is harmless.
            Self::AnyTenant { shared, .. } if listed.is_empty() => *shared,
            Self::AnyTenant { shared, tenants } => match TenantClaim::of(metadata) {
                TenantClaim::NotRequired => shared.or((!tenants.is_empty()).then_some(SignedBy::Tenant)),
                TenantClaim::Missing => *shared,
                TenantClaim::Tenant(tenant) => match listed.listed_name(tenant) {
                    Some(tenant) => tenants.contains(&tenant).then_some(SignedBy::Tenant),
                    None => *shared,
                },
                TenantClaim::Ambiguous => None,
            },
            Self::PathTenant { tenant, signed_by } => match TenantClaim::of(metadata) {
                TenantClaim::NotRequired => Some(*signed_by),
                TenantClaim::Tenant(named) => named.eq_ignore_ascii_case(tenant).then_some(*signed_by),
                TenantClaim::Missing | TenantClaim::Ambiguous => None,
            },
        }
    }
}

/// The tenant that a body names.
enum TenantClaim<'m> {
    Tenant(&'m str),
    /// An event without a tenant.
    Missing,
    /// Two tenants, or a field name that readers may understand differently.
    Ambiguous,
    /// Not an event of any tenant: a registration probe, which has no effect, or a malformed body. A malformed body is
    /// quarantined, and authorized again when it is redriven.
    NotRequired,
}

impl<'m> TenantClaim<'m> {
    fn of(metadata: Option<&'m EventMetadata>) -> Self {
        let Some(metadata) = metadata else {
            return Self::NotRequired;
        };
        if metadata.has_ambiguous_tenant() {
            return Self::Ambiguous;
        }
        match metadata.context_identifier() {
            // SuperOffice sends the probe without the tenant, or with `Default`.
            _ if metadata.is_test() && metadata.has_no_tenant() => Self::NotRequired,
            Some(tenant) => Self::Tenant(tenant),
            None if metadata.validate().is_err() => Self::NotRequired,
            None => Self::Missing,
        }
    }
}
