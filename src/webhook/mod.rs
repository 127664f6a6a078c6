//! SuperOffice's webhook deliveries: signatures, tenants and events. No AWS.
//!
//! [`verifier`] authenticates a body: [`signature`] is the MAC, [`tenant`] has the secrets of each tenant, [`metadata`]
//! identifies the event and its tenant, and [`authorization`] decides whether the secret may sign for this tenant.
//! Consumers read [`event`], [`contact`], [`entity`] and [`field`].

pub mod authorization;
pub mod contact;
pub mod entity;
pub mod event;
pub mod field;
pub mod json;
pub mod metadata;
pub mod secrets;
pub mod signature;
pub mod tenant;
pub mod verifier;

mod diagnosis;
