//! One tenant, as the source of tenants.

use std::sync::Arc;

use superoffice_webhook_mirror::failure::Failure;
use superoffice_webhook_mirror::superoffice::SuperOffice;
use superoffice_webhook_mirror::tenants::{Tenant, TenantList, Tenants};

pub(crate) struct SingleTenant<S>(Tenant<S>);

impl<S> SingleTenant<S> {
    pub(crate) fn new(name: &str, superoffice: S) -> Self {
        Self::shared(name, Arc::new(superoffice))
    }

    /// Uses a SuperOffice that the test changes.
    pub(crate) fn shared(name: &str, superoffice: Arc<S>) -> Self {
        Self(Tenant { name: name.to_owned(), is_paused: false, superoffice })
    }
}

impl<S: SuperOffice> Tenants for SingleTenant<S> {
    type SuperOffice = S;

    async fn find(&self, name: &str) -> Result<Tenant<S>, Failure> {
        if self.0.name.eq_ignore_ascii_case(name) { Ok(self.0.clone()) } else { Err(Failure::UnknownTenant) }
    }

    async fn all(&self) -> Result<TenantList<S>, Failure> {
        Ok(TenantList { tenants: vec![self.0.clone()], unusable: Vec::new() })
    }

    async fn refused(&self, _: &str) {}
}
