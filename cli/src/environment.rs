//! The environment variables of each command: their help, and secrets from files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::{self, IsTerminal, Read};
use std::{env, fs};

use aws_setup::{HttpsSettings, InvalidSettings};
use rpassword::ConfigBuilder;
use superoffice_webhook::env::{ConfigError, Environment};

/// An environment variable.
pub(crate) struct Variable {
    name: &'static str,
    /// The variable that names a file with the value, if the value is a secret.
    file: Option<&'static str>,
    meaning: &'static str,
}

const fn plain(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, file: None, meaning }
}

macro_rules! secret {
    ($name:literal, $meaning:literal) => {
        Variable { name: $name, file: Some(concat!($name, "_FILE")), meaning: $meaning }
    };
}

/// The connection to SuperOffice.
pub(crate) static SUPEROFFICE: [Variable; 11] = [
    plain("SUPEROFFICE_URL", "base URL of the tenant, such as https://online3.superoffice.com/Cust12345"),
    plain("SUPEROFFICE_TENANT", "or the tenant, such as Cust12345, to look up its base URL"),
    plain("SUPEROFFICE_ENVIRONMENT_URL", "server of the lookup [default: https://online.superoffice.com]"),
    secret!("SUPEROFFICE_ACCESS_TOKEN", "bearer token"),
    plain("SUPEROFFICE_USER", "or user, for Basic authentication (on-site)"),
    secret!("SUPEROFFICE_PASSWORD", "password of the user"),
    secret!("SUPEROFFICE_SYSTEM_TOKEN", "or system user token (Online)"),
    secret!("SUPEROFFICE_CLIENT_SECRET", "client secret of the app with the system user"),
    secret!("SUPEROFFICE_PRIVATE_KEY", "private RSA key of the app, in PEM"),
    plain("SUPEROFFICE_CA, SUPEROFFICE_CA_FILE", "certificates of a private authority, in PEM"),
    plain("SUPEROFFICE_TENANTS_PARAMETER", "or path of the list of tenants in SSM Parameter Store"),
];

/// The URL of the webhook.
pub(crate) static WEBHOOK: [Variable; 1] =
    [plain("WEBHOOK_URL", "URL that SuperOffice posts to; {tenant} is replaced by the tenant")];

/// The entities that are recovered.
pub(crate) static ENTITIES: [Variable; 1] =
    [plain("SYNC_ENTITIES", "contact, person, or both with a comma between them [default: contact]")];

/// The secret of the webhook.
pub(crate) static SIGNING: [Variable; 2] = [
    secret!("SUPEROFFICE_WEBHOOK_SECRET", "secret of the webhook"),
    secret!("SUPEROFFICE_TENANT_MASTER_SECRET", "or the secret that derives the tenants' secrets"),
];

/// The secret that derives the tenants' secrets.
pub(crate) static MASTER: [Variable; 1] =
    [secret!("SUPEROFFICE_TENANT_MASTER_SECRET", "secret that derives the tenants' secrets")];

/// The log of the function.
pub(crate) static LOG: [Variable; 1] = [plain("LOG_GROUP_NAME", "log group of the function")];

/// The function's own configuration.
pub(crate) static FUNCTION: [Variable; 10] = [
    secret!("SUPEROFFICE_WEBHOOK_SECRET", "secret of the webhook"),
    secret!("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS", "second secret, accepted during rotation"),
    secret!("SUPEROFFICE_TENANT_SECRETS", "JSON object: tenant to secret or array of secrets"),
    secret!("SUPEROFFICE_TENANT_MASTER_SECRET", "secret that derives the tenants' secrets"),
    secret!("SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS", "second master secret, accepted during rotation"),
    plain("QUEUE_URL", "events queue"),
    plain("QUARANTINE_QUEUE_URL", "quarantine queue"),
    plain("FALLBACK_QUEUE_URL", "queue for events that the events queue does not accept"),
    plain("FORWARD_EVENTS", "events to forward [default: contact.*]"),
    plain("MESSAGE_FORMAT", "superoffice or cloudevents [default: superoffice]"),
];

/// The AWS SDK's configuration.
pub(crate) static AWS: [Variable; 1] =
    [plain("AWS_REGION, AWS_PROFILE, …", "region, credentials and endpoint, as for every AWS SDK")];

