//! Runs against a fake SuperOffice, with the real function as the receiver.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod histories;
mod list;
mod program;
mod runs;
mod support;
