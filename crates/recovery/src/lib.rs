//! Finds the contacts and persons whose last change never arrived at the function, and signals them.
//!
//! - [`logs`] reads any log in CloudWatch.
//! - [`function_log`] is the function's log with the deliveries of all tenants, and [`shared_log`] a period of it that is
//!   read once for all of them. [`tenant_names`] finds the tenants that own a delivery.
//! - [`delivery`] is one line of the function's log: the delivery of an event.
//! - [`delivery_log`] is the log of one tenant: the events that the function forwarded, ignored or could not forward.
//! - [`changes`] lists what changed in SuperOffice: each is a [`record`], a contact or a person.
//! - [`comparison`] compares the changes with the log.
//! - [`signaler`] makes SuperOffice signal records, and stops if their events do not arrive.

pub mod changes;
pub mod comparison;
pub mod delivery;
pub mod delivery_log;
pub mod function_log;
pub mod logs;
pub mod record;
pub mod shared_log;
pub mod signaler;
pub mod tenant_names;
