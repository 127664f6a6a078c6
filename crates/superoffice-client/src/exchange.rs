//! The requests of a client and their responses, for those who observe it.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

/// A request and its response. The body of either may contain secrets; the headers with credentials are left out.
#[derive(Clone, Copy, Debug)]
pub struct Exchange<'a> {
    /// The method.
    pub method: &'a str,
    /// The part of the path after `/api/v1/`, without host and tenant.
    pub path: &'a str,
    /// The parameters.
    pub query: &'a [(&'a str, String)],
    /// The body of the request.
    pub request: Option<&'a Value>,
    /// The status.
    pub status: u16,
    /// The time of the response by SuperOffice's clock.
    pub date: Option<Timestamp>,
    /// The body of the response.
    pub response: &'a [u8],
}

/// A function that is called after each response.
pub type Observer = Arc<dyn Fn(&Exchange<'_>) + Send + Sync>;
