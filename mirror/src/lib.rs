//! A table with the current row of each SuperOffice contact.
//!
//! A batch of events passes through the modules in this order:
//!
//! - [`batch`]: the messages of an invocation, grouped by tenant and contact
//! - [`visit`]: one tenant in one invocation. [`Visit::mirror`](visit::Visit::mirror) reads a contact and writes its row
//! - [`answer`]: SuperOffice's answer for a contact, and its meaning
//! - [`row`], [`table`]: the row, and the table with conditional writes; [`dynamodb`] is the real one
//!
//! An [`audit`] compares the table with SuperOffice's list of all contacts, and visits the contacts that differ.
//!
//! [`superoffice`] is SuperOffice as the mirror sees it, and [`failure`] the reasons that are logged. docs/design.md
//! explains why the table converges.

pub mod answer;
pub mod audit;
pub mod batch;
pub mod config;
pub mod dynamodb;
pub mod failure;
pub mod row;
pub mod superoffice;
pub mod table;
pub mod telemetry;
pub mod tenants;
pub mod visit;
