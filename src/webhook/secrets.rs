//! The configured secrets, from environment variables: those of the function, and of every consumer that verifies
//! messages again.

use crate::env::Environment;
use crate::webhook::signature::Secret;
use crate::webhook::tenant::{MasterSecret, TenantSecrets};
use crate::webhook::verifier::Verifier;

/// The names of the variables: shared, tenants' and master secrets.
pub const VARIABLES: [&str; 5] = [SHARED, SHARED_PREVIOUS, TENANTS, MASTER, MASTER_PREVIOUS];

/// The variables with secrets of single tenants.
pub const OF_TENANTS: [&str; 3] = [TENANTS, MASTER, MASTER_PREVIOUS];

pub(crate) const SHARED: &str = "SUPEROFFICE_WEBHOOK_SECRET";
pub(crate) const SHARED_PREVIOUS: &str = "SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS";
const TENANTS: &str = "SUPEROFFICE_TENANT_SECRETS";
const MASTER: &str = "SUPEROFFICE_TENANT_MASTER_SECRET";
const MASTER_PREVIOUS: &str = "SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS";

impl Verifier {
    /// Reads the secrets from [`VARIABLES`]; `None` if there is no secret. A value that cannot be used is a problem of
    /// `env`.
    pub fn from_environment(env: &mut Environment<'_>) -> Option<Self> {
        let current: Option<Secret> = env.parse(SHARED, str::parse);
        let previous: Option<Secret> = env.parse(SHARED_PREVIOUS, str::parse);
        let tenants: TenantSecrets = env.parse(TENANTS, str::parse).unwrap_or_default();
        let masters: Vec<MasterSecret> =
            [MASTER, MASTER_PREVIOUS].into_iter().filter_map(|name| env.parse(name, str::parse)).collect();
        let has_secret = current.is_some() || previous.is_some() || !tenants.is_empty() || !masters.is_empty();
        let shared = Self::with_tenants(current, previous, tenants);
        has_secret.then(|| masters.into_iter().fold(shared, Self::with_master))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::QueuedEvent;

    const BODY: &str = r#"{"EventId":"1","Event":"contact.changed","PrimaryKey":21,"ContextIdentifier":"Cust1"}"#;
    const MASTER: &str = "0123456789abcdef0123456789abcdef";

    fn read(variables: &[(&str, &str)]) -> Result<Option<Verifier>, String> {
        let env = |name: &str| Some(variables.iter().find(|(variable, _)| *variable == name)?.1.to_owned());
        let mut env = Environment::new(&env);
        let verifier = Verifier::from_environment(&mut env);
        env.finish(Some(verifier)).map_err(|error| error.to_string())
    }

    fn accepts(verifier: &Verifier, secret: &Secret) -> bool {
        let signature = secret.sign(BODY.as_bytes()).to_string();
        let attribute = |name: &str| (name == "Signature").then_some(signature.as_str());
        QueuedEvent::from_message_verified(BODY, attribute, verifier).is_ok()
    }

    #[test]
    fn environment_without_secrets_disables_verification() {
        assert!(read(&[("SUPEROFFICE_WEBHOOK_SECRET", "")]).unwrap().is_none());
    }

    #[test]
    fn each_variable_adds_its_secret() {
        let shared = Secret::new(MASTER).unwrap();
        let derived = MASTER.parse::<MasterSecret>().unwrap().derive("Cust1");
        for (name, secret, other) in [
            ("SUPEROFFICE_WEBHOOK_SECRET", &shared, &derived),
            ("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS", &shared, &derived),
            ("SUPEROFFICE_TENANT_MASTER_SECRET", &derived, &shared),
            ("SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS", &derived, &shared),
        ] {
            let verifier = read(&[(name, MASTER)]).unwrap().unwrap();
            assert!(accepts(&verifier, secret), "{name}");
            assert!(!accepts(&verifier, other), "{name}");
        }
    }

    #[test]
    fn listed_secret_is_valid_for_its_tenant() {
        let verifier =
            read(&[("SUPEROFFICE_TENANT_SECRETS", r#"{"Cust1":"listed","Cust2":"another"}"#)]).unwrap().unwrap();
        assert!(accepts(&verifier, &Secret::new("listed").unwrap()));
        assert!(!accepts(&verifier, &Secret::new("another").unwrap()));
    }

    #[test]
    fn invalid_secret_is_an_error() {
        let error = read(&[("SUPEROFFICE_WEBHOOK_SECRET", " "), ("SUPEROFFICE_TENANT_MASTER_SECRET", "short")]);
        assert_eq!(
            error.unwrap_err(),
            "invalid configuration:\n  \
             SUPEROFFICE_WEBHOOK_SECRET: the secret is empty or only whitespace\n  \
             SUPEROFFICE_TENANT_MASTER_SECRET: the master secret is shorter than 32 bytes, or only whitespace"
        );
    }
}
