//! The secrets, from the environment. The variables are those of superoffice-webhook.

use lambda_runtime::Error;
use superoffice_webhook::{MasterSecret, Secret, TenantSecrets, Verifier};

/// Returns the verifier of message signatures, or `None` if no secret is set. An empty value counts as unset.
pub(crate) fn verifier(env: impl Fn(&str) -> Option<String>) -> Result<Option<Verifier>, Error> {
    let get = |name: &str| env(name).filter(|value| !value.is_empty());
    let secret = |name| get(name).map(|value| value.parse::<Secret>()).transpose();
    let master = |name| get(name).map(|value| value.parse::<MasterSecret>()).transpose();

    let current = secret("SUPEROFFICE_WEBHOOK_SECRET")?;
    let previous = secret("SUPEROFFICE_WEBHOOK_SECRET_PREVIOUS")?;
    let tenants: TenantSecrets =
        get("SUPEROFFICE_TENANT_SECRETS").map(|json| json.parse()).transpose()?.unwrap_or_default();
    let masters = [master("SUPEROFFICE_TENANT_MASTER_SECRET")?, master("SUPEROFFICE_TENANT_MASTER_SECRET_PREVIOUS")?];

    if current.is_none() && previous.is_none() && tenants.is_empty() && masters.iter().all(Option::is_none) {
        return Ok(None);
    }
    let shared = Verifier::with_tenants(current, previous, tenants);
    Ok(Some(masters.into_iter().flatten().fold(shared, Verifier::with_master)))
}

#[cfg(test)]
mod tests {
    use superoffice_webhook::QueuedEvent;

    use super::*;

    const BODY: &str = r#"{"EventId":"1","Event":"contact.changed","PrimaryKey":21,"ContextIdentifier":"Cust1"}"#;
    const MASTER: &str = "0123456789abcdef0123456789abcdef";

    fn read(variables: &[(&str, &str)]) -> Result<Option<Verifier>, String> {
        let env = |name: &str| Some(variables.iter().find(|(variable, _)| *variable == name)?.1.to_owned());
        verifier(env).map_err(|error| error.to_string())
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
        assert_eq!(read(&[("SUPEROFFICE_WEBHOOK_SECRET", " ")]).unwrap_err(), "the secret is empty or only whitespace");
        assert_eq!(
            read(&[("SUPEROFFICE_TENANT_MASTER_SECRET", "short")]).unwrap_err(),
            "the master secret is shorter than 32 bytes, or only whitespace"
        );
    }
}
