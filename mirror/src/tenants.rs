//! The tenants whose records are mirrored.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use superoffice_client::{Client, Clock, Limits};
use superoffice_webhook::webhook::metadata::UNNAMED_TENANT;
use tenants::{FindError, ONSITE, TenantSource, partition};

use crate::failure::Failure;
use crate::superoffice::SuperOffice;

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
    /// The names of the entries that cannot be used.
    pub unusable: Vec<String>,
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

/// The tenants of the environment or of the list, each with a client that is kept as long as the tenant's entry is
/// unchanged.
pub struct Clients {
    source: TenantSource,
    limits: Limits,
    clock: Clock,
    known: Mutex<HashMap<String, Known>>,
}

struct Known {
    entry: Arc<tenants::Tenant>,
    client: Arc<Client>,
}

impl Clients {
    /// Uses a source of tenants, and these limits for each call.
    pub fn new(source: TenantSource, limits: Limits, clock: Clock) -> Self {
        Self { source, limits, clock, known: Mutex::default() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the tenant of an entry with its client. Tenants share the connections and certificates of one client.
    fn tenant(&self, entry: &Arc<tenants::Tenant>) -> Result<Tenant<Client>, Failure> {
        let name = partition::tenant(entry.name());
        let mut known = self.known();
        let client = match known.get(name).filter(|known| Arc::ptr_eq(&known.entry, entry)) {
            Some(known) => Arc::clone(&known.client),
            None => {
                let connection = entry.connection().clone();
                let client = match known.values().next() {
                    Some(other) => other.client.for_tenant(connection),
                    None => Client::with(connection, self.limits, Arc::clone(&self.clock))
                        .map_err(|_| Failure::UnusableTenant)?,
                };
                let client = Arc::new(client);
                known.insert(name.to_owned(), Known { entry: Arc::clone(entry), client: Arc::clone(&client) });
                client
            }
        };
        Ok(Tenant { name: name.to_owned(), is_paused: entry.is_paused(), superoffice: client })
    }

    /// Finds the entry with a name.
    async fn entry(&self, name: &str) -> Result<Option<Arc<tenants::Tenant>>, Failure> {
        let entry = self.source.find(name).await.map_err(|error| match error {
            FindError::List(_) => Failure::UnreadableList,
            FindError::Unusable(_) => Failure::UnusableTenant,
        })?;
        // The one tenant of the environment is found by any name.
        Ok(entry.filter(|entry| entry.name().unwrap_or(ONSITE).eq_ignore_ascii_case(name)))
    }
}

impl Tenants for Clients {
    type SuperOffice = Client;

    async fn find(&self, name: &str) -> Result<Tenant<Client>, Failure> {
        let name = partition::tenant(Some(name));
        let mut entry = self.entry(name).await?;
        if entry.is_none() && name.eq_ignore_ascii_case(ONSITE) {
            entry = self.entry(UNNAMED_TENANT).await?;
        }
        self.tenant(&entry.ok_or(Failure::UnknownTenant)?)
    }

    async fn all(&self) -> Result<TenantList<Client>, Failure> {
        let list = self.source.list().await.map_err(|_| Failure::UnreadableList)?;
        let name = |entry: &Arc<tenants::Tenant>| partition::tenant(entry.name()).to_owned();
        self.known().retain(|known, _| list.usable().iter().any(|entry| name(entry) == *known));
        // An entry `Default` is another name of the entry `onsite`, and has no rows of its own.
        let (hidden, usable): (Vec<_>, Vec<_>) =
            list.usable().iter().partition(|entry| entry.is_named(UNNAMED_TENANT) && list.get(ONSITE).is_some());
        let tenants = usable.into_iter().map(|entry| self.tenant(entry)).collect::<Result<_, _>>()?;
        let hidden = hidden.iter().filter_map(|entry| entry.name());
        let unusable = list.unusable().iter().map(|entry| entry.name.as_str()).chain(hidden);
        Ok(TenantList { tenants, unusable: unusable.map(str::to_owned).collect() })
    }

    async fn refused(&self, name: &str) {
        let entry = self.known().get(name).map(|known| Arc::clone(&known.entry));
        if let Some(entry) = entry {
            // If the entry cannot be read, the tenant fails in the next invocation, with its reason.
            let _ = self.source.refresh(&entry).await;
        }
    }
}
