//! The configuration from environment variables. All problems are reported together, and no message contains a secret.

use percent_encoding::percent_decode_str;
use reqwest::Url;
use superoffice_webhook::MasterSecret;
use superoffice_webhook::env::Environment;

use crate::auth::{Credentials, SystemUser};
use crate::sensitive::Sensitive;

/// The environment that knows a tenant's base URL unless another is configured.
const DEFAULT_ENVIRONMENT_URL: &str = "https://online.superoffice.com";

/// The variables with the secrets of webhooks.
const SECRETS: [&str; 2] = ["SUPEROFFICE_WEBHOOK_SECRET", "SUPEROFFICE_TENANT_MASTER_SECRET"];

/// The connection to one SuperOffice tenant.
#[derive(Clone, Debug)]
pub struct Connection {
    /// `SUPEROFFICE_URL`, the part before `/api/v1`. Without it the URL is looked up.
    pub url: Option<Url>,
    /// `SUPEROFFICE_TENANT`.
    pub tenant: Option<String>,
    /// `SUPEROFFICE_ENVIRONMENT_URL`: tells a tenant's base URL, and authenticates system users.
    pub environment_url: Url,
    /// The way to authenticate.
    pub credentials: Credentials,
}

impl Connection {
    /// The tenant's `ContextIdentifier`: `SUPEROFFICE_TENANT`, or the last segment of an Online URL.
    pub fn context_identifier(&self) -> Option<&str> {
        let from_url = || self.url.as_ref()?.path_segments()?.next_back().filter(|name| is_customer_id(name));
        self.tenant.as_deref().or_else(from_url)
    }
}

/// Returns `true` if a path segment has the form of an Online customer id, `Cust12345`.
fn is_customer_id(name: &str) -> bool {
    let digits = name.get(..4).filter(|prefix| prefix.eq_ignore_ascii_case("cust")).map(|_| &name[4..]);
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the tenant and the credentials.
pub fn connection(env: &mut Environment<'_>) -> Option<Connection> {
    let tenant = env.get("SUPEROFFICE_TENANT");
    let has_url = env.get("SUPEROFFICE_URL").is_some();
    if !has_url && tenant.is_none() {
        env.problem("SUPEROFFICE_URL", "not set, nor is SUPEROFFICE_TENANT");
    }
    if tenant.as_deref().is_some_and(|tenant| tenant.contains(['/', '?', '#', ' '])) {
        env.problem("SUPEROFFICE_TENANT", "not a tenant's name such as Cust12345");
    }
    let url = has_url.then(|| api_url(env, "SUPEROFFICE_URL")).flatten().map(|url| without_api_path(&url));
    let environment_url = match env.get("SUPEROFFICE_ENVIRONMENT_URL") {
        Some(_) => api_url(env, "SUPEROFFICE_ENVIRONMENT_URL"),
        None => Url::parse(DEFAULT_ENVIRONMENT_URL).ok(),
    };
    let credentials = credentials(env, tenant.as_deref());
    Some(Connection { url, tenant, environment_url: environment_url?, credentials: credentials? })
}

/// Reads the first complete set of credentials.
fn credentials(env: &mut Environment<'_>, tenant: Option<&str>) -> Option<Credentials> {
    if let Some(token) = env.get("SUPEROFFICE_ACCESS_TOKEN") {
        let token = token.trim().to_owned();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.is_empty() {
            env.problem("SUPEROFFICE_ACCESS_TOKEN", "contains characters that a token does not have");
        }
        return Some(Credentials::Bearer(Sensitive::new(token)));
    }
    const SYSTEM_USER: [&str; 3] = ["SUPEROFFICE_SYSTEM_TOKEN", "SUPEROFFICE_CLIENT_SECRET", "SUPEROFFICE_PRIVATE_KEY"];
    let is_set = |name: &&str| env.get(name).is_some();
    let basic = ["SUPEROFFICE_USER", "SUPEROFFICE_PASSWORD"].iter().any(is_set);
    let system_user = SYSTEM_USER.iter().any(is_set);
    if basic {
        let user = env.required("SUPEROFFICE_USER");
        let password = env.required("SUPEROFFICE_PASSWORD");
        return Some(Credentials::Basic { user: user?, password: Sensitive::new(password?) });
    }
    if !system_user {
        env.problem(
            "SUPEROFFICE_ACCESS_TOKEN",
            "not set, nor are SUPEROFFICE_USER and SUPEROFFICE_PASSWORD, or SUPEROFFICE_SYSTEM_TOKEN, \
             SUPEROFFICE_CLIENT_SECRET and SUPEROFFICE_PRIVATE_KEY",
        );
        return None;
    }
    let [token, client_secret, private_key] = SYSTEM_USER.map(|variable| env.required(variable));
    if tenant.is_none() {
        env.problem("SUPEROFFICE_TENANT", "not set; a system user authenticates for a tenant");
    }
    // A missing value is a problem already; the key is checked nevertheless.
    match SystemUser::new(&token.unwrap_or_default(), &client_secret.unwrap_or_default(), &private_key?) {
        Ok(system_user) => Some(Credentials::SystemUser(system_user)),
        Err(problem) => {
            env.problem("SUPEROFFICE_PRIVATE_KEY", problem.to_string());
            None
        }
    }
}

/// Reads a required URL that credentials are sent to.
fn api_url(env: &mut Environment<'_>, variable: &'static str) -> Option<Url> {
    let text = env.required(variable)?;
    let problem = match Url::parse(text.trim().trim_end_matches('/')) {
        Err(_) => "not a URL",
        Ok(url) if url.query().is_some() || url.fragment().is_some() => "contains a query or a fragment",
        Ok(url) if !url.username().is_empty() || url.password().is_some() => "contains a user or a password",
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => return Some(url),
        Ok(_) => "does not begin with https:// (http:// is accepted for localhost only)",
    };
    env.problem(variable, problem);
    None
}

/// Reads `WEBHOOK_URL`. Webhooks are compared with the text as it is.
pub fn webhook_url(env: &mut Environment<'_>) -> Option<String> {
    let text = env.required("WEBHOOK_URL")?;
    match Url::parse(&text) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => Some(text),
        _ => {
            env.problem("WEBHOOK_URL", "not a URL that begins with https://");
            None
        }
    }
}

