use std::fs;
use std::io::Write;
use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;
use superoffice_client::settings;
use superoffice_webhook::env::Environment;
use superoffice_webhook::{Secret, Signature};

use crate::environment::{self, SIGNING};
use crate::exit::{CommandResult, Failure, Status};
use crate::output::Output;

/// Print the signature of a body
///
/// The output is the value of the header X-SuperOffice-Signature.
#[derive(Debug, clap::Args)]
#[command(after_long_help = environment::help(&[&SIGNING]))]
pub(crate) struct Sign {
    #[command(flatten)]
    body: SignedBody,
}

impl Sign {
    pub(crate) fn run(self, output: &mut Output<impl Write>) -> CommandResult {
        let (_, signature) = self.body.read()?;
        output.line(signature);
        Ok(Status::Well)
    }
}

/// The arguments that select a body and the secret that signs it.
#[derive(Debug, clap::Args)]
pub(super) struct SignedBody {
    /// Sign with this tenant's secret, derived from SUPEROFFICE_TENANT_MASTER_SECRET
    #[arg(long, value_name = "TENANT", value_parser = NonEmptyStringValueParser::new())]
    tenant: Option<String>,
    /// The file with the body, used byte for byte
    file: PathBuf,
}

impl SignedBody {
    /// Reads the body, and signs it as SuperOffice does.
    pub(super) fn read(&self) -> Result<(Vec<u8>, Signature), Failure> {
        let secret = environment::read(|env| secret(env, self.tenant.as_deref()))?;
        let body = fs::read(&self.file).map_err(|error| format!("{}: {error}", self.file.display()))?;
        let signature = secret.sign(&body);
        Ok((body, signature))
    }
}

/// Reads the secret that signs, the derived one of a tenant if there is a tenant.
fn secret(env: &mut Environment<'_>, tenant: Option<&str>) -> Option<Secret> {
    match tenant {
        Some(tenant) => settings::master_secret(env).map(|master| master.derive(tenant)),
        None => {
            env.required("SUPEROFFICE_WEBHOOK_SECRET");
            env.parse("SUPEROFFICE_WEBHOOK_SECRET", str::parse)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"a body";
    const MASTER: (&str, &str) = ("SUPEROFFICE_TENANT_MASTER_SECRET", "0123456789abcdef0123456789abcdef");

    fn signature(variables: &[(&str, &str)], tenant: Option<&str>) -> Result<String, String> {
        let lookup = |name: &str| Some(variables.iter().find(|(variable, _)| *variable == name)?.1.to_owned());
        let mut environment = Environment::new(&lookup);
        let secret = secret(&mut environment, tenant);
        let secret = environment.finish(secret).map_err(|error| error.to_string())?;
        Ok(secret.sign(BODY).to_string())
    }

    fn expected(secret: &str) -> Result<String, String> {
        Ok(Secret::new(secret).unwrap().sign(BODY).to_string())
    }

    #[test]
    fn tenant_option_selects_the_derived_secret() {
        let variables = [MASTER, ("SUPEROFFICE_WEBHOOK_SECRET", "variable")];
        assert_eq!(signature(&variables, None), expected("variable"));
        // printf superoffice-webhook/tenant/v1/cust1 | openssl dgst -sha256 -hmac $MASTER -binary | base64
        let derived = "ai9eH3NiMHOPB4OD8UdrfELaVFT556saPKQHUXyQFek=";
        assert_eq!(signature(&variables, Some("Cust1")), expected(derived));
    }

    #[test]
    fn missing_secret_is_an_error_with_variable() {
        let error = |name| Err(format!("invalid configuration:\n  {name}: not set"));
        assert_eq!(signature(&[MASTER], None), error("SUPEROFFICE_WEBHOOK_SECRET"));
        let variables = [("SUPEROFFICE_WEBHOOK_SECRET", "variable")];
        assert_eq!(signature(&variables, Some("Cust1")), error("SUPEROFFICE_TENANT_MASTER_SECRET"));
    }
}
