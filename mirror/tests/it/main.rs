//! The mirror, with tables and SuperOffices in memory, and with a fake SuperOffice over HTTP.

#![expect(clippy::unwrap_used, reason = "panicking fails the test")]

mod audit;
mod batches;
mod crm;
mod function;
mod histories;
mod http;
mod interleavings;
mod messages;
mod table;
mod tenants;
