//! The configuration, from the environment. Every mistake is found and named before the first event is taken.

use std::collections::BTreeMap;
use std::fmt;

use lambda_http::http::Uri;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::forward::EventFilter;
use crate::message::MessageFormat;
use crate::signature::{EmptySecret, MAX_TENANT_SECRETS, Secret, Verifier};

/// Everything that the environment decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// The secrets: `SUPEROFFICE_WEBHOOK_SECRET`, `SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS`, `SUPEROFFICE_TENANT_SECRETS`.
    pub verifier: Verifier,
    /// `QUEUE_URL`: the queue for events.
    pub queue: QueueUrl,
    /// `QUARANTINE_QUEUE_URL`: the queue for signed bodies that are not understood.
    pub quarantine_queue: Option<QueueUrl>,
    /// `FALLBACK_QUEUE_URL`: takes what the other queues do not.
    pub fallback_queue: Option<QueueUrl>,
    /// `FORWARD_EVENTS`: which events are forwarded.
    pub forward: EventFilter,
    /// `MESSAGE_FORMAT`: what a message's body holds.
    pub format: MessageFormat,
}

/// The URL of an SQS queue, and what it says of the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueUrl {
    url: String,
    region: String,
}

impl QueueUrl {
    /// The URL itself.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// The region in the URL's host, or the function's own where the host names none.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Whether this is a FIFO queue; their names end in `.fifo`.
    pub fn is_fifo(&self) -> bool {
        self.url.ends_with(".fifo")
    }

    fn parse(url: &str, own_region: Option<&str>) -> Result<Self, String> {
        let uri: Uri = url.parse().map_err(|_| "is not a URL")?;
        if !matches!(uri.scheme_str(), Some("https" | "http")) {
            return Err("is not a URL that begins with https:// or http://".into());
        }
        if uri.path().trim_matches('/').is_empty() {
            return Err("names no queue in its path".into());
        }
        // Such an end would hide that a queue's name ends in .fifo.
        if uri.path().ends_with('/') || uri.query().is_some() {
            return Err("does not end with the queue's name".into());
        }
        let host = uri.host().unwrap_or_default().to_ascii_lowercase();
        let region = host
            .split('.')
            .find(|label| names_region(label))
            .or(own_region)
            .ok_or("has no region in its host, and AWS_REGION is not set")?;
        Ok(Self { url: url.to_owned(), region: region.to_owned() })
    }
}

/// Whether a label of a host has the form of a region's name: `eu-north-1`, `us-gov-west-1`.
fn names_region(label: &str) -> bool {
    let parts: Vec<&str> = label.split('-').collect();
    let [words @ .., number] = parts.as_slice() else {
        return false;
    };
    words.len() >= 2
        && words.iter().all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()))
        && !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// What is wrong with the environment, every variable of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    problems: Vec<(&'static str, String)>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not usable:")?;
        for (variable, problem) in &self.problems {
            write!(f, "\n  {variable} {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the configuration through a look-up of environment variables. An empty value counts as unset.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with every problem at once. No text holds a secret's value.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let mut problems = Vec::new();

        let mut secret = |name: &'static str| {
            let secret = readable_secret(get(name)?);
            secret.map_err(|_| problems.push((name, "has nothing but white space".to_owned()))).ok()
        };
        let current = secret("SUPEROFFICE_WEBHOOK_SECRET");
        let previous = secret("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS");
        let tenants =
            get("SUPEROFFICE_TENANT_SECRETS").map_or_else(|| Ok(BTreeMap::new()), |json| tenant_secrets(&json));
        if get("SUPEROFFICE_WEBHOOK_SECRET").is_none() && tenants.as_ref().is_ok_and(BTreeMap::is_empty) {
            problems.push(("SUPEROFFICE_WEBHOOK_SECRET", "is not set".to_owned()));
        }
        let tenants = tenants.unwrap_or_else(|problem| {
            problems.push(("SUPEROFFICE_TENANT_SECRETS", problem));
            BTreeMap::new()
        });

        let own_region = get("AWS_REGION");
        let mut queue_url = |name: &'static str| -> Option<QueueUrl> {
            let url = QueueUrl::parse(&get(name)?, own_region.as_deref());
            url.map_err(|problem| problems.push((name, problem))).ok()
        };
        let queue = queue_url("QUEUE_URL");
        let quarantine_queue = queue_url("QUARANTINE_QUEUE_URL");
        let fallback_queue = queue_url("FALLBACK_QUEUE_URL");
        if get("QUEUE_URL").is_none() {
            problems.push(("QUEUE_URL", "is not set".to_owned()));
        }
        if fallback_queue.is_some() && fallback_queue == queue {
            problems.push(("FALLBACK_QUEUE_URL", "is the same queue as QUEUE_URL".to_owned()));
        }

        let mut parsed = |name: &'static str, problem: String| problems.push((name, problem));
        let forward = get("FORWARD_EVENTS").map_or_else(EventFilter::default, |list| {
            list.parse().unwrap_or_else(|e| {
                parsed("FORWARD_EVENTS", format!("{e}"));
                EventFilter::default()
            })
        });
        let format = get("MESSAGE_FORMAT").map_or_else(MessageFormat::default, |name| {
            name.parse().unwrap_or_else(|e| {
                parsed("MESSAGE_FORMAT", format!("{e}"));
                MessageFormat::default()
            })
        });

        match queue {
            Some(queue) if problems.is_empty() => Ok(Self {
                verifier: Verifier::with_tenants(current, previous, tenants),
                queue,
                quarantine_queue,
                fallback_queue,
                forward,
                format,
            }),
            _ => Err(ConfigError { problems }),
        }
    }
}

