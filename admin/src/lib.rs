//! Administration of SuperOffice webhooks: registration, state, and recovery of missed events.
//!
//! - [`config`] reads the environment; [`client`] calls SuperOffice's REST API with the credentials of [`auth`].
//! - [`webhooks`] registers, tests and activates the webhooks that post to one URL.
//! - [`missed`] finds the contacts that [`changes`] lists in SuperOffice and that the function's log, the [`ledger`], does
//!   not report as handled since.
//! - [`delivery`] makes requests like SuperOffice's.

pub mod auth;
pub mod changes;
pub mod client;
pub mod config;
pub mod delivery;
pub mod ledger;
pub mod missed;
pub mod sensitive;
pub mod webhooks;
