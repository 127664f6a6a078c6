//! The configuration, from the environment.

use aws_setup::{HttpsSettings, InvalidSettings};

use crate::env::{ConfigError, Environment};
use crate::function::filter::EventFilter;
use crate::function::queue_url::QueueUrl;
use crate::message::MessageFormat;
use crate::webhook::secrets;
use crate::webhook::verifier::Verifier;

/// The configuration of the function.
#[derive(Clone, Debug)]
pub struct Config {
    /// The secrets: `SUPEROFFICE_WEBHOOK_SECRET`, `SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS`, `SUPEROFFICE_TENANT_SECRETS`,
    /// `SUPEROFFICE_TENANT_MASTER_SECRET`, `SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS`.
    pub verifier: Verifier,
    /// `QUEUE_URL`: the queue for events.
    pub queue: QueueUrl,
    /// `QUARANTINE_QUEUE_URL`: the queue for malformed bodies.
    pub quarantine_queue: Option<QueueUrl>,
    /// `FALLBACK_QUEUE_URL`: the queue for messages that the other queues do not accept in time.
    pub fallback_queue: Option<QueueUrl>,
    /// `FORWARD_EVENTS`: the events to forward.
    pub filter: EventFilter,
    /// `MESSAGE_FORMAT`: the format of a message body.
    pub format: MessageFormat,
    /// `HTTPS_PROXY`, `NO_PROXY`, `AWS_CA_BUNDLE`: the way to AWS.
    pub https: HttpsSettings,
}

const QUEUE: &str = "QUEUE_URL";
const QUARANTINE_QUEUE: &str = "QUARANTINE_QUEUE_URL";
const FALLBACK_QUEUE: &str = "FALLBACK_QUEUE_URL";
const EVENTS: &str = "FORWARD_EVENTS";
const FORMAT: &str = "MESSAGE_FORMAT";

/// Variables of AWS SDKs that have no effect, and the reason.
const WITHOUT_EFFECT: [(&str, &str); 4] = [
    ("AWS_MAX_ATTEMPTS", "the function's time limits decide"),
    ("AWS_RETRY_MODE", "the function's time limits decide"),
    ("AWS_USE_DUALSTACK_ENDPOINT", "each queue is reached at the host of its URL"),
    ("AWS_USE_FIPS_ENDPOINT", "each queue is reached at the host of its URL"),
];

