//! The configuration from environment variables. All problems are reported together, and no message contains a secret.

mod webhook;

use reqwest::{Certificate, Url};
use superoffice_webhook::env::Environment;

use crate::auth::Credentials;
use crate::connection::{Connection, is_loopback, without_api_path};
use crate::system_user::{SystemApp, SystemUser};

pub use webhook::{NoTenantName, WebhookSettings, master_secret};

const ENVIRONMENT_URL: &str = "SUPEROFFICE_ENVIRONMENT_URL";
/// The server unless [`ENVIRONMENT_URL`] is set.
const DEFAULT_ENVIRONMENT_URL: &str = "https://online.superoffice.com";

/// Reads the tenant and the credentials.
pub fn connection(env: &mut Environment<'_>) -> Option<Connection> {
    let tenant = env.get("SUPEROFFICE_TENANT");
    if !env.is_set("SUPEROFFICE_URL") && tenant.is_none() {
        env.problem("SUPEROFFICE_URL", "not set, nor is SUPEROFFICE_TENANT");
    }
    if tenant.as_deref().is_some_and(|tenant| tenant.contains(['/', '?', '#', ' '])) {
        env.problem("SUPEROFFICE_TENANT", "not a tenant's name such as Cust12345");
    }
    let url = env.parse("SUPEROFFICE_URL", parse_base_url);
    let environment_url = environment_url(env);
    let credentials = credentials(env, tenant.as_deref());
    let certificates = certificates(env);
    Some(Connection { url, tenant, environment_url: environment_url?, credentials: credentials?, certificates })
}

/// Reads the server on which a tenant's base URL is looked up.
pub fn environment_url(env: &mut Environment<'_>) -> Option<Url> {
    match env.get(ENVIRONMENT_URL) {
        Some(_) => env.parse(ENVIRONMENT_URL, parse_api_url),
        None => Url::parse(DEFAULT_ENVIRONMENT_URL).ok(),
    }
}

/// Reads the values of an Online app that its system users share, if they are set.
pub fn system_app(env: &mut Environment<'_>) -> Option<SystemApp> {
    const APP: [&str; 2] = ["SUPEROFFICE_CLIENT_SECRET", "SUPEROFFICE_PRIVATE_KEY"];
    if !APP.iter().any(|name| env.is_set(name)) {
        return None;
    }
    let [client_secret, private_key] = APP.map(|name| env.required(name));
    let client_secret = client_secret.unwrap_or_default();
    // A missing value is a problem already; the key is checked nevertheless.
    let app = SystemApp::new(&client_secret, &private_key?);
    app.map_err(|problem| env.problem("SUPEROFFICE_PRIVATE_KEY", problem)).ok()
}

/// Parses the base URL of a tenant, with or without the path of the API. The text of an error is fixed.
///
/// # Errors
///
/// The reason why credentials are not sent to the URL.
pub fn parse_base_url(text: &str) -> Result<Url, &'static str> {
    parse_api_url(text).map(|url| without_api_path(&url))
}

/// Reads the certificates in `SUPEROFFICE_CA` and in the file that `SUPEROFFICE_CA_FILE` names.
pub fn certificates(env: &mut Environment<'_>) -> Vec<Certificate> {
    // Environment variables often contain `\n` for a line break.
    let inline = env.parse("SUPEROFFICE_CA", |pem| parse_certificates(&pem.replace("\\n", "\n")));
    let file = env.parse("SUPEROFFICE_CA_FILE", |path| match std::fs::read_to_string(path) {
        Ok(pem) => parse_certificates(&pem),
        Err(error) => Err(format!("the file cannot be read: {error}")),
    });
    inline.into_iter().chain(file).flatten().collect()
}

fn parse_certificates(pem: &str) -> Result<Vec<Certificate>, String> {
    let certificates = Certificate::from_pem_bundle(pem.as_bytes()).unwrap_or_default();
    if certificates.is_empty() { Err("contains no certificate in PEM".into()) } else { Ok(certificates) }
}