/// Reads the secret to register: the shared secret, or the secret derived for the tenant. If both are configured,
/// the path of `WEBHOOK_URL` decides, because a tenant's path only accepts the tenant's secret.
pub fn webhook_secret(env: &mut Environment<'_>) -> Option<Sensitive> {
    let secret = optional_webhook_secret(env);
    if secret.is_none() && !SECRETS.iter().any(|name| env.has_problem(name)) {
        env.problem(
            "SUPEROFFICE_WEBHOOK_SECRET",
            "not set, nor is SUPEROFFICE_TENANT_MASTER_SECRET with SUPEROFFICE_TENANT",
        );
    }
    secret
}

/// Reads the secret to register if there is one.
pub fn optional_webhook_secret(env: &mut Environment<'_>) -> Option<Sensitive> {
    let shared = env.get("SUPEROFFICE_WEBHOOK_SECRET");
    if shared.as_deref().is_some_and(|secret| secret.trim().is_empty()) {
        env.problem("SUPEROFFICE_WEBHOOK_SECRET", "contains only whitespace");
    }
    let tenant = env.get("SUPEROFFICE_TENANT");
    let has_master = env.get("SUPEROFFICE_TENANT_MASTER_SECRET").is_some();
    let derived = match &tenant {
        Some(tenant) if has_master => master_secret(env).map(|master| Sensitive::new(master.derive_text(tenant))),
        _ => None,
    };
    let on_tenant_path = tenant.is_some_and(|tenant| {
        env.get("WEBHOOK_URL").and_then(|url| Url::parse(&url).ok()).is_some_and(|url| names(&url, &tenant))
    });
    let shared = shared.map(Sensitive::new);
    if on_tenant_path { derived.or(shared) } else { shared.or(derived) }
}

