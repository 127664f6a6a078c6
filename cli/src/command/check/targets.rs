//! The tenants whose endpoint and webhooks are checked: one, or all of a list.

use superoffice_client::settings::WebhookSettings;
use superoffice_client::{Connection, ExposeSecret, Url};
use superoffice_webhook::Secret;
use superoffice_webhook::webhook::metadata::UNNAMED_TENANT;
use superoffice_webhook::webhook::tenant::from_path;
use tenants::{TENANTS_PARAMETER, TenantSource, UnusableEntry};

use crate::environment;
use crate::exit::Failure;

/// The tenants, and the configuration that they share.
pub(super) struct Targets {
    pub(super) tenants: Vec<Target>,
    pub(super) unusable: Vec<UnusableEntry>,
    pub(super) has_list: bool,
    pub(super) log_group: Option<String>,
}

/// A tenant, or an installation that nobody names.
pub(super) struct Target {
    /// The name, if there is a list of tenants.
    pub(super) label: Option<String>,
    pub(super) url: String,
    pub(super) secret: Secret,
    /// The tenant that events name.
    pub(super) context_identifier: String,
    /// The connection to SuperOffice, or the problems of its configuration.
    pub(super) connection: Result<Connection, String>,
    pub(super) is_paused: bool,
}

impl Targets {
    /// Reads the environment. `url` replaces `WEBHOOK_URL`. The connection to SuperOffice is optional, unless there is a
    /// list of tenants.
    pub(super) async fn load(url: Option<&str>) -> Result<Self, Failure> {
        let replacement = |name: &str| url.filter(|_| name == "WEBHOOK_URL").map(str::to_owned);
        let ((webhooks, source), (tenant, log_group)) = environment::read_replacing(replacement, |env| {
            let webhooks = WebhookSettings::with_required_secret(env);
            let has_list = env.is_set(TENANTS_PARAMETER);
            let source = if has_list { TenantSource::from_environment(env).map(Some) } else { Some(None) };
            let log_group = env.get("LOG_GROUP_NAME");
            if has_list || log_group.is_some() {
                environment::check_aws(env);
            }
            webhooks.zip(source).zip(Some((env.get("SUPEROFFICE_TENANT"), log_group)))
        })?;
        let has_list = source.is_some();
        let target = |label: Option<&str>, name: Option<&str>, connection, is_paused| {
            let secret = webhooks.secret(name)?.ok_or("no secret is configured")?;
            Ok::<_, Failure>(Target {
                label: label.map(str::to_owned),
                url: webhooks.url(name)?,
                secret: Secret::new(secret.expose_secret())?,
                context_identifier: name.unwrap_or(UNNAMED_TENANT).to_owned(),
                connection,
                is_paused,
            })
        };
        let source = source.map_or_else(|| environment::read(TenantSource::from_environment), Ok);
        let (mut tenants, mut unusable) = (Vec::new(), Vec::new());
        match source {
            Ok(source) => {
                let list = source.list().await?;
                for listed in list.usable() {
                    let name = listed.name().map(str::to_owned).or_else(|| tenant.clone());
                    let name = name.or_else(|| webhooks.url(None).ok().as_deref().and_then(tenant_in));
                    let label = name.as_deref().filter(|_| has_list);
                    tenants.push(target(label, name.as_deref(), Ok(listed.connection().clone()), listed.is_paused())?);
                }
                unusable.extend_from_slice(list.unusable());
            }
            Err(error) => {
                let name = tenant.or_else(|| webhooks.url(None).ok().as_deref().and_then(tenant_in));
                tenants.push(target(None, name.as_deref(), Err(error.to_string()), false)?);
            }
        }
        Ok(Self { tenants, unusable, has_list, log_group })
    }
}

/// Returns the tenant in a URL that ends in `/webhook/<tenant>`.
fn tenant_in(url: &str) -> Option<String> {
    from_path(Url::parse(url).ok()?.path()).map(|tenant| tenant.into_owned())
}
