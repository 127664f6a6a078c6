//! The comparisons of several tenants, with few readings of the log.
//!
//! CloudWatch limits the calls for a whole account. So when the turn of a tenant comes, the changes of the tenants that
//! follow are listed, too, as far as memory suffices, and all are compared with one reading of the log.

use std::collections::HashMap;
use std::sync::Arc;

use recovery::comparison::{Compared, Comparison, Listing, Progress};
use recovery::function_log::FunctionLog;
use recovery::logs::Logs;
use recovery::record::Record;
use recovery::tenant_names::TenantNames;
use superoffice_client::Client;
use tenants::{ONSITE, Tenant};

use crate::exit::Failure;
use crate::tenants::Clients;

/// No further tenant is listed for a reading of the log that has this number of changed records to compare.
const MAX_TOGETHER: u64 = 50_000;

/// The comparisons of a command.
pub(super) struct Comparisons {
    comparison: Comparison,
    log: FunctionLog,
    /// The tenants of the command, in their order.
    tenants: Vec<Arc<Tenant>>,
    /// The results that were not returned yet, by the tenant's name.
    results: HashMap<String, Result<Compared, Failure>>,
    clients: Clients,
}

impl Comparisons {
    /// Creates the comparisons of `tenants`. The names of the whole list decide which tenant owns the deliveries of
    /// unnamed installations.
    pub(super) fn new<'a>(
        comparison: Comparison,
        logs: Logs,
        log_group: &str,
        names: impl Iterator<Item = Option<&'a str>>,
        tenants: Vec<Arc<Tenant>>,
    ) -> Self {
        let log = FunctionLog::new(logs, log_group, TenantNames::of_list(names, ONSITE));
        Self { comparison, log, tenants, results: HashMap::new(), clients: Clients::default() }
    }

    /// Returns the progress of all comparisons.
    pub(super) fn progress(&self) -> Progress {
        self.comparison.progress().clone()
    }

    /// Returns a client for a tenant.
    pub(super) fn client(&mut self, tenant: &Tenant) -> Result<Client, Failure> {
        Ok(self.clients.of(tenant)?)
    }

    /// Compares the part of a tenant's changes that follows a record, or the first part.
    pub(super) async fn part(&mut self, tenant: &Tenant, after: Option<Record>) -> Result<Compared, Failure> {
        if !self.results.contains_key(tenant.name_or_onsite()) {
            let mut listings = vec![(tenant.name_or_onsite().to_owned(), self.list(tenant, after).await?)];
            if after.is_none() {
                self.list_following(tenant, &mut listings).await;
            }
            self.compare(listings).await;
        }
        self.results.remove(tenant.name_or_onsite()).unwrap_or_else(|| Err("the comparison has no result".into()))
    }

    async fn list(&mut self, tenant: &Tenant, after: Option<Record>) -> Result<Listing, Failure> {
        let client = self.client(tenant)?;
        Ok(self.comparison.list(&client, after).await?)
    }

    /// Adds the first parts of the tenants that follow, as long as memory suffices.
    async fn list_following(&mut self, tenant: &Tenant, listings: &mut Vec<(String, Listing)>) {
        let position = self.tenants.iter().position(|other| other.name() == tenant.name());
        let following = position.map(|position| self.tenants.split_at(position + 1).1.to_vec()).unwrap_or_default();
        for other in following {
            if listings.iter().map(|(_, listing)| listing.listed()).sum::<u64>() >= MAX_TOGETHER {
                break;
            }
            let name = other.name_or_onsite().to_owned();
            if self.results.contains_key(&name) {
                continue;
            }
            match self.list(&other, None).await {
                Ok(listing) => listings.push((name, listing)),
                Err(failure) => {
                    self.results.insert(name, Err(failure));
                }
            }
        }
    }

    /// Compares the lists of several tenants, and keeps the results for their turns.
    async fn compare(&mut self, listings: Vec<(String, Listing)>) {
        let names: Vec<String> = listings.iter().map(|(name, _)| name.clone()).collect();
        match self.comparison.compare_together(listings, &self.log).await {
            Ok(compared) => self.results.extend(names.into_iter().zip(compared.into_iter().map(Ok))),
            Err(error) => self.results.extend(names.into_iter().map(|name| (name, Err(error.to_string().into())))),
        }
    }
}
