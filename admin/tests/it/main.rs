//! Tests against a fake SuperOffice over HTTP, with the real function as the receiver.

mod client;
mod commands;
mod missed;
mod support;
mod webhooks;