/// Returns the section of a command's help that lists its variables.
pub(crate) fn help(groups: &[&[Variable]]) -> String {
    let label = |variable: &Variable| variable.name.to_owned() + if variable.file.is_some() { "[_FILE]" } else { "" };
    let variables = || groups.iter().copied().flatten();
    let width = variables().map(|variable| label(variable).chars().count()).max().unwrap_or_default();
    let mut help = String::from("Environment:\n");
    for variable in variables() {
        let _ = writeln!(help, "  {:width$}  {}", label(variable), variable.meaning);
    }
    if variables().any(|variable| variable.file.is_some()) {
        help += "\nA secret may be in a file: NAME_FILE is then the path, or `-` for standard input.\n";
    }
    help
}

/// Reads the configuration of a command, with all problems at once.
pub(crate) fn read<T>(read: impl FnOnce(&mut Environment<'_>) -> Option<T>) -> Result<T, ConfigError> {
    read_with(&|name| env::var(name).ok(), &read_standard_input, read)
}

/// Reads the configuration of a command, some of whose variables have another value than in the environment.
pub(crate) fn read_replacing<T>(
    replacement: impl Fn(&str) -> Option<String>,
    read: impl FnOnce(&mut Environment<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let variables = |name: &str| replacement(name).or_else(|| env::var(name).ok());
    read_with(&variables, &read_standard_input, read)
}

/// Checks the settings of the way to AWS, so that their problems are reported together with all others.
pub(crate) fn check_aws(env: &mut Environment<'_>) {
    let https = HttpsSettings::from_lookup(|name| env.get(name)).map_err(InvalidSettings::into_problems);
    env.accept(https);
}

fn read_with<T>(
    variables: &dyn Fn(&str) -> Option<String>,
    standard_input: &dyn Fn(&str) -> io::Result<Vec<u8>>,
    read: impl FnOnce(&mut Environment<'_>) -> Option<T>,
) -> Result<T, ConfigError> {
    let secrets = Secrets { variables, standard_input, files: RefCell::default() };
    let lookup = |name: &str| secrets.lookup(name);
    let mut environment = Environment::new(&lookup);
    let value = read(&mut environment);
    for (name, (file, content)) in secrets.files.take() {
        if let Err(problem) = content {
            environment.replace_problems(name, file, problem);
        }
    }
    environment.finish(value)
}

/// The environment. A file can contain a secret instead of its variable.
struct Secrets<'a> {
    variables: &'a dyn Fn(&str) -> Option<String>,
    /// Reads standard input. The argument is the name of the secret, for the prompt.
    standard_input: &'a dyn Fn(&str) -> io::Result<Vec<u8>>,
    /// The files of the secrets that were looked up.
    files: RefCell<BTreeMap<&'static str, SecretFile>>,
}

/// The variable that names a file, and the content or the problem of the file.
type SecretFile = (&'static str, Result<String, String>);

impl Secrets<'_> {
    fn lookup(&self, name: &str) -> Option<String> {
        let value = self.get(name);
        let Some((name, file)) = secrets().find(|(secret, _)| *secret == name) else {
            return value;
        };
        let Some(path) = self.get(file) else {
            return value;
        };
        let mut files = self.files.borrow_mut();
        let (_, content) = files.entry(name).or_insert_with(|| {
            let content = match value {
                Some(_) => Err(format!("set, and so is {name}; set one of them")),
                None => self.read(name, &path),
            };
            (file, content)
        });
        content.as_ref().ok().cloned()
    }

    fn get(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }

    /// Reads a secret from a file, without the newline at its end.
    fn read(&self, name: &str, path: &str) -> Result<String, String> {
        let content = if path == "-" {
            let is_other = |(other, file): &(&str, &str)| *other != name && self.get(file).as_deref() == Some("-");
            if let Some((_, other)) = secrets().find(is_other) {
                return Err(format!("standard input has one value, and {other} names it, too"));
            }
            (self.standard_input)(name)
        } else {
            fs::read(path)
        };
        let content = content.map_err(|error| format!("{path}: {error}"))?;
        let content = String::from_utf8(content).map_err(|_| format!("{path}: not UTF-8"))?;
        let secret = content.strip_suffix('\n').map_or(&*content, |line| line.strip_suffix('\r').unwrap_or(line));
        if secret.is_empty() { Err(format!("{path}: empty")) } else { Ok(secret.to_owned()) }
    }
}

/// Returns the names of all secrets, each with the variable that names its file.
fn secrets() -> impl Iterator<Item = (&'static str, &'static str)> {
    let variables = SUPEROFFICE.iter().chain(&FUNCTION);
    variables.filter_map(|variable| Some((variable.name, variable.file?)))
}

/// Reads standard input to its end, or a line from a terminal, without echo.
fn read_standard_input(name: &str) -> io::Result<Vec<u8>> {
    if io::stdin().is_terminal() {
        let config = ConfigBuilder::new().input_file_path("/dev/stdin").output_writer(io::stderr()).build();
        return rpassword::prompt_password_with_config(format!("{name}: "), config).map(String::into_bytes);
    }
    let mut content = Vec::new();
    io::stdin().read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "SUPEROFFICE_ACCESS_TOKEN";

    fn read(variables: &[(&str, &str)], standard_input: &'static str) -> Result<(Option<String>, String), String> {
        let lookup = |name: &str| Some(variables.iter().find(|(key, _)| *key == name)?.1.to_owned());
        let standard_input = |_: &str| Ok(standard_input.into());
        let secrets = |env: &mut Environment<'_>| Some((env.get("SUPEROFFICE_PASSWORD"), env.required(TOKEN)?));
        read_with(&lookup, &standard_input, secrets).map_err(|error| error.to_string())
    }

    fn problem(problem: &str) -> Result<(Option<String>, String), String> {
        Err(format!("invalid configuration:\n  SUPEROFFICE_ACCESS_TOKEN_FILE: {problem}"))
    }

    #[test]
    fn secret_is_read_from_file_without_one_newline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let path = path.to_str().unwrap();
        for (content, expected) in [("t\n", "t"), ("t\r\n", "t"), ("t", "t"), (" t \n\n", " t \n")] {
            fs::write(path, content).unwrap();
            let found = read(&[(TOKEN, ""), ("SUPEROFFICE_ACCESS_TOKEN_FILE", path)], "");
            assert_eq!(found, Ok((None, expected.to_owned())), "{content:?}");
        }
        for (content, expected) in [(&b"\n"[..], "empty"), (b"\xff\n", "not UTF-8")] {
            fs::write(path, content).unwrap();
            let found = read(&[("SUPEROFFICE_ACCESS_TOKEN_FILE", path)], "");
            assert_eq!(found, problem(&format!("{path}: {expected}")));
        }
    }

    #[test]
    fn file_that_cannot_be_read_is_the_only_problem_of_its_secret() {
        let found = read(&[("SUPEROFFICE_ACCESS_TOKEN_FILE", "no/such/file")], "");
        assert_eq!(found, problem("no/such/file: No such file or directory (os error 2)"));
        let found = read(&[(TOKEN, "t"), ("SUPEROFFICE_ACCESS_TOKEN_FILE", "no/such/file")], "");
        assert_eq!(found, problem("set, and so is SUPEROFFICE_ACCESS_TOKEN; set one of them"));
    }

    #[test]
    fn standard_input_has_one_secret() {
        let file = ("SUPEROFFICE_ACCESS_TOKEN_FILE", "-");
        assert_eq!(read(&[file], "t\n"), Ok((None, "t".to_owned())));
        let found = read(&[file, ("SUPEROFFICE_CLIENT_SECRET_FILE", "-")], "t\n");
        assert_eq!(found, problem("standard input has one value, and SUPEROFFICE_CLIENT_SECRET_FILE names it, too"));
    }

    #[test]
    fn help_marks_secrets() {
        assert_eq!(
            help(&[&WEBHOOK, &SIGNING]),
            "Environment:\
             \n  WEBHOOK_URL                              URL that SuperOffice posts to; \
             {tenant} is replaced by the tenant\
             \n  SUPEROFFICE_WEBHOOK_SECRET[_FILE]        secret of the webhook\
             \n  SUPEROFFICE_TENANT_MASTER_SECRET[_FILE]  or the secret that derives the tenants' secrets\
             \n\
             \nA secret may be in a file: NAME_FILE is then the path, or `-` for standard input.\n"
        );
        assert!(!help(&[&LOG]).contains("_FILE"));
    }
}
