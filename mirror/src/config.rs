//! The configuration from environment variables.

use aws_setup::{HttpsSettings, InvalidSettings};
use superoffice_webhook::Verifier;
use superoffice_webhook::env::{ConfigError, Environment};
use tenants::TenantSource;

use crate::audit::Settings;

/// Everything that the environment decides.
#[derive(Debug)]
pub struct Config {
    /// `MIRROR_TABLE`: the table's name, or the ARN of a table in another region.
    pub table: String,
    /// The tenant of the environment, or the list of tenants.
    pub tenants: TenantSource,
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
        let tenants = TenantSource::from_environment(&mut environment);
        let verifier = Verifier::from_environment(&mut environment);
        let audit = Settings::from_environment(&mut environment);
        // The SDK's configuration reads the way to AWS itself. Here, its problems join the others.
        let https = HttpsSettings::from_lookup(|name| environment.get(name)).map_err(InvalidSettings::into_problems);
        environment.accept(https);
        let config = || Some(Self { table: table?, tenants: tenants?, verifier, audit });
        let config = config();
        environment.finish(config)
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
    fn tenant_is_of_the_environment_or_of_a_list() {
        assert_eq!(with(&[("SUPEROFFICE_URL", "https://server")]).tenants.path(), None);
        let list = read(&[("MIRROR_TABLE", "contacts"), ("SUPEROFFICE_TENANTS_PARAMETER", "/superoffice/app")]);
        assert_eq!(list.unwrap().tenants.path(), Some("/superoffice/app"));
    }

    #[test]
    fn signatures_are_verified_if_there_is_a_secret() {
        let url = ("SUPEROFFICE_URL", "https://server");
        assert!(with(&[url]).verifier.is_none());
        assert!(with(&[url, ("SUPEROFFICE_WEBHOOK_SECRET", "secret")]).verifier.is_some());
    }

    #[test]
    fn all_problems_are_reported_together() {
        let bundle = ("AWS_CA_BUNDLE", "/missing.pem");
        assert_eq!(
            read(&[("SUPEROFFICE_ACCESS_TOKEN", "t"), ("SUPEROFFICE_TENANT_SECRETS", "{"), bundle]).unwrap_err(),
            "invalid configuration:\
             \n  MIRROR_TABLE: not set\
             \n  SUPEROFFICE_URL: not set, nor is SUPEROFFICE_TENANT\
             \n  SUPEROFFICE_TENANT_SECRETS: expected a JSON object that maps each ContextIdentifier to a secret or an array of \
             secrets (line 1, column 1)\
             \n  AWS_CA_BUNDLE: cannot be read: No such file or directory (os error 2)"
        );
    }
}
