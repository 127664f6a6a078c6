//! The fake itself, over HTTP: the properties of SuperOffice that its documentation and its own client show.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod archives;
mod deliveries;
mod records;
mod support;
mod webhooks;
