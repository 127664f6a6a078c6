//! The list, as it was read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use superoffice_client::Connection;

use crate::entry::{self, Reason, Shared};

/// The name of a tenant without a `ContextIdentifier`, in logs and in the mirror's table.
pub const ONSITE: &str = "onsite";

/// A tenant. A program that keeps something for a tenant, for example a client with its ticket, can keep it for this
/// `Arc`: as long as the tenant's entry is unchanged, each list has the same one.
pub struct Tenant {
    name: Option<String>,
    connection: Connection,
    is_paused: bool,
    /// The value of the parameter.
    value: Option<SecretString>,
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, connection, is_paused, value: _ } = self;
        f.debug_struct("Tenant")
            .field("name", name)
            .field("connection", connection)
            .field("is_paused", is_paused)
            .finish_non_exhaustive()
    }
}

impl Tenant {
    /// The one tenant of the environment.
    pub(crate) fn of_environment(connection: Connection) -> Self {
        let name = connection.context_identifier().map(str::to_owned);
        Self { name, connection, is_paused: false, value: None }
    }

    /// Reads an entry of the list.
    pub(crate) fn parse(name: &str, value: SecretString, shared: &Shared) -> Result<Self, Reason> {
        let (connection, is_paused) = entry::parse(name, value.expose_secret(), shared)?;
        Ok(Self { name: Some(name.to_owned()), connection, is_paused, value: Some(value) })
    }

    /// Returns the tenant's `ContextIdentifier`, in the spelling of the list. It is `None` for an on-site installation
    /// that the environment does not name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns the tenant's name, or [`ONSITE`].
    pub fn name_or_onsite(&self) -> &str {
        self.name().unwrap_or(ONSITE)
    }

    /// Returns the connection to the tenant.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns `true` if scheduled programs leave the tenant out.
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Returns `true` if the tenant was read from this value.
    pub(crate) fn has_value(&self, value: &SecretString) -> bool {
        self.value.as_ref().is_some_and(|own| own.expose_secret() == value.expose_secret())
    }

    /// Returns `true` if the tenant has this name, without regard to case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name().is_some_and(|own| own.eq_ignore_ascii_case(name))
    }
}

/// An entry that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tenant {name}: the parameter cannot be used: {reason}")]
pub struct UnusableEntry {
    /// The name of the parameter, without the path.
    pub name: String,
    /// The reason, in fixed words.
    pub reason: Reason,
}

/// All tenants, and the entries that cannot be used, each in order of the names.
#[derive(Debug, Default)]
pub struct TenantList {
    usable: Vec<Arc<Tenant>>,
    unusable: Vec<UnusableEntry>,
}

impl TenantList {
    /// Returns the tenants, paused ones included.
    pub fn usable(&self) -> &[Arc<Tenant>] {
        &self.usable
    }

    /// Returns the entries that cannot be used.
    pub fn unusable(&self) -> &[UnusableEntry] {
        &self.unusable
    }

    /// Returns the names of all entries, usable ones first.
    pub fn names(&self) -> impl Iterator<Item = Option<&str>> {
        let unusable = self.unusable.iter().map(|entry| Some(entry.name.as_str()));
        self.usable.iter().map(|tenant| tenant.name()).chain(unusable)
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.usable.len() + self.unusable.len()
    }

    /// Returns `true` if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the tenant with a name, without regard to case, or the reason why its entry cannot be used.
    pub fn get(&self, name: &str) -> Option<Result<&Arc<Tenant>, &UnusableEntry>> {
        let unusable = || self.unusable.iter().find(|entry| entry.name.eq_ignore_ascii_case(name)).map(Err);
        self.usable.iter().find(|tenant| tenant.is_named(name)).map(Ok).or_else(unusable)
    }

    /// A list of one tenant.
    pub(crate) fn of_one(tenant: Tenant) -> Self {
        Self { usable: vec![Arc::new(tenant)], unusable: Vec::new() }
    }

    /// Returns the list with one entry replaced, or without the entry.
    pub(crate) fn with(&self, name: &str, entry: Option<Result<Arc<Tenant>, Reason>>) -> Self {
        let mut entries = Entries::default();
        for tenant in &self.usable {
            entries.add(tenant.name().unwrap_or_default(), Ok(Arc::clone(tenant)));
        }
        for entry in &self.unusable {
            entries.add(&entry.name, Err(entry.reason));
        }
        match entry {
            Some(entry) => entries.add(name, entry),
            None => {
                entries.0.remove(name);
            }
        }
        entries.finish()
    }
}

/// The entries of a list that is being read, by name.
#[derive(Default)]
pub(crate) struct Entries(BTreeMap<String, Result<Arc<Tenant>, Reason>>);

impl Entries {
    /// Adds an entry.
    pub(crate) fn add(&mut self, name: &str, entry: Result<Arc<Tenant>, Reason>) {
        self.0.insert(name.to_owned(), entry);
    }

    /// Discards all entries.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the list. Names that differ in letter case only cannot be used, because events are compared without
    /// regard to case.
    pub(crate) fn finish(self) -> TenantList {
        let mut spellings: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.0.keys() {
            *spellings.entry(name.to_ascii_lowercase()).or_default() += 1;
        }
        let mut list = TenantList::default();
        for (name, tenant) in self.0 {
            let is_unique = spellings.get(&name.to_ascii_lowercase()) == Some(&1);
            match if is_unique { tenant } else { Err(Reason::SimilarName) } {
                Ok(tenant) => list.usable.push(tenant),
                Err(reason) => list.unusable.push(UnusableEntry { name, reason }),
            }
        }
        list
    }
}
