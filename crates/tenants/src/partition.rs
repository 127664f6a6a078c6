//! The partitions of the mirror's table. The mirror writes their rows, and `so-webhook purge` deletes them.

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
