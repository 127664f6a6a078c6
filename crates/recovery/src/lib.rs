//! Finds the contacts whose last change never arrived at the function, and signals contacts.
//!
//! - [`delivery_log`] reads the function's log: the events that it forwarded, ignored or could not forward.
//! - [`shared_log`] reads it once for all tenants.
//! - [`logs`] reads any log in CloudWatch.
//! - [`comparison`] compares the changes that SuperOffice lists with the delivery log.
//! - [`signaler`] makes SuperOffice signal contacts, and stops if their events do not arrive.

pub mod comparison;
pub mod delivery_log;
pub mod logs;
pub mod shared_log;
pub mod signaler;