/// A secret of nothing but white space is what a broken template leaves, and anyone's guess.
fn readable_secret(secret: String) -> Result<Secret, EmptySecret> {
    if secret.trim_matches([' ', '\t', '\r', '\n']).is_empty() { Err(EmptySecret) } else { Secret::new(secret) }
}

/// Reads `{"Cust1": "secret", "Cust2": ["secret", "secret"]}`. The texts of its errors hold neither.
fn tenant_secrets(json: &str) -> Result<BTreeMap<String, Vec<Secret>>, String> {
    let Entries(entries) = serde_json::from_str(json).map_err(|e| {
        format!(
            "is not a JSON object of a secret, or an array of secrets, for each ContextIdentifier (line {}, column {})",
            e.line(),
            e.column()
        )
    })?;
    let mut tenants = BTreeMap::new();
    for (tenant, secrets) in entries {
        let secrets: Vec<Secret> =
            secrets.into_iter().map(readable_secret).collect::<Result<_, _>>().map_err(|_| "has an empty secret")?;
        if tenant.is_empty() {
            return Err("has an empty ContextIdentifier".into());
        }
        if secrets.is_empty() {
            return Err("has a tenant without a secret".into());
        }
        if tenants.keys().any(|other: &String| other.eq_ignore_ascii_case(&tenant)) {
            return Err("has a ContextIdentifier twice".into());
        }
        tenants.insert(tenant, secrets);
    }
    let count: usize = tenants.values().map(Vec::len).sum();
    if count > MAX_TENANT_SECRETS {
        return Err(format!("has {count} secrets, more than {MAX_TENANT_SECRETS}"));
    }
    Ok(tenants)
}

