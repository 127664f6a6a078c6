//! Verifies SuperOffice CRM webhooks and forwards their contact events to Amazon SQS.

pub mod delivery;
pub mod event;
pub mod signature;

#[cfg(feature = "lambda")]
pub mod config;
#[cfg(feature = "lambda")]
pub mod forward;
#[cfg(feature = "lambda")]
pub mod gateway;
#[cfg(feature = "lambda")]
pub mod message;
#[cfg(feature = "lambda")]
pub mod queue;
#[cfg(feature = "lambda")]
pub mod receiver;
#[cfg(feature = "lambda")]
pub mod response;
#[cfg(feature = "lambda")]
pub mod telemetry;
#[cfg(feature = "lambda")]
mod timestamp;
