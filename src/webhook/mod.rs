//! SuperOffice's webhook deliveries: signatures, tenants and events. No AWS.
//!
//! A body passes through [`verifier`] (is it signed?), [`metadata`] (which event is it?) and [`tenant`] (may this
//! secret sign for this tenant?). Consumers then read [`event`], [`contact`] and [`field`].

pub mod contact;
pub mod event;
pub mod field;
pub mod json;
pub mod metadata;
pub mod signature;
pub mod tenant;
pub mod verifier;

mod diagnosis;
