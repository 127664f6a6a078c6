//! Tests against a fake SuperOffice and a fake CloudWatch Logs over HTTP, with the real function as the receiver.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod comparison;
mod delivery_log;
mod shared_log;
mod signaler;
mod support;
