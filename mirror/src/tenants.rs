//! The tenants whose contacts are mirrored.

use std::sync::Arc;

use crate::failure::Failure;
use crate::superoffice::SuperOffice;

/// The name of a tenant without a `ContextIdentifier`.
pub const ONSITE: &str = "onsite";

/// A tenant.
#[derive(Debug)]
pub struct Tenant<S> {
    /// The spelling of the list of tenants, which the table's keys have.
    pub name: String,
    /// The watchdog and audits leave the tenant out.
    pub is_paused: bool,
    /// The tenant's SuperOffice.
    pub superoffice: Arc<S>,
}

impl<S> Clone for Tenant<S> {
    fn clone(&self) -> Self {
        Self { name: self.name.clone(), is_paused: self.is_paused, superoffice: Arc::clone(&self.superoffice) }
    }
}

/// The list of tenants.
#[derive(Debug)]
pub struct TenantList<S> {
    /// The usable entries.
    pub tenants: Vec<Tenant<S>>,
    /// The number of entries that cannot be used.
    pub unusable: u64,
}

/// A source of tenants.
pub trait Tenants {
    /// A tenant's SuperOffice.
    type SuperOffice: SuperOffice;

    /// Finds the tenant that an event names, whatever the letter case.
    ///
    /// # Errors
    ///
    /// [`Failure`] if there is no usable tenant with this name.
    fn find(&self, name: &str) -> impl Future<Output = Result<Tenant<Self::SuperOffice>, Failure>>;

    /// Reads the whole list.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the list cannot be read to its end.
    fn all(&self) -> impl Future<Output = Result<TenantList<Self::SuperOffice>, Failure>>;

    /// Notes that SuperOffice refused a tenant's credentials, which may have been replaced.
    fn refused(&self, name: &str) -> impl Future<Output = ()>;
}

/// The one tenant of the environment.
#[derive(Debug)]
pub struct SingleTenant<S>(Tenant<S>);

impl<S> SingleTenant<S> {
    /// Uses a tenant with a name.
    pub fn new(name: impl Into<String>, superoffice: S) -> Self {
        Self(Tenant { name: name.into(), is_paused: false, superoffice: Arc::new(superoffice) })
    }
}

impl<S: SuperOffice> Tenants for SingleTenant<S> {
    type SuperOffice = S;

    async fn find(&self, name: &str) -> Result<Tenant<S>, Failure> {
        if self.0.name.eq_ignore_ascii_case(name) { Ok(self.0.clone()) } else { Err(Failure::UnknownTenant) }
    }

    async fn all(&self) -> Result<TenantList<S>, Failure> {
        Ok(TenantList { tenants: vec![self.0.clone()], unusable: 0 })
    }

    async fn refused(&self, _: &str) {}
}