/// The entries of a JSON object as they stand there, so that one that is there twice is seen.
struct Entries(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum OneOrMore {
            One(String),
            More(Vec<String>),
        }

        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some((tenant, secrets)) = map.next_entry()? {
                    let secrets = match secrets {
                        OneOrMore::One(secret) => vec![secret],
                        OneOrMore::More(secrets) => secrets,
                    };
                    entries.push((tenant, secrets));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: &str = "https://sqs.eu-north-1.amazonaws.com/123456789012/events.fifo";

    fn config(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        Config::from_lookup(|name| variables.get(name).map(ToString::to_string)).map_err(|e| e.to_string())
    }

    #[test]
    fn a_secret_and_a_queue_are_enough() {
        let config = config(&[("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE)]).unwrap();
        assert_eq!(config.queue.as_str(), QUEUE);
        assert!(config.queue.is_fifo());
        assert_eq!(config.quarantine_queue, None);
        assert_eq!(config.fallback_queue, None);
        assert_eq!(config.forward, EventFilter::default());
        assert_eq!(config.format, MessageFormat::SuperOffice);
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let error = config(&[
            ("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1":"hush""#),
            ("QUARANTINE_QUEUE_URL", "quarantine"),
            ("FALLBACK_QUEUE_URL", "https://localhost/1/queue"),
            ("FORWARD_EVENTS", "*.created"),
            ("MESSAGE_FORMAT", "xml"),
        ]);
        assert_eq!(
            error.unwrap_err(),
            "the configuration is not usable:\n  \
             SUPEROFFICE_TENANT_SECRETS is not a JSON object of a secret, or an array of secrets, for each \
             ContextIdentifier (line 1, column 15)\n  \
             QUARANTINE_QUEUE_URL is not a URL that begins with https:// or http://\n  \
             FALLBACK_QUEUE_URL has no region in its host, and AWS_REGION is not set\n  \
             QUEUE_URL is not set\n  \
             FORWARD_EVENTS has a * that does not end a name: *.created\n  \
             MESSAGE_FORMAT must be superoffice or cloudevents"
        );
    }

    #[test]
    fn an_empty_value_counts_as_unset() {
        let error =
            config(&[("SUPEROFFICE_WEBHOOK_SECRET", ""), ("SUPEROFFICE_TENANT_SECRETS", ""), ("QUEUE_URL", "")]);
        assert_eq!(
            error.unwrap_err(),
            "the configuration is not usable:\n  SUPEROFFICE_WEBHOOK_SECRET is not set\n  QUEUE_URL is not set"
        );
    }

    #[test]
    fn a_secret_of_white_space_is_a_mistake() {
        for name in ["SUPEROFFICE_WEBHOOK_SECRET", "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS"] {
            let variables = BTreeMap::from([("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE), (name, " \n")]);
            let error = config(&variables.into_iter().collect::<Vec<_>>()).unwrap_err();
            assert_eq!(error, format!("the configuration is not usable:\n  {name} has nothing but white space"));
        }
    }

    #[test]
    fn the_shared_secret_can_be_left_out_when_every_tenant_has_its_own() {
        let of = |tenants| config(&[("SUPEROFFICE_TENANT_SECRETS", tenants), ("QUEUE_URL", QUEUE)]);
        assert!(of(r#"{"Cust1":"a","Cust2":["b","c"]}"#).is_ok());
        assert!(of("{}").unwrap_err().contains("SUPEROFFICE_WEBHOOK_SECRET is not set"));
    }

    #[test]
    fn the_mistakes_in_tenant_secrets_are_named_without_the_secrets() {
        let many: Vec<String> = (0..=MAX_TENANT_SECRETS).map(|i| format!(r#""{i}":"hush""#)).collect();
        let many = format!("{{{}}}", many.join(","));
        for (tenants, problem) in [
            (r#"{"Cust1":""}"#, "has an empty secret"),
            (r#"{"Cust1":["hush",""]}"#, "has an empty secret"),
            (r#"{"":"hush"}"#, "has an empty ContextIdentifier"),
            (r#"{"Cust1":[]}"#, "has a tenant without a secret"),
            (r#"{"Cust1":"hush","Cust1":"hush2"}"#, "has a ContextIdentifier twice"),
            (r#"{"Cust1":"hush","cusT1":"hush2"}"#, "has a ContextIdentifier twice"),
            (r#"{"Cust1":" "}"#, "has an empty secret"),
            (r#"["hush"]"#, "is not a JSON object of a secret"),
            (r#"{"Cust1":{"hush":1}}"#, "is not a JSON object of a secret"),
            (&many, "has 101 secrets, more than 100"),
        ] {
            let error = config(&[("SUPEROFFICE_TENANT_SECRETS", tenants), ("QUEUE_URL", QUEUE)]).unwrap_err();
            assert!(error.contains(&format!("\n  SUPEROFFICE_TENANT_SECRETS {problem}")), "{error}");
            assert!(!error.contains("hush"), "{error}");
        }
    }

    #[test]
    fn a_queues_region_is_the_one_in_its_host() {
        for (url, region) in [
            (QUEUE, "eu-north-1"),
            ("https://SQS.EU-WEST-2.AMAZONAWS.COM/1/q", "eu-west-2"),
            ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1"),
            ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
            ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
            ("https://sqs.eu-west-3.api.aws/1/q", "eu-west-3"),
            ("https://vpce-0a1-b2c.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
            ("https://vpce-0a1-b2c-us-east-2a.sqs.us-east-2.vpce.amazonaws.com/1/q", "us-east-2"),
            ("http://127.0.0.1:5000/1/q", "xx-home-9"),
            ("http://localhost:5000/1/q", "xx-home-9"),
            ("https://queue.amazonaws.com/1/q", "xx-home-9"),
        ] {
            assert_eq!(QueueUrl::parse(url, Some("xx-home-9")).unwrap().region(), region, "{url}");
        }
    }

    #[test]
    fn a_url_that_names_no_queue_is_refused() {
        for (url, problem) in [
            ("not a url", "is not a URL"),
            ("/1/q", "is not a URL that begins with https:// or http://"),
            ("ftp://sqs.eu-north-1.amazonaws.com/1/q", "is not a URL that begins with https:// or http://"),
            ("https://sqs.eu-north-1.amazonaws.com/1/q.fifo/", "does not end with the queue's name"),
            ("https://sqs.eu-north-1.amazonaws.com/1/q.fifo?a", "does not end with the queue's name"),
            ("https://sqs.eu-north-1.amazonaws.com/", "names no queue in its path"),
        ] {
            assert_eq!(QueueUrl::parse(url, None), Err(problem.to_owned()), "{url}");
        }
    }

    #[test]
    fn a_fallback_to_the_same_queue_is_a_mistake() {
        let error = config(&[("SUPEROFFICE_WEBHOOK_SECRET", "s"), ("QUEUE_URL", QUEUE), ("FALLBACK_QUEUE_URL", QUEUE)]);
        assert!(error.unwrap_err().ends_with("\n  FALLBACK_QUEUE_URL is the same queue as QUEUE_URL"));
    }
}
