//! The variables that concern the webhooks.

use reqwest::Url;
use secrecy::SecretString;
use superoffice_webhook::MasterSecret;
use superoffice_webhook::env::Environment;
use superoffice_webhook::webhook::tenant::from_path;

/// The variables with the secrets of webhooks.
const SECRETS: [&str; 2] = ["SUPEROFFICE_WEBHOOK_SECRET", "SUPEROFFICE_TENANT_MASTER_SECRET"];

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
pub fn webhook_secret(env: &mut Environment<'_>) -> Option<SecretString> {
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
pub fn optional_webhook_secret(env: &mut Environment<'_>) -> Option<SecretString> {
    let shared = env.get("SUPEROFFICE_WEBHOOK_SECRET");
    if shared.as_deref().is_some_and(|secret| secret.trim().is_empty()) {
        env.problem("SUPEROFFICE_WEBHOOK_SECRET", "contains only whitespace");
    }
    let tenant = env.get("SUPEROFFICE_TENANT");
    let has_master = env.get("SUPEROFFICE_TENANT_MASTER_SECRET").is_some();
    let derived = match &tenant {
        Some(tenant) if has_master => master_secret(env).map(|master| master.derive_text(tenant).into()),
        _ => None,
    };
    let on_tenant_path = tenant.is_some_and(|tenant| {
        let url = env.get("WEBHOOK_URL").and_then(|url| Url::parse(&url).ok());
        url.is_some_and(|url| from_path(url.path()).is_some_and(|named| named.eq_ignore_ascii_case(&tenant)))
    });
    let shared = shared.map(SecretString::from);
    if on_tenant_path { derived.or(shared) } else { shared.or(derived) }
}

/// Reads the required master secret.
pub fn master_secret(env: &mut Environment<'_>) -> Option<MasterSecret> {
    env.required("SUPEROFFICE_TENANT_MASTER_SECRET");
    env.parse("SUPEROFFICE_TENANT_MASTER_SECRET", str::parse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::with;
    use secrecy::ExposeSecret;

    const MASTER: &str = "0123456789abcdef0123456789abcdef";

    fn secret(variables: &[(&str, &str)]) -> Result<String, String> {
        with(variables, webhook_secret).map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn webhook_url_is_kept_as_it_is() {
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