/// Reads the first complete set of credentials.
fn credentials(env: &mut Environment<'_>, tenant: Option<&str>) -> Option<Credentials> {
    if let Some(token) = env.get("SUPEROFFICE_ACCESS_TOKEN") {
        let token = token.trim().to_owned();
        if !token.bytes().all(|byte| byte.is_ascii_graphic()) || token.is_empty() {
            env.problem("SUPEROFFICE_ACCESS_TOKEN", "contains characters that a token does not have");
        }
        return Some(Credentials::Bearer(token.into()));
    }
    const SYSTEM_USER: [&str; 3] = ["SUPEROFFICE_SYSTEM_TOKEN", "SUPEROFFICE_CLIENT_SECRET", "SUPEROFFICE_PRIVATE_KEY"];
    let is_set = |name: &&str| env.get(name).is_some();
    let basic = ["SUPEROFFICE_USER", "SUPEROFFICE_PASSWORD"].iter().any(is_set);
    let system_user = SYSTEM_USER.iter().any(is_set);
    if basic {
        let user = env.required("SUPEROFFICE_USER");
        let password = env.required("SUPEROFFICE_PASSWORD");
        return Some(Credentials::Basic { user: user?, password: password?.into() });
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

/// Parses a URL that credentials are sent to.
fn parse_api_url(text: &str) -> Result<Url, &'static str> {
    match Url::parse(text.trim().trim_end_matches('/')) {
        Err(_) => Err("not a URL"),
        Ok(url) if url.query().is_some() || url.fragment().is_some() => Err("contains a query or a fragment"),
        Ok(url) if !url.username().is_empty() || url.password().is_some() => Err("contains a user or a password"),
        Ok(url) if url.scheme() == "https" || (url.scheme() == "http" && is_loopback(&url)) => Ok(url),
        Ok(_) => Err("does not begin with https:// (http:// is accepted for localhost only)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn with<T>(
        variables: &[(&str, &str)],
        read: impl FnOnce(&mut Environment<'_>) -> Option<T>,
    ) -> Result<T, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let mut environment = Environment::new(&lookup);
        let value = read(&mut environment);
        environment.finish(value).map_err(|error| error.to_string())
    }

    #[test]
    fn all_problems_are_reported_together() {
        let error = with(
            &[("SUPEROFFICE_URL", "http://server/SuperOffice"), ("SUPEROFFICE_USER", "admin"), ("WEBHOOK_URL", "x")],
            |env| {
                let webhooks = connection(env).zip(WebhookSettings::with_required_secret(env));
                webhooks.zip(env.required("LOG_GROUP_NAME"))
            },
        )
        .unwrap_err();
        assert_eq!(
            error,
            "invalid configuration:\
             \n  SUPEROFFICE_URL: does not begin with https:// (http:// is accepted for localhost only)\
             \n  SUPEROFFICE_PASSWORD: not set\
             \n  WEBHOOK_URL: not a URL that begins with https://\
             \n  SUPEROFFICE_WEBHOOK_SECRET: not set, nor is SUPEROFFICE_TENANT_MASTER_SECRET\
             \n  LOG_GROUP_NAME: not set"
        );
    }

    #[test]
    fn urls_are_checked() {
        let api = |url| parse_api_url(url).map(String::from);
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
            assert_eq!(api(url), Err(problem), "{url}");
        }
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
    fn problems_do_not_contain_secrets() {
        let error = with(
            &[
                ("SUPEROFFICE_URL", "https://user:hunter2@server"),
                ("SUPEROFFICE_ACCESS_TOKEN", "hunter2\u{7f}"),
                ("SUPEROFFICE_TENANT_MASTER_SECRET", "hunter2"),
                ("SUPEROFFICE_TENANT", "Cust1"),
                ("WEBHOOK_URL", "https://host/webhook"),
            ],
            |env| connection(env).zip(WebhookSettings::with_required_secret(env)),
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
    fn unusable_certificates_are_problems() {
        let variables = [("SUPEROFFICE_CA", "hunter2"), ("SUPEROFFICE_CA_FILE", "/dev/null")];
        assert_eq!(
            with(&variables, |env| Some(certificates(env))).unwrap_err(),
            "invalid configuration:\
             \n  SUPEROFFICE_CA: contains no certificate in PEM\
             \n  SUPEROFFICE_CA_FILE: contains no certificate in PEM"
        );
        let error = with(&[("SUPEROFFICE_CA_FILE", "no/such/file")], |env| Some(certificates(env))).unwrap_err();
        assert!(error.contains("SUPEROFFICE_CA_FILE: the file cannot be read: No such file"), "{error}");
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
}
