//! A table with the current row of each SuperOffice contact and, if wanted, of each person.
//!
//! [`function`] is the Lambda function. A batch of events passes through the modules in this order:
//!
//! - [`batch`]: the messages of an invocation, grouped by tenant and record
//! - [`visit`]: one tenant's records of an entity in one invocation. [`Visit::mirror`](visit::Visit::mirror) reads a
//!   record and writes its row
//! - [`response`]: SuperOffice's response for a record, and its meaning
//! - [`row`], [`table`]: the row, and the table with conditional writes; [`dynamodb`] is the real one
//!
//! An [`audit`] compares the table with SuperOffice's list of all records, and visits those that differ.
//!
//! [`superoffice`] is SuperOffice as the mirror sees it, and [`failure`] the reasons that are logged. docs/design.md
//! explains why the table converges.

pub mod audit;
pub mod batch;
pub mod config;
pub mod dynamodb;
pub mod failure;
pub mod function;
pub mod response;
pub mod row;
pub mod superoffice;
pub mod table;
pub mod telemetry;
pub mod tenants;
pub mod visit;
