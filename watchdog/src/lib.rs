//! A scheduled run that keeps SuperOffice's webhooks alive and recovers the contact events they missed.
//!
//! Read [`Watchdog::run`](run::Watchdog::run) from top to bottom. [`history`] remembers earlier runs, in the watchdog's
//! own log; [`telemetry`] writes that log.

pub mod config;
pub mod history;
pub mod run;
pub mod telemetry;
