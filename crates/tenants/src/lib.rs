//! The list of tenants: one parameter per tenant in SSM Parameter Store, or the one tenant of the environment.
//!
//! ```no_run
//! # async fn example(env: &mut superoffice_webhook::env::Environment<'_>) -> Result<(), Box<dyn std::error::Error>> {
//! # let Some(source) = tenants::TenantSource::from_environment(env) else { return Ok(()) };
//! let list = source.list().await?;
//! for tenant in list.usable() {
//!     let client = superoffice_client::Client::new(tenant.connection().clone())?;
//! }
//! for entry in list.unusable() {
//!     println!("{entry}");
//! }
//! # Ok(()) }
//! ```

mod entry;
mod list;
mod parameters;
pub mod partition;
mod source;

pub use entry::Reason;
pub use list::{ONSITE, Tenant, TenantList, UnusableEntry};
pub use source::{FindError, ListError, TENANTS_PARAMETER, TenantSource};
