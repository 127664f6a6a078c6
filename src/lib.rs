#![doc = include_str!("../README.md")]
//!
//! # The map
//!
//! A delivery goes through the modules in this order: `gateway` (API Gateway's envelope to request), `receiver` (the way
//! itself), [`signature`] (the body is verified), [`event`] (the body is read), `forward` (is it wanted?), `message` (the
//! queue's message), `queue` (SQS), `response` and `telemetry` (the answer and the log line); `config` is the environment.
//!
//! A consumer needs none of that, and the feature `lambda` can be off: [`delivery`] reads a queue message into a
//! [`contact`]'s event or any other [`webhook_event`], whose columns are [`field`]s.

pub mod contact;
pub mod delivery;
pub mod event;
pub mod field;
pub mod signature;
pub mod webhook_event;

mod timestamp;

/// The dates of events are this crate's.
pub use jiff;

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
mod response;
#[cfg(feature = "lambda")]
mod telemetry;

/// The Rust code in the document is compiled with the tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/consumers.md")]
struct ConsumersDocument;
