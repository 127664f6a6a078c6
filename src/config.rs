//! The configuration, from the environment. Every mistake is found and named before the first event is taken.

use std::collections::BTreeMap;
use std::fmt;

use lambda_http::http::Uri;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::forward::EventFilter;
use crate::message::MessageFormat;
use crate::signature::{MAX_TENANT_SECRETS, Secret, Verifier};

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
            return Err("is not a URL that begins with https://".into());
        }
        if uri.path().trim_matches('/').is_empty() {
            return Err("names no queue in its path".into());
        }
        let host = uri.host().unwrap_or_default();
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

impl ConfigError {
    /// The variables that something is wrong with, in the order of the documentation.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        self.problems.iter().map(|(variable, _)| *variable)
    }
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

        let current = get("SUPEROFFICE_WEBHOOK_SECRET").and_then(|secret| Secret::new(secret).ok());
        let previous = get("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS").and_then(|secret| Secret::new(secret).ok());
        let tenants =
            get("SUPEROFFICE_TENANT_SECRETS").map_or_else(|| Ok(BTreeMap::new()), |json| tenant_secrets(&json));
        if current.is_none() && tenants.as_ref().is_ok_and(BTreeMap::is_empty) {
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
            secrets.into_iter().map(Secret::new).collect::<Result<_, _>>().map_err(|_| "has an empty secret")?;
        if tenant.is_empty() {
            return Err("has an empty ContextIdentifier".into());
        }
        if secrets.is_empty() {
            return Err("has a tenant without a secret".into());
        }
        if tenants.insert(tenant, secrets).is_some() {
            return Err("has a ContextIdentifier twice".into());
        }
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
