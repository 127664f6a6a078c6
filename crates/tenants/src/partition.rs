//! The partitions of the mirror's table. The mirror writes their rows, and `so-webhook purge` deletes them.

use superoffice_webhook::webhook::metadata::UNNAMED_TENANT;

use crate::list::ONSITE;

/// Returns a tenant's name in the table. A tenant without a name and the name `Default`, in any letter case, are
/// [`ONSITE`].
///
/// ```
/// assert_eq!(tenants::partition::tenant(Some("Cust1234")), "Cust1234");
/// assert_eq!(tenants::partition::tenant(Some("default")), "onsite");
/// assert_eq!(tenants::partition::tenant(None), "onsite");
/// ```
pub fn tenant(name: Option<&str>) -> &str {
    name.filter(|name| !name.eq_ignore_ascii_case(UNNAMED_TENANT)).unwrap_or(ONSITE)
}

/// Returns the partition of a tenant's rows of an entity.
///
/// ```
/// assert_eq!(tenants::partition::of_rows("Cust1234", "contact"), "Cust1234/contact");
/// ```
pub fn of_rows(tenant: &str, entity: &str) -> String {
    format!("{tenant}/{entity}")
}

/// Returns the partition of the position of a tenant's audit of an entity.
///
/// ```
/// assert_eq!(tenants::partition::of_audit("Cust1234", "contact"), "#audit/Cust1234/contact");
/// ```
pub fn of_audit(tenant: &str, entity: &str) -> String {
    format!("#audit/{tenant}/{entity}")
}
