//! The requests that a server receives, and the faults of its responses.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

/// A fault of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A response with this status.
    Status(u16),
    /// 429 with `Retry-After` in seconds.
    Throttle(u64),
    /// A normal response after this time.
    Slow(Duration),
    /// The effect of the call, and then a response with this status.
    StatusAfterEffect(u16),
    /// No fault: the call takes its turn.
    None,
}

/// A request that was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path after `/api/v1/`, or the whole path of other requests.
    pub path: String,
    /// The query's parameters.
    pub query: HashMap<String, String>,
    /// The body, if it is JSON.
    pub body: Value,
    /// The headers.
    pub headers: HashMap<String, String>,
}
