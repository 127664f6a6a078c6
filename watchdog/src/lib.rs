//! A scheduled run that keeps the webhooks of all tenants alive and recovers the events of contacts and persons that
//! got lost.
//!
//! Read [`Watchdog::run`](run::Watchdog::run) from top to bottom: it visits the tenants that are due. [`visit`] does
//! everything for one tenant, and `older` compares windows that reach further back than the log of a run. [`history`]
//! remembers earlier runs, in the watchdog's own log; [`telemetry`] writes that log.

pub mod config;
pub mod history;
mod older;
pub mod run;
pub mod state;
pub mod telemetry;
pub mod visit;