/// Reads the required master secret.
pub fn master_secret(env: &mut Environment<'_>) -> Option<MasterSecret> {
    env.required("SUPEROFFICE_TENANT_MASTER_SECRET");
    env.parse("SUPEROFFICE_TENANT_MASTER_SECRET", str::parse)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str().unwrap_or_default() {
        "localhost" | "[::1]" => true,
        host => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// Removes `/api` and `/api/v1` from the end of a base URL, which is how SuperOffice states it.
pub(crate) fn without_api_path(url: &Url) -> Url {
    let mut url = url.clone();
    let path = url.path().trim_end_matches('/').to_owned();
    let lower = path.to_ascii_lowercase();
    let end = ["/api/v1", "/api"].iter().find(|end| lower.ends_with(*end)).map_or(0, |end| end.len());
    url.set_path(&path[..path.len() - end]);
    url
}

/// Returns `true` if a URL's path ends with `/webhook/<tenant>`.
fn names(url: &Url, tenant: &str) -> bool {
    let mut segments = url.path().trim_end_matches('/').rsplit('/');
    let last = segments.next().map(|last| percent_decode_str(last).decode_utf8_lossy());
    last.is_some_and(|last| last.eq_ignore_ascii_case(tenant)) && segments.next() == Some("webhook")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASTER: &str = "0123456789abcdef0123456789abcdef";

    fn with<T>(variables: &[(&str, &str)], read: impl FnOnce(&mut Environment<'_>) -> Option<T>) -> Result<T, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut environment = Environment::new(&lookup);
        let value = read(&mut environment);
        environment.finish(value).map_err(|error| error.to_string())
    }

    fn secret(variables: &[(&str, &str)]) -> Result<String, String> {
        with(variables, webhook_secret).map(|secret| secret.expose().to_owned())
    }

    #[test]
    fn all_problems_are_reported_together() {
        let error = with(
            &[("SUPEROFFICE_URL", "http://server/SuperOffice"), ("SUPEROFFICE_USER", "admin"), ("WEBHOOK_URL", "x")],
            |env| connection(env).zip(webhook_url(env)).zip(webhook_secret(env)).zip(env.required("LOG_GROUP_NAME")),
        )
        .unwrap_err();
        assert_eq!(
            error,
            "invalid configuration:\
             \n  SUPEROFFICE_URL: does not begin with https:// (http:// is accepted for localhost only)\
             \n  SUPEROFFICE_PASSWORD: not set\
             \n  WEBHOOK_URL: not a URL that begins with https://\
             \n  SUPEROFFICE_WEBHOOK_SECRET: not set, nor is SUPEROFFICE_TENANT_MASTER_SECRET with SUPEROFFICE_TENANT\
             \n  LOG_GROUP_NAME: not set"
        );
    }

    #[test]
    fn urls_are_checked() {
        let api = |url| with(&[("SUPEROFFICE_URL", url)], |env| api_url(env, "SUPEROFFICE_URL")).map(String::from);
        let error = |problem| Err(format!("invalid configuration:\n  SUPEROFFICE_URL: {problem}"));
        assert_eq!(api("https://host/Cust1/"), Ok("https://host/Cust1".into()));
        assert_eq!(api("http://localhost:8080/Cust1"), Ok("http://localhost:8080/Cust1".into()));
        for (url, problem) in [
            ("host/Cust1", "not a URL"),
            ("https://", "not a URL"),
            ("https://host/?a", "contains a query or a fragment"),
            ("https://host/#a", "contains a query or a fragment"),
            ("https://user@host/", "contains a user or a password"),
            ("https://:password@host/", "contains a user or a password"),
            ("file:///Cust1", "does not begin with https:// (http:// is accepted for localhost only)"),
            ("ftp://localhost/Cust1", "does not begin with https:// (http:// is accepted for localhost only)"),
        ] {
            assert_eq!(api(url), error(problem), "{url}");
        }
        let webhook = |url| with(&[("WEBHOOK_URL", url)], webhook_url);
        for url in ["https://host/webhook", "http://127.0.0.1:9000/webhook"] {
            assert_eq!(webhook(url), Ok(url.into()));
        }
        for url in ["host/webhook", "https://", "ftp://host/webhook"] {
            let expected = "invalid configuration:\n  WEBHOOK_URL: not a URL that begins with https://";
            assert_eq!(webhook(url), Err(expected.into()), "{url}");
        }
    }

    #[test]
    fn shared_secret_needs_no_master_secret() {
        let variables = [("SUPEROFFICE_WEBHOOK_SECRET", "shared"), ("SUPEROFFICE_TENANT", "Cust1")];
        assert_eq!(secret(&variables), Ok("shared".into()));
    }

    #[test]
    fn empty_values_count_as_unset() {
        let error =
            with(&[("SUPEROFFICE_URL", ""), ("SUPEROFFICE_TENANT", ""), ("SUPEROFFICE_ACCESS_TOKEN", "")], |env| {
                connection(env)
            })
            .unwrap_err();
        assert_eq!(
            error,
            "invalid configuration:\
             \n  SUPEROFFICE_URL: not set, nor is SUPEROFFICE_TENANT\
             \n  SUPEROFFICE_ACCESS_TOKEN: not set, nor are SUPEROFFICE_USER and SUPEROFFICE_PASSWORD, or \
             SUPEROFFICE_SYSTEM_TOKEN, SUPEROFFICE_CLIENT_SECRET and SUPEROFFICE_PRIVATE_KEY"
        );
    }

    #[test]
    fn system_user_needs_every_variable_and_a_tenant() {
        let error = with(
            &[("SUPEROFFICE_URL", "https://online3.superoffice.com/Cust1"), ("SUPEROFFICE_SYSTEM_TOKEN", "t")],
            connection,
        )
        .unwrap_err();
        assert_eq!(
            error,
            "invalid configuration:\
             \n  SUPEROFFICE_CLIENT_SECRET: not set\
             \n  SUPEROFFICE_PRIVATE_KEY: not set\
             \n  SUPEROFFICE_TENANT: not set; a system user authenticates for a tenant"
        );

        let error = with(
            &[
                ("SUPEROFFICE_URL", "https://online3.superoffice.com/Cust1"),
                ("SUPEROFFICE_TENANT", "Cust1"),
                ("SUPEROFFICE_PRIVATE_KEY", "hunter2"),
            ],
            connection,
        )
        .unwrap_err();
        assert_eq!(
            error,
            "invalid configuration:\
             \n  SUPEROFFICE_SYSTEM_TOKEN: not set\
             \n  SUPEROFFICE_CLIENT_SECRET: not set\
             \n  SUPEROFFICE_PRIVATE_KEY: not a PEM text with `BEGIN PRIVATE KEY` or `BEGIN RSA PRIVATE KEY`"
        );
    }

    #[test]
    fn both_webhook_secrets_are_checked() {
        let error = secret(&[
            ("SUPEROFFICE_WEBHOOK_SECRET", " "),
            ("SUPEROFFICE_TENANT_MASTER_SECRET", "short"),
            ("SUPEROFFICE_TENANT", "Cust1"),
        ]);
        let expected = "invalid configuration:\
             \n  SUPEROFFICE_WEBHOOK_SECRET: contains only whitespace\
             \n  SUPEROFFICE_TENANT_MASTER_SECRET: the master secret is shorter than 32 bytes, or only whitespace";
        assert_eq!(error, Err(expected.into()));
    }

    #[test]
    fn problems_do_not_contain_secrets() {
        let error = with(
            &[
                ("SUPEROFFICE_URL", "https://user:hunter2@server"),
                ("SUPEROFFICE_ACCESS_TOKEN", "hunter2\u{7f}"),
                ("SUPEROFFICE_TENANT_MASTER_SECRET", "hunter2"),
                ("SUPEROFFICE_TENANT", "Cust1"),
            ],
            |env| connection(env).zip(webhook_secret(env)),
        )
        .unwrap_err();
        assert_eq!(
            error,
            "invalid configuration:\
             \n  SUPEROFFICE_URL: contains a user or a password\
             \n  SUPEROFFICE_ACCESS_TOKEN: contains characters that a token does not have\
             \n  SUPEROFFICE_TENANT_MASTER_SECRET: the master secret is shorter than 32 bytes, or only whitespace"
        );
    }

    #[test]
    fn base_url_is_accepted_with_and_without_the_api_path() {
        for url in
            ["https://server/SuperOffice", "https://server/SuperOffice/api/", "https://server/SuperOffice/API/v1"]
        {
            let connection = with(&[("SUPEROFFICE_URL", url), ("SUPEROFFICE_ACCESS_TOKEN", "t")], connection).unwrap();
            assert_eq!(connection.url.unwrap().as_str(), "https://server/SuperOffice", "{url}");
        }
    }

    #[test]
    fn context_identifier_comes_from_the_variable_or_the_url() {
        for (tenant, url, expected) in [
            ("Cust7", "https://online3.superoffice.com/Cust12345", Some("Cust7")),
            ("", "https://online3.superoffice.com/Cust12345", Some("Cust12345")),
            ("", "https://online3.superoffice.com/cust12345/api", Some("cust12345")),
            ("", "https://server/SuperOffice", None),
            ("", "https://server/Customer", None),
            ("", "https://server", None),
        ] {
            let variables =
                [("SUPEROFFICE_TENANT", tenant), ("SUPEROFFICE_URL", url), ("SUPEROFFICE_ACCESS_TOKEN", "t")];
            let connection = with(&variables, connection).unwrap();
            assert_eq!(connection.context_identifier(), expected, "{url}");
        }
    }

    #[test]
    fn path_of_the_webhook_url_selects_the_secret() {
        let derived = MASTER.parse::<MasterSecret>().unwrap().derive_text("Cust1");
        let both = [
            ("SUPEROFFICE_WEBHOOK_SECRET", "shared"),
            ("SUPEROFFICE_TENANT_MASTER_SECRET", MASTER),
            ("SUPEROFFICE_TENANT", "Cust1"),
        ];
        for (url, expected) in [
            ("https://host/webhook", "shared"),
            ("https://host/webhook/Cust2", "shared"),
            ("https://host/hook/Cust1", "shared"),
            ("https://host/prod/webhook/cust1/", derived.as_str()),
            ("https://host/webhook/Cus%741", derived.as_str()),
        ] {
            let variables = [both.as_slice(), &[("WEBHOOK_URL", url)]].concat();
            assert_eq!(secret(&variables).as_deref(), Ok(expected), "{url}");
        }
        assert_eq!(secret(&both[1..]).as_deref(), Ok(derived.as_str()));
        assert_eq!(secret(&both[..1]).as_deref(), Ok("shared"));
        assert!(secret(&both[1..2]).is_err());
        assert!(secret(&[("SUPEROFFICE_WEBHOOK_SECRET", " \n")]).is_err());
    }
}
