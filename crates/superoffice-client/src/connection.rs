//! The connection to a tenant, and the hosts that may receive its credentials.

use reqwest::{Certificate, Url};

use crate::auth::Credentials;

/// The domain of the Online environments and of every tenant's host.
const ONLINE_DOMAIN: &str = ".superoffice.com";

/// The connection to one SuperOffice tenant.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The base URL: the part before `/api/v1`. Without it, the base URL is looked up.
    pub url: Option<Url>,
    /// The tenant's name, `Cust12345`. A lookup and a system user need it.
    pub tenant: Option<String>,
    /// The server on which a tenant's base URL is looked up, and which authenticates system users.
    pub environment_url: Url,
    /// The way to authenticate.
    pub credentials: Credentials,
    /// The certificates of private authorities, trusted in addition to the system's.
    pub certificates: Vec<Certificate>,
}

impl Connection {
    /// Returns the tenant's `ContextIdentifier`: its name, or the last identifier in the URL.
    pub fn context_identifier(&self) -> Option<&str> {
        self.tenant.as_deref().or_else(|| tenant_identifiers(self.url.as_ref()?.as_str()).last())
    }

    /// Reads a base URL that was looked up; `None` if it may not receive the credentials.
    pub(crate) fn trusted_base_url(&self, api: &str) -> Option<Url> {
        let (url, environment) = (Url::parse(api).ok()?, &self.environment_url);
        let is_online = |url: &Url| url.host_str().is_some_and(|host| host.ends_with(ONLINE_DOMAIN));
        let is_encrypted = url.scheme() == "https" || (url.scheme() == "http" && environment.scheme() == "http");
        let is_related = url.host_str() == environment.host_str()
            || (is_online(&url) && is_online(environment))
            || (is_loopback(&url) && is_loopback(environment));
        (is_encrypted && is_related).then(|| without_api_path(&url))
    }
}

/// Returns each identifier of a tenant in a URL: `Cust`, in any letter case, and digits.
///
/// ```
/// let url = "https://cust2.example.com/Cust12345/Customer";
/// assert_eq!(superoffice_client::tenant_identifiers(url).collect::<Vec<_>>(), ["cust2", "Cust12345"]);
/// ```
pub fn tenant_identifiers(url: &str) -> impl Iterator<Item = &str> {
    const PREFIX: &[u8] = b"cust";
    let has_prefix = |bytes: &[u8]| bytes.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    (0..url.len()).filter(move |start| has_prefix(&url.as_bytes()[*start..])).filter_map(|start| {
        let digits = url[start + PREFIX.len()..].bytes().take_while(u8::is_ascii_digit).count();
        (digits > 0).then(|| &url[start..start + PREFIX.len() + digits])
    })
}

/// Returns `true` if a URL's host is this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "localhost" | "[::1]" => true,
        host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// Removes `/api` and `/api/v1` from the end of a base URL. SuperOffice's own answers end with `/api`.
pub(crate) fn without_api_path(url: &Url) -> Url {
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    let lower = path.to_ascii_lowercase();
    let end = ["/api/v1", "/api"].iter().find(|end| lower.ends_with(*end)).map_or(0, |end| end.len());
    url.set_path(&path[..path.len() - end]);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(url: Option<&str>, tenant: Option<&str>, environment: &str) -> Connection {
        Connection {
            url: url.map(|url| url.parse().unwrap()),
            tenant: tenant.map(str::to_owned),
            environment_url: environment.parse().unwrap(),
            credentials: Credentials::Bearer("token".into()),
            certificates: Vec::new(),
        }
    }

    #[test]
    fn credentials_are_sent_to_related_hosts_only() {
        let base = |api, environment| connection(None, None, environment).trusted_base_url(api).map(String::from);
        let (online, local) = ("https://online.superoffice.com", "http://127.0.0.1:8080");
        let private = "https://crm.example.com";
        for (api, environment, expected) in [
            ("https://online3.superoffice.com/Cust1/api", online, "https://online3.superoffice.com/Cust1"),
            ("https://CRM.example.com/Cust1", private, "https://crm.example.com/Cust1"),
            ("https://localhost/Cust1", local, "https://localhost/Cust1"),
            ("http://127.0.0.1:9/Cust1", local, "http://127.0.0.1:9/Cust1"),
        ] {
            assert_eq!(base(api, environment).as_deref(), Some(expected), "{api}");
        }
        for (api, environment) in [
            ("http://online3.superoffice.com/Cust1", online),
            ("https://superoffice.com.example.com/Cust1", online),
            ("https://notsuperoffice.com/Cust1", online),
            ("https://online3.superoffice.com@example.com/Cust1", online),
            ("https://localhost/Cust1", online),
            ("https://online3.superoffice.com/Cust1", private),
            ("https://other.example.com/Cust1", private),
            ("https://example.com/Cust1", local),
            ("ftp://127.0.0.1/Cust1", local),
            ("Cust1", online),
        ] {
            assert_eq!(base(api, environment), None, "{api}");
        }
    }

    #[test]
    fn context_identifier_is_the_tenant_or_comes_from_the_url() {
        for (tenant, url, expected) in [
            (Some("Cust7"), "https://online3.superoffice.com/Cust12345", Some("Cust7")),
            (None, "https://online3.superoffice.com/Cust12345", Some("Cust12345")),
            (None, "https://server/cust12345/SuperOffice", Some("cust12345")),
            (None, "https://cust12345.example.com/SuperOffice", Some("cust12345")),
            (None, "https://cust1.example.com/Cust12345/", Some("Cust12345")),
            (None, "https://server/SuperOffice", None),
            (None, "https://server/Customer", None),
            (None, "https://server", None),
        ] {
            let connection = connection(Some(url), tenant, "https://online.superoffice.com");
            assert_eq!(connection.context_identifier(), expected, "{url}");
        }
    }
}
