//! The variables that concern the webhooks.

use reqwest::Url;
use secrecy::SecretString;
use superoffice_webhook::MasterSecret;
use superoffice_webhook::env::Environment;
use superoffice_webhook::webhook::tenant::from_path;

/// The variables with the secrets of webhooks.
const SECRETS: [&str; 2] = ["SUPEROFFICE_WEBHOOK_SECRET", "SUPEROFFICE_TENANT_MASTER_SECRET"];

/// The part of `WEBHOOK_URL` that is replaced by the tenant.
const PLACEHOLDER: &str = "{tenant}";

/// The URL and the secrets of the webhooks, for any tenant.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    url: String,
    shared: Option<SecretString>,
    master: Option<MasterSecret>,
}

/// The settings need the tenant's name, which is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTenantName {
    /// The URL has a placeholder.
    #[error("WEBHOOK_URL contains {PLACEHOLDER}, and the tenant is not known; set SUPEROFFICE_TENANT")]
    Url,
    /// The secret is derived.
    #[error("the secret is derived for a tenant, and the tenant is not known; set SUPEROFFICE_TENANT")]
    Secret,
}

impl WebhookSettings {
    /// Reads `WEBHOOK_URL`, and the secrets if they are set.
    pub fn from_environment(env: &mut Environment<'_>) -> Option<Self> {
        let [shared, master] = SECRETS;
        let shared = env.parse(shared, |secret| match secret.trim().is_empty() {
            true => Err("contains only whitespace"),
            false => Ok(SecretString::from(secret)),
        });
        let master = env.parse(master, str::parse);
        Some(Self { url: webhook_url(env)?, shared, master })
    }

    /// Reads `WEBHOOK_URL` and the secrets. Without a secret, there is a problem.
    pub fn with_required_secret(env: &mut Environment<'_>) -> Option<Self> {
        let settings = Self::from_environment(env);
        if !SECRETS.iter().any(|name| env.is_set(name)) {
            env.problem(SECRETS[0], format_args!("not set, nor is {}", SECRETS[1]));
        }
        settings
    }

    /// Returns the URL that a tenant's webhooks post to.
    ///
    /// # Errors
    ///
    /// [`NoTenantName::Url`] if the URL has a placeholder and the tenant is not known.
    pub fn url(&self, tenant: Option<&str>) -> Result<String, NoTenantName> {
        match tenant {
            Some(tenant) => Ok(self.url.replace(PLACEHOLDER, tenant)),
            None if self.has_placeholder() => Err(NoTenantName::Url),
            None => Ok(self.url.clone()),
        }
    }

    /// Returns the secret of a tenant's webhooks: the shared secret, or the secret derived for the tenant. If both are
    /// configured, the path of the URL decides, because a tenant's path only accepts the tenant's secret.
    ///
    /// # Errors
    ///
    /// [`NoTenantName::Secret`] if only a master secret is configured and the tenant is not known.
    pub fn secret(&self, tenant: Option<&str>) -> Result<Option<SecretString>, NoTenantName> {
        let derived = self.master.as_ref().zip(tenant).map(|(master, tenant)| master.derive_text(tenant).into());
        if self.master.is_some() && derived.is_none() && self.shared.is_none() {
            return Err(NoTenantName::Secret);
        }
        let is_on_tenant_path = tenant.is_some_and(|tenant| {
            let url = Url::parse(&self.url.replace(PLACEHOLDER, tenant));
            url.is_ok_and(|url| from_path(url.path()).is_some_and(|named| named.eq_ignore_ascii_case(tenant)))
        });
        let shared = self.shared.clone();
        Ok(if is_on_tenant_path { derived.or(shared) } else { shared.or(derived) })
    }

    /// Returns `true` if each tenant has a URL of its own.
    pub fn has_placeholder(&self) -> bool {
        self.url.contains(PLACEHOLDER)
    }

    /// Returns `true` if the tenants' secrets are derived from a master secret.
    pub fn has_master_secret(&self) -> bool {
        self.master.is_some()
    }
}