impl Config {
    /// Returns the names of all variables of this function.
    pub fn variables() -> impl Iterator<Item = &'static str> {
        secrets::VARIABLES.into_iter().chain([QUEUE, QUARANTINE_QUEUE, FALLBACK_QUEUE, EVENTS, FORMAT])
    }

    /// Reads the configuration through a lookup of environment variables. An empty value counts as unset.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with all problems. No text contains a secret.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut env = Environment::new(&lookup);
        let config = Self::read(&mut env);
        env.finish(config)
    }

    /// Reads the configuration as a part of a program's environment; `None` only if there is a problem.
    pub fn read(env: &mut Environment<'_>) -> Option<Self> {
        let verifier = Verifier::from_environment(env);
        // A tenant's secret with a problem is reported already. That the shared secret is missing, too, would mislead.
        let is_invalid = secrets::OF_TENANTS.iter().any(|name| env.has_problem(name));
        if verifier.as_ref().is_none_or(Verifier::has_only_previous) && !is_invalid {
            env.required(secrets::SHARED);
        }
        for name in [secrets::SHARED, secrets::SHARED_PREVIOUS] {
            // Legal, but usually a copy-and-paste mistake.
            if env.get(name).is_some_and(|secret| secret.trim_ascii().len() < secret.len()) {
                tracing::warn!("{name} begins or ends with whitespace");
            }
        }

        let default_region = env.get("AWS_REGION");
        let queue_url = |url: &str| QueueUrl::parse(url, default_region.as_deref());
        let quarantine_queue = env.parse(QUARANTINE_QUEUE, queue_url);
        let mut fallback_queue = env.parse(FALLBACK_QUEUE, queue_url);
        env.required(QUEUE);
        let queue = env.parse(QUEUE, queue_url);
        // Not an error: the template cannot detect it, and deliveries succeed without a fallback.
        if fallback_queue.is_some() && fallback_queue == queue {
            tracing::warn!("{FALLBACK_QUEUE} is ignored, because it is {QUEUE}");
            fallback_queue = None;
        }
        let filter = env.parse(EVENTS, str::parse).unwrap_or_default();
        let format = env.parse(FORMAT, str::parse).unwrap_or_default();
        let https = HttpsSettings::from_lookup(|name| env.get(name)).map_err(InvalidSettings::into_problems);
        let https = env.accept(https);
        for (name, reason) in WITHOUT_EFFECT {
            if env.get(name).is_some_and(|value| !value.eq_ignore_ascii_case("false")) {
                tracing::warn!("{name} has no effect: {reason}");
            }
        }

        let (verifier, queue, https) = (verifier?, queue?, https?);
        Some(Self { verifier, queue, quarantine_queue, fallback_queue, filter, format, https })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const QUEUE: &str = "https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo";

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Config::from_lookup(|name| variables.get(name).map(ToString::to_string)).map_err(|error| error.to_string())
    }

    #[test]
    fn secret_and_queue_are_sufficient() {
        let config = config(&[("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE)]).unwrap();
        assert_eq!(config.queue.as_str(), QUEUE);
        assert!(config.queue.is_fifo());
        assert_eq!(config.quarantine_queue, None);
        assert_eq!(config.fallback_queue, None);
        assert_eq!(config.filter, EventFilter::default());
        assert_eq!(config.format, MessageFormat::SuperOffice);
    }

    #[test]
    fn format_is_read() {
        for (name, format) in [("superoffice", MessageFormat::SuperOffice), ("cloudevents", MessageFormat::CloudEvents)]
        {
            let config =
                config(&[("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE), ("MESSAGE_FORMAT", name)]).unwrap();
            assert_eq!(config.format, format);
        }
    }

    #[test]
    fn all_problems_are_reported_together() {
        let error = config(&[
            ("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1":"hush""#),
            ("QUARANTINE_QUEUE_URL", "quarantine"),
            ("FALLBACK_QUEUE_URL", "https://localhost/1/queue"),
            ("FORWARD_EVENTS", "*.created"),
            ("MESSAGE_FORMAT", "xml"),
        ]);
        assert_eq!(
            error.unwrap_err(),
            "invalid configuration:\n  \
             SUPEROFFICE_TENANT_SECRETS: expected a JSON object that maps each ContextIdentifier to a secret or an array \
             of secrets (line 1, column 15)\n  \
             QUARANTINE_QUEUE_URL: must begin with https:// or http://\n  \
             FALLBACK_QUEUE_URL: no region in the host, and AWS_REGION is not set\n  \
             QUEUE_URL: not set\n  \
             FORWARD_EVENTS: `*` is only allowed at the end of a pattern: *.created\n  \
             MESSAGE_FORMAT: expected superoffice or cloudevents"
        );
    }

    #[test]
    fn empty_value_counts_as_unset() {
        let error =
            config(&[("SUPEROFFICE_WEBHOOK_SECRET", ""), ("SUPEROFFICE_TENANT_SECRETS", ""), ("QUEUE_URL", "")]);
        assert_eq!(
            error.unwrap_err(),
            "invalid configuration:\n  SUPEROFFICE_WEBHOOK_SECRET: not set\n  QUEUE_URL: not set"
        );
    }

    #[test]
    fn blank_secret_is_a_problem() {
        for name in ["SUPEROFFICE_WEBHOOK_SECRET", "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS"] {
            let error = config(&[("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE), (name, " \n")]);
            let expected = format!("invalid configuration:\n  {name}: the secret is empty or only whitespace");
            assert_eq!(error.unwrap_err(), expected);
        }
    }

    #[test]
    fn missing_secret_is_reported_with_an_invalid_previous_secret() {
        let error = config(&[("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS", " "), ("QUEUE_URL", QUEUE)]).unwrap_err();
        assert!(error.contains("\n  SUPEROFFICE_WEBHOOK_SECRET: not set"), "{error}");
        assert!(error.contains("\n  SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS: the secret is empty"), "{error}");
    }

    #[test]
    fn shared_secret_is_optional_if_tenants_have_secrets() {
        let with = |tenants| config(&[("SUPEROFFICE_TENANT_SECRETS", tenants), ("QUEUE_URL", QUEUE)]);
        assert!(with(r#"{"Cust1":"a","Cust2":["b","c"]}"#).is_ok());
        assert!(with("{}").unwrap_err().contains("SUPEROFFICE_WEBHOOK_SECRET: not set"));
    }

    #[test]
    fn shared_secret_is_optional_if_secrets_are_derived() {
        let master = "0123456789abcdef0123456789abcdef";
        for name in ["SUPEROFFICE_TENANT_MASTER_SECRET", "SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS"] {
            assert!(config(&[(name, master), ("QUEUE_URL", QUEUE)]).is_ok());
            assert_eq!(
                config(&[(name, &master[1..]), ("QUEUE_URL", QUEUE)]).unwrap_err(),
                format!(
                    "invalid configuration:\n  {name}: the master secret is shorter than 32 bytes, or only whitespace"
                )
            );
        }
    }

    #[test]
    fn fallback_that_is_the_events_queue_is_ignored() {
        let with = |fallback| {
            config(&[("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE), ("FALLBACK_QUEUE_URL", fallback)])
        };
        assert_eq!(with(QUEUE).unwrap().fallback_queue, None);
        let other = "https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo";
        assert_eq!(with(other).unwrap().fallback_queue.unwrap().as_str(), other);
    }

    #[test]
    fn variables_are_the_ones_in_the_template() {
        let template = include_str!("../../template.yaml");
        for name in Config::variables() {
            assert!(template.contains(&format!(" {name}: ")), "{name}");
        }
    }
}
