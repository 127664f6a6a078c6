//! The function's log, with the deliveries of all tenants.

use std::borrow::Cow;
use std::ops::ControlFlow;

use jiff::Timestamp;

use crate::delivery::{self, Delivery};
use crate::logs::{LogError, Logs};
use crate::tenant_names::TenantNames;

/// The log group of the function, and the tenants whose deliveries are read.
#[derive(Clone, Debug)]
pub struct FunctionLog {
    logs: Logs,
    log_group: String,
    names: TenantNames,
}

impl FunctionLog {
    /// Creates the log of a function that receives the deliveries of these tenants. Nothing is read yet.
    pub fn new(logs: Logs, log_group: impl Into<String>, names: TenantNames) -> Self {
        Self { logs, log_group: log_group.into(), names }
    }

    /// Returns the log with the deliveries of only these tenants.
    #[must_use]
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { names: self.names.only(names), ..self.clone() }
    }

    /// Passes the lines of a period to `found`, oldest first, until it breaks. Some are not deliveries of these
    /// tenants.
    pub(crate) async fn read(
        &self,
        since: Timestamp,
        until: Timestamp,
        found: impl FnMut(Timestamp, &str) -> ControlFlow<()>,
    ) -> Result<(), LogError> {
        self.logs.read_between(&self.log_group, &self.names.filter(), since, until, found).await
    }

    /// Parses the delivery in a line. It belongs to each of the returned tenants, whose names are in lower case.
    pub(crate) fn parse(&self, filed: Timestamp, line: &str) -> Option<(Cow<'_, [String]>, Delivery)> {
        let (named, delivery) = delivery::parse(filed, line)?;
        Some((self.names.owners(named.as_deref()), delivery))
    }
}