/// Reads `WEBHOOK_URL`. Webhooks are compared with the text as it is.
fn webhook_url(env: &mut Environment<'_>) -> Option<String> {
    let text = env.required("WEBHOOK_URL")?;
    match Url::parse(&text.replace(PLACEHOLDER, "tenant")) {
        Ok(url) if matches!(url.scheme(), "https" | "http") => Some(text),
        _ => {
            env.problem("WEBHOOK_URL", "not a URL that begins with https://");
            None
        }
    }
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
    fn placeholder_stands_for_the_tenant() {
        let read = |url| {
            let variables = [("WEBHOOK_URL", url), ("SUPEROFFICE_TENANT_MASTER_SECRET", MASTER)];
            with(&variables, WebhookSettings::with_required_secret).unwrap()
        };
        let settings = read("https://host/webhook/{tenant}");
        assert!(settings.has_placeholder() && settings.has_master_secret());
        assert_eq!(settings.url(Some("Cust1")), Ok("https://host/webhook/Cust1".to_owned()));
        assert_eq!(settings.url(None), Err(NoTenantName::Url));
        assert_eq!(settings.secret(None).unwrap_err(), NoTenantName::Secret);
        let derived = MASTER.parse::<MasterSecret>().unwrap().derive_text("Cust1");
        assert_eq!(settings.secret(Some("cust1")).unwrap().unwrap().expose_secret(), derived);
        let settings = read("https://{tenant}.host/webhook");
        assert_eq!(settings.url(Some("cust1")), Ok("https://cust1.host/webhook".to_owned()));
        assert_eq!(read("https://host/webhook").url(None), Ok("https://host/webhook".to_owned()));
    }

    #[test]
    fn tenant_path_selects_the_derived_secret() {
        let derived = MASTER.parse::<MasterSecret>().unwrap().derive_text("Cust1");
        for (url, expected) in [
            ("https://host/webhook", "shared"),
            ("https://host/webhook/Cust2", "shared"),
            ("https://host/hook/Cust1", "shared"),
            ("https://host/prod/webhook/cust1/", derived.as_str()),
            ("https://host/webhook/Cus%741", derived.as_str()),
            ("https://host/webhook/{tenant}", derived.as_str()),
            ("https://{tenant}.host/webhook", "shared"),
        ] {
            let variables = [
                ("WEBHOOK_URL", url),
                ("SUPEROFFICE_WEBHOOK_SECRET", "shared"),
                ("SUPEROFFICE_TENANT_MASTER_SECRET", MASTER),
            ];
            let settings = with(&variables, WebhookSettings::from_environment).unwrap();
            assert_eq!(settings.secret(Some("Cust1")).unwrap().unwrap().expose_secret(), expected, "{url}");
        }
        let without = with(&[("WEBHOOK_URL", "https://host/")], WebhookSettings::from_environment).unwrap();
        assert!(without.secret(Some("Cust1")).unwrap().is_none());
        assert_eq!(
            with(&[("WEBHOOK_URL", "https://host/")], WebhookSettings::with_required_secret).unwrap_err(),
            "invalid configuration:\n  SUPEROFFICE_WEBHOOK_SECRET: not set, nor is SUPEROFFICE_TENANT_MASTER_SECRET"
        );
    }

    #[test]
    fn both_webhook_secrets_are_checked() {
        let variables = [
            ("WEBHOOK_URL", "https://host/webhook"),
            ("SUPEROFFICE_WEBHOOK_SECRET", " \n"),
            ("SUPEROFFICE_TENANT_MASTER_SECRET", "short"),
        ];
        let error = with(&variables, WebhookSettings::from_environment).map(|_| ());
        let expected = "invalid configuration:\
             \n  SUPEROFFICE_WEBHOOK_SECRET: contains only whitespace\
             \n  SUPEROFFICE_TENANT_MASTER_SECRET: the master secret is shorter than 32 bytes, or only whitespace";
        assert_eq!(error, Err(expected.into()));
    }
}
