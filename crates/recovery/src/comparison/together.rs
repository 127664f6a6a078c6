//! The changes of several tenants, compared with one reading of the log.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use superoffice_client::ApiError;
use superoffice_client::changes::ChangedRecord;

use super::{Batch, Comparison, Progress};
use crate::delivery_log::read_line;
use crate::logs::{LogError, Logs};
use crate::shared_log::TenantNames;

/// The changed contacts of a tenant, or a first part of them.
#[derive(Debug)]
pub struct Listing {
    /// In lower case.
    tenant: String,
    batch: Option<Batch>,
    listed: u64,
    unsettled: u64,
    without_offset: u64,
    continue_after: Option<i64>,
}

impl Comparison<'_> {
    /// Lists the next batch of the tenant's changed contacts, to [`compare`] them together with those of other tenants.
    ///
    /// # Errors
    ///
    /// [`ApiError`] if SuperOffice cannot be read.
    pub async fn list(&mut self, tenant: &str) -> Result<Listing, ApiError> {
        let before = (self.progress.listed(), self.progress.unsettled(), self.times_without_offset());
        let batch = self.next_changes().await?;
        let is_full = batch.as_ref().is_some_and(|batch| batch.open.len() >= self.batch);
        Ok(Listing {
            tenant: tenant.to_ascii_lowercase(),
            batch,
            listed: self.progress.listed() - before.0,
            unsettled: self.progress.unsettled() - before.1,
            without_offset: self.times_without_offset() - before.2,
            continue_after: self.last_key.filter(|_| is_full),
        })
    }
}

impl Listing {
    /// Returns the number of changed contacts that were listed.
    pub fn listed(&self) -> u64 {
        self.listed
    }

    /// Returns the number of contacts that changed too recently to be compared.
    pub fn unsettled(&self) -> u64 {
        self.unsettled
    }

    /// Returns the number of times that SuperOffice sent without an offset, and that were read as UTC.
    pub fn times_without_offset(&self) -> u64 {
        self.without_offset
    }

    /// Returns the contact after which the next part begins; `None` if this is the last part.
    pub fn continue_after(&self) -> Option<i64> {
        self.continue_after
    }

    /// Returns the contacts that no line of the log reports, in the order of their keys.
    pub fn into_missed(self) -> Vec<ChangedRecord> {
        self.batch.map(Batch::into_missed).unwrap_or_default()
    }

    fn start(&self) -> Option<Timestamp> {
        self.batch.as_ref().filter(|batch| !batch.open.is_empty()).map(|batch| batch.from)
    }
}

/// Compares the changes of several tenants with the log, which is read once. Of all `names` in the list of tenants, only
/// those of the listings are read.
///
/// # Errors
///
/// [`LogError`] if the log cannot be read.
pub async fn compare<'l>(
    logs: &Logs,
    log_group: &str,
    names: &TenantNames,
    listings: impl IntoIterator<Item = &'l mut Listing>,
    progress: &Progress,
) -> Result<(), LogError> {
    let mut since: Option<Timestamp> = None;
    let mut open: HashMap<String, &mut Batch> = HashMap::new();
    for listing in listings {
        let Some(start) = listing.start() else { continue };
        since = Some(since.map_or(start, |since| since.min(start)));
        if let Some(batch) = &mut listing.batch {
            open.insert(listing.tenant.clone(), batch);
        }
    }
    let Some(since) = since else {
        return Ok(());
    };
    let names = names.only(open.keys().map(String::as_str));
    let found = |filed: Timestamp, text: &str| {
        let Some((tenant, delivery)) = read_line(filed, text) else {
            return ControlFlow::Continue(());
        };
        if let Some(handled) = delivery.handled() {
            progress.0.lines.fetch_add(1, Ordering::Relaxed);
            for owner in names.owners(tenant.as_deref()).iter() {
                let Some(batch) = open.get_mut(owner) else { continue };
                batch.remove(&handled);
                if batch.open.is_empty() {
                    open.remove(owner);
                }
            }
        }
        if open.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    logs.read(log_group, &names.filter(), since, found).await
}
