//! The tenants that own the deliveries in the function's log.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

use superoffice_webhook::webhook::metadata::UNNAMED_TENANT;

use crate::delivery::FILTER;

/// The number of tenants that a filter names at most. AWS limits its length to 1,024 characters.
const MAX_NAMED: usize = 8;

/// The tenants whose deliveries are read, and the rule for deliveries without a name.
#[derive(Clone, Debug)]
pub struct TenantNames {
    /// In lower case.
    names: HashSet<String>,
    /// The tenants that own deliveries without a name.
    unnamed: Vec<String>,
    /// Every delivery belongs to the only tenant.
    is_every: bool,
}

impl TenantNames {
    /// Creates the set of all tenants. An on-site installation does not name itself. So deliveries without a name
    /// belong to the only tenant, and otherwise to each tenant whose name is not the identifier of an Online tenant.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: HashSet<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        let is_only = names.len() == 1;
        let unnamed = names.iter().filter(|name| is_only || online_digits(name).is_none()).cloned().collect();
        Self { names, unnamed, is_every: false }
    }

    /// Creates the set of all tenants of a list. Without a name, the tenant of a delivery cannot be checked. So a
    /// single tenant without a name owns every delivery, as `onsite`.
    pub fn of_list<'a>(names: impl IntoIterator<Item = Option<&'a str>>, onsite: &str) -> Self {
        let names: Vec<_> = names.into_iter().collect();
        if names == [None] { Self::every(onsite) } else { Self::new(names.into_iter().flatten()) }
    }

    /// Creates the set of one tenant that owns every delivery.
    pub fn every(name: &str) -> Self {
        Self { is_every: true, ..Self::new([name]) }
    }

    /// Returns the set with only these tenants.
    #[must_use]
    pub fn only<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: HashSet<String> = names.into_iter().map(str::to_ascii_lowercase).collect();
        let unnamed = self.unnamed.iter().filter(|name| names.contains(*name)).cloned().collect();
        Self { names, unnamed, is_every: self.is_every }
    }

    /// Returns a filter that lets CloudWatch leave out other lines. It only saves transfer: every line is checked here.
    pub(crate) fn filter(&self) -> String {
        // CloudWatch compares letters with regard to case. Digits are enough to tell Online tenants apart.
        let digits: Option<BTreeSet<&str>> = self.names.iter().map(|name| online_digits(name)).collect();
        let Some(digits) = digits.filter(|digits| digits.len() <= MAX_NAMED && !self.is_every) else {
            return FILTER.to_owned();
        };
        let names = digits.into_iter().map(|digits| format!(r#"($.contextIdentifier = "*{digits}")"#));
        let mut conditions: Vec<String> = names.collect();
        if !self.unnamed.is_empty() {
            conditions.push("($.contextIdentifier NOT EXISTS)".to_owned());
            conditions.push(format!(r#"($.contextIdentifier = "{UNNAMED_TENANT}")"#));
        }
        let outcomes = FILTER.trim_start_matches('{').trim_end_matches('}').trim();
        format!("{{ ({outcomes}) && ({}) }}", conditions.join(" || "))
    }

    /// Returns the tenants that own a delivery, in lower case.
    pub(crate) fn owners(&self, named: Option<&str>) -> Cow<'_, [String]> {
        match named.map(str::to_ascii_lowercase) {
            Some(name) if !self.is_every => match self.names.contains(&name) {
                true => Cow::Owned(vec![name]),
                false => Cow::Borrowed(&[]),
            },
            _ => Cow::Borrowed(&self.unnamed),
        }
    }
}

/// Returns the digits of the identifier of an Online tenant in lower case, `cust12345`.
fn online_digits(name: &str) -> Option<&str> {
    let digits = name.strip_prefix("cust")?;
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_names_few_online_tenants_by_their_digits() {
        let filter = |names: &[&str]| TenantNames::new(names.iter().copied()).filter();
        assert_eq!(
            filter(&["Cust12"]),
            r#"{ (($.outcome = "forwarded") || ($.outcome = "ignored") || ($.outcome = "failed")) && (($.contextIdentifier = "*12") || ($.contextIdentifier NOT EXISTS) || ($.contextIdentifier = "Default")) }"#
        );
        let two = filter(&["Cust12", "cust345"]);
        assert!(two.contains(r#"($.contextIdentifier = "*12")"#) && two.contains(r#"($.contextIdentifier = "*345")"#));
        assert!(!two.contains("NOT EXISTS"), "{two}");
        let names: Vec<String> = (100_000..100_008).map(|number| format!("Cust{number}")).collect();
        let longest = TenantNames::new(names.iter().map(String::as_str)).filter();
        assert!(longest.contains("contextIdentifier") && longest.len() < 1024, "{longest}");
    }

    #[test]
    fn filter_leaves_tenants_out_that_it_cannot_tell_apart() {
        let names: Vec<String> = (1..=9).map(|number| format!("Cust{number}")).collect();
        assert_eq!(TenantNames::every("Cust1").filter(), FILTER);
        for names in
            [names.iter().map(String::as_str).collect(), vec!["onsite"], vec!["Cust1", "Customer"], vec!["Cust"]]
        {
            assert_eq!(TenantNames::new(names.iter().copied()).filter(), FILTER, "{names:?}");
        }
    }

    #[test]
    fn deliveries_without_a_name_belong_to_the_only_tenant_or_to_on_site_installations() {
        let unnamed = |names: &[&str]| TenantNames::new(names.iter().copied()).unnamed;
        assert_eq!(unnamed(&["Cust1"]), ["cust1"]);
        assert_eq!(unnamed(&["Cust1", "cust2"]), Vec::<String>::new());
        assert_eq!(unnamed(&["Cust1", "Server"]), ["server"]);
        // The rule depends on the whole list.
        let list = TenantNames::new(["Cust1", "Server"]);
        assert_eq!(list.only(["Cust1"]).unnamed, Vec::<String>::new());
        assert_eq!(list.only(["Server"]).unnamed, ["server"]);
    }
}
