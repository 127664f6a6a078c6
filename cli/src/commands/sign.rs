//! `sign`: the signature of a body.

use std::error::Error;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use superoffice_client::settings;
use superoffice_client::{ExposeSecret, SecretString};
use superoffice_webhook::env::Environment;
use superoffice_webhook::{Secret, Signature};

use super::{CommandResult, lookup, print};

/// Print the signature of a body, the value of X-SuperOffice-Signature
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    #[command(flatten)]
    signer: Signer,
    #[command(flatten)]
    body: BodyFile,
}

impl Sign {
    /// Runs the command.
    pub(crate) fn run(self) -> CommandResult {
        print(self.signer.sign(&self.body.read()?)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The options that select the secret.
#[derive(Debug, clap::Args)]
pub(super) struct Signer {
    /// The webhook's secret [default: the environment variable SUPEROFFICE_WEBHOOK_SECRET]
    #[arg(long, value_name = "SECRET", value_parser = |secret: &str| Secret::new(secret))]
    secret: Option<Secret>,
    /// Sign with this tenant's secret, derived from SUPEROFFICE_TENANT_MASTER_SECRET
    #[arg(long, value_name = "TENANT", conflicts_with = "secret")]
    tenant: Option<String>,
}

impl Signer {
    /// Signs a body as SuperOffice does.
    pub(super) fn sign(&self, body: &[u8]) -> Result<Signature, Box<dyn Error + Send + Sync>> {
        Ok(self.secret(&lookup)?.sign(body))
    }

    fn secret(&self, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Secret, Box<dyn Error + Send + Sync>> {
        if let Some(secret) = &self.secret {
            return Ok(secret.clone());
        }
        let mut environment = Environment::new(lookup);
        let secret = match &self.tenant {
            Some(tenant) => {
                settings::master_secret(&mut environment).map(|master| SecretString::from(master.derive_text(tenant)))
            }
            None => environment.required("SUPEROFFICE_WEBHOOK_SECRET").map(SecretString::from),
        };
        Ok(Secret::new(environment.finish(secret)?.expose_secret())?)
    }
}

/// The argument that selects the body.
#[derive(Debug, clap::Args)]
pub(super) struct BodyFile {
    /// The file with the body, used byte for byte; `-` for standard input
    file: PathBuf,
}

impl BodyFile {
    /// Reads the body.
    pub(super) fn read(&self) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        if self.file == Path::new("-") {
            let mut body = Vec::new();
            std::io::stdin().read_to_end(&mut body)?;
            return Ok(body);
        }
        std::fs::read(&self.file).map_err(|error| format!("{}: {error}", self.file.display()).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"a body";
    const MASTER: &str = "0123456789abcdef0123456789abcdef";

    fn signer(secret: Option<&str>, tenant: Option<&str>) -> Signer {
        Signer { secret: secret.map(|secret| Secret::new(secret).unwrap()), tenant: tenant.map(str::to_owned) }
    }

    fn signature(signer: &Signer, variables: &[(&str, &str)]) -> Result<String, String> {
        let lookup = |name: &str| Some(variables.iter().find(|(variable, _)| *variable == name)?.1.to_owned());
        signer.secret(&lookup).map(|secret| secret.sign(BODY).to_string()).map_err(|error| error.to_string())
    }

    fn expected(secret: &str) -> Result<String, String> {
        Ok(Secret::new(secret).unwrap().sign(BODY).to_string())
    }

    #[test]
    fn secret_option_overrides_environment() {
        let signer = signer(Some("option"), None);
        assert_eq!(signature(&signer, &[("SUPEROFFICE_WEBHOOK_SECRET", "variable")]), expected("option"));
    }

    #[test]
    fn secret_comes_from_environment_by_default() {
        let signer = signer(None, None);
        assert_eq!(signature(&signer, &[("SUPEROFFICE_WEBHOOK_SECRET", "variable")]), expected("variable"));
    }

    #[test]
    fn tenant_option_signs_with_derived_secret() {
        // printf superoffice-webhook/tenant/v1/cust1 | openssl dgst -sha256 -hmac $MASTER -binary | base64
        let derived = "ai9eH3NiMHOPB4OD8UdrfELaVFT556saPKQHUXyQFek=";
        let variables = [("SUPEROFFICE_TENANT_MASTER_SECRET", MASTER), ("SUPEROFFICE_WEBHOOK_SECRET", "variable")];
        assert_eq!(signature(&signer(None, Some("Cust1")), &variables), expected(derived));
        assert_eq!(signature(&signer(None, Some("CUST1")), &variables), expected(derived));
    }

    #[test]
    fn missing_secret_is_an_error_with_variable() {
        let error = Err("invalid configuration:\n  SUPEROFFICE_WEBHOOK_SECRET: not set".to_owned());
        assert_eq!(signature(&signer(None, None), &[]), error);
        assert_eq!(signature(&signer(None, None), &[("SUPEROFFICE_WEBHOOK_SECRET", "")]), error);
        let error = Err("invalid configuration:\n  SUPEROFFICE_TENANT_MASTER_SECRET: not set".to_owned());
        assert_eq!(signature(&signer(None, Some("Cust1")), &[("SUPEROFFICE_WEBHOOK_SECRET", "variable")]), error);
    }

    #[test]
    fn body_is_read_byte_for_byte() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../events/payloads/contact-changed-unicode.json");
        let body = BodyFile { file: path.clone() }.read().unwrap();
        assert_eq!(body, std::fs::read(path).unwrap());
    }

    #[test]
    fn missing_file_is_named_in_error() {
        let error = BodyFile { file: "no/such/file".into() }.read().unwrap_err().to_string();
        assert!(error.starts_with("no/such/file: "), "{error}");
    }
}
