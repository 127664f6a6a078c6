//! The configuration from environment variables.

use superoffice_client::{Connection, settings};
use superoffice_webhook::Verifier;
use superoffice_webhook::env::{ConfigError, Environment};

use crate::audit::Settings;
use crate::tenants::ONSITE;

/// Everything that the environment decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// `MIRROR_TABLE`: the table's name, or the ARN of a table in another region.
    pub table: String,
    /// The tenant and the credentials.
    pub connection: Connection,
    /// Verifies signatures again. `None` without a secret.
    pub verifier: Option<Verifier>,
    /// The settings of audits.
    pub audit: Settings,
}

impl Config {
    /// Reads the configuration through a lookup of environment variables.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem at once. No message contains a secret.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut environment = Environment::new(lookup);
        let table = environment.required("MIRROR_TABLE");
        let connection = settings::connection(&mut environment);
        let verifier = Verifier::from_environment(&mut environment);
        let audit = Settings::from_environment(&mut environment);
        let config = || Some(Self { table: table?, connection: connection?, verifier, audit });
        let config = config();
        environment.finish(config)
    }

    /// Returns the name of the environment's tenant.
    pub fn tenant(&self) -> &str {
        self.connection.context_identifier().unwrap_or(ONSITE)
    }

    /// Returns the region in the table's ARN.
    pub fn table_region(&self) -> Option<&str> {
        let mut parts = self.table.split(':');
        (parts.next() == Some("arn")).then(|| parts.nth(2)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::from_lookup(&lookup).map_err(|error| error.to_string())
    }

    fn with(variables: &[(&str, &str)]) -> Config {
        read(&[variables, &[("MIRROR_TABLE", "contacts"), ("SUPEROFFICE_ACCESS_TOKEN", "t")]].concat()).unwrap()
    }

    #[test]
    fn tenant_is_configured_or_in_the_url_or_onsite() {
        let url = ("SUPEROFFICE_URL", "https://online3.superoffice.com/Cust12345");
        assert_eq!(with(&[url]).tenant(), "Cust12345");
        assert_eq!(with(&[url, ("SUPEROFFICE_TENANT", "Cust7")]).tenant(), "Cust7");
        assert_eq!(with(&[("SUPEROFFICE_URL", "https://server/SuperOffice")]).tenant(), "onsite");
    }

    #[test]
    fn region_is_read_from_an_arn() {
        let config = with(&[("SUPEROFFICE_URL", "https://server")]);
        assert_eq!(config.table_region(), None);
        let arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/contacts".to_owned();
        assert_eq!(Config { table: arn, ..config }.table_region(), Some("eu-west-1"));
    }

    #[test]
    fn signatures_are_verified_if_there_is_a_secret() {
        let url = ("SUPEROFFICE_URL", "https://server");
        assert!(with(&[url]).verifier.is_none());
        assert!(with(&[url, ("SUPEROFFICE_WEBHOOK_SECRET", "secret")]).verifier.is_some());
    }

    #[test]
    fn all_problems_are_reported_together() {
        assert_eq!(
            read(&[("SUPEROFFICE_ACCESS_TOKEN", "t"), ("SUPEROFFICE_TENANT_SECRETS", "{")]).unwrap_err(),
            "invalid configuration:\
             \n  MIRROR_TABLE: not set\
             \n  SUPEROFFICE_URL: not set, nor is SUPEROFFICE_TENANT\
             \n  SUPEROFFICE_TENANT_SECRETS: expected a JSON object that maps each ContextIdentifier to a secret or an array of \
             secrets (line 1, column 1)"
        );
    }
}
