//! Tests against a fake SuperOffice over HTTP, with the real function as the receiver.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod changes;
mod client;
mod contact_changes;
mod records;
mod registration;
mod support;
mod webhooks;
