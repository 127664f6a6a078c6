//! The configuration from environment variables.

use aws_setup::{HttpsSettings, InvalidSettings};
use superoffice_client::Archive;
use superoffice_client::settings::WebhookSettings;
use superoffice_webhook::env::{ConfigError, Environment};
use tenants::TenantSource;

/// The number of contacts and persons that a run signals for each tenant at most, unless `MAX_RESYNCS` is set.
const DEFAULT_MAX_RESYNCS: usize = 500;

/// `WATCHDOG_MODE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Only measure and report.
    Report,
    /// Also reactivate the webhook and signal missed contacts.
    Act,
}

impl Mode {
    /// `report` or `act`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Act => "act",
        }
    }
}

/// Everything that the environment decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// `WEBHOOK_URL`, and the secrets if they are configured. Tests need a secret only if SuperOffice does not return the
    /// stored one.
    pub webhook: WebhookSettings,
    /// `LOG_GROUP_NAME`: the function's log.
    pub log_group: String,
    /// The watchdog's own log: `WATCHDOG_LOG_GROUP_NAME`, or the one that Lambda names.
    pub own_log_group: String,
    /// `SYNC_ENTITIES`: the entities whose lost events are recovered.
    pub entities: Vec<&'static Archive>,
    /// `WATCHDOG_MODE`.
    pub mode: Mode,
    /// `MAX_RESYNCS`.
    pub max_resyncs: usize,
}

impl Config {
    /// Reads the place of the tenants, and the configuration, through a lookup of environment variables.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem at once. No message contains a secret.
    pub fn from_lookup(lookup: &dyn Fn(&str) -> Option<String>) -> Result<(TenantSource, Self), ConfigError> {
        let mut environment = Environment::new(lookup);
        let tenants = TenantSource::from_environment(&mut environment);
        let webhook = WebhookSettings::from_environment(&mut environment);
        let log_group = environment.required("LOG_GROUP_NAME");
        let own_log_group = ["WATCHDOG_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_GROUP_NAME"]
            .into_iter()
            .find_map(|variable| environment.get(variable))
            .or_else(|| environment.get("AWS_LAMBDA_FUNCTION_NAME").map(|name| format!("/aws/lambda/{name}")));
        if own_log_group.is_none() {
            environment.problem("WATCHDOG_LOG_GROUP_NAME", "not set, nor is AWS_LAMBDA_LOG_GROUP_NAME");
        }
        let entities = Archive::from_environment(&mut environment);
        let mode = match environment.get("WATCHDOG_MODE").as_deref() {
            None | Some("report") => Some(Mode::Report),
            Some("act") => Some(Mode::Act),
            Some(_) => {
                environment.problem("WATCHDOG_MODE", "expected `report` or `act`");
                None
            }
        };
        let max_resyncs = match environment.get("MAX_RESYNCS").map(|text| text.parse()) {
            None => Some(DEFAULT_MAX_RESYNCS),
            Some(Ok(number)) if number > 0 => Some(number),
            Some(_) => {
                environment.problem("MAX_RESYNCS", "expected a number greater than 0");
                None
            }
        };
        // The SDK's configuration reads the way to AWS itself. Here, its problems join the others.
        let https = HttpsSettings::from_lookup(|name| environment.get(name)).map_err(InvalidSettings::into_problems);
        environment.accept(https);
        let config = || {
            Some(Self {
                webhook: webhook?,
                log_group: log_group?,
                own_log_group: own_log_group?,
                entities: entities?,
                mode: mode?,
                max_resyncs: max_resyncs?,
            })
        };
        let config = config();
        environment.finish(tenants.zip(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUIRED: [(&str, &str); 5] = [
        ("SUPEROFFICE_URL", "https://online3.superoffice.com/Cust12345"),
        ("SUPEROFFICE_ACCESS_TOKEN", "token"),
        ("WEBHOOK_URL", "https://hooks.example.com/webhook"),
        ("LOG_GROUP_NAME", "/aws/lambda/webhook"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/watchdog"),
    ];

    fn read(variables: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Config::from_lookup(&lookup).map(|(_, config)| config).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_report_and_limit_the_signals() {
        let config = read(&REQUIRED).unwrap();
        assert_eq!((config.mode, config.max_resyncs), (Mode::Report, 500));
        assert_eq!(config.entities, [Archive::CONTACT]);
        assert!(config.webhook.secret(Some("Cust12345")).unwrap().is_none());
    }

    #[test]
    fn mode_limit_and_entities_are_read() {
        let variables = [
            REQUIRED.as_slice(),
            &[("WATCHDOG_MODE", "act"), ("MAX_RESYNCS", "7"), ("SYNC_ENTITIES", "person,contact")],
        ]
        .concat();
        let config = read(&variables).unwrap();
        assert_eq!((config.mode, config.max_resyncs), (Mode::Act, 7));
        assert_eq!(config.entities, [Archive::CONTACT, Archive::PERSON]);
        assert_eq!((config.mode.as_str(), Mode::Report.as_str()), ("act", "report"));
    }

    #[test]
    fn own_log_group_is_the_configured_one_or_lambdas() {
        let own = [
            ("AWS_LAMBDA_FUNCTION_NAME", "watchdog"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "lambda's"),
            ("WATCHDOG_LOG_GROUP_NAME", "configured"),
        ];
        for (number, expected) in ["/aws/lambda/watchdog", "lambda's", "configured"].into_iter().enumerate() {
            let variables = [&REQUIRED[..4], &own[..=number]].concat();
            assert_eq!(read(&variables).unwrap().own_log_group, expected);
        }
    }

    #[test]
    fn all_problems_are_reported_together() {
        let wrong = [
            ("WATCHDOG_MODE", "Act"),
            ("MAX_RESYNCS", "0"),
            ("AWS_CA_BUNDLE", "/missing.pem"),
            ("https_proxy", "ftp://p"),
        ];
        let variables = [&REQUIRED[..2], &wrong].concat();
        assert_eq!(
            read(&variables).unwrap_err(),
            "invalid configuration:\
             \n  WEBHOOK_URL: not set\
             \n  LOG_GROUP_NAME: not set\
             \n  WATCHDOG_LOG_GROUP_NAME: not set, nor is AWS_LAMBDA_LOG_GROUP_NAME\
             \n  WATCHDOG_MODE: expected `report` or `act`\
             \n  MAX_RESYNCS: expected a number greater than 0\
             \n  https_proxy: expected http://host:port or https://host:port\
             \n  AWS_CA_BUNDLE: cannot be read: No such file or directory (os error 2)"
        );
    }
}
