//! A tenant, the function that receives its events, and the function's log.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use crate::{Clock, Function, Logs, SuperOffice, TENANT};

/// The shared secret of an [`Installation`].
pub const SECRET: &str = "the shared secret";
/// The access token that its tenant accepts.
pub const TOKEN: &str = "8A:access-token";
/// The URL that its webhooks post to.
pub const WEBHOOK_URL: &str = "https://hooks.example.com/webhook";
/// The function's log group.
pub const LOG_GROUP: &str = "/aws/lambda/webhook";
/// The time of its clock at first.
pub const START: &str = "2026-11-24T09:00:00Z";

/// Everything that the administration programs work with, on a clock that the test moves, or on the system's.
pub struct Installation {
    /// The tenant.
    pub superoffice: Arc<SuperOffice>,
    /// The function.
    pub function: Arc<Function>,
    /// CloudWatch Logs.
    pub logs: Arc<Logs>,
    /// AWS's time.
    pub clock: Clock,
}

impl Installation {
    /// Starts a tenant without webhooks, at [`START`].
    pub async fn start() -> Self {
        Self::start_at(START.parse().expect("a valid time"), 0).await
    }

    /// Starts a tenant without webhooks, on the system's clock.
    pub async fn start_now() -> Self {
        Self::start_with(Clock::system(), 0).await
    }

    /// Starts a tenant without webhooks, whose clock is behind AWS's by a number of seconds.
    pub async fn start_at(time: Timestamp, slow_by: i64) -> Self {
        Self::start_with(Clock::fixed(time), slow_by).await
    }

    async fn start_with(clock: Clock, slow_by: i64) -> Self {
        let logs = Arc::new(Logs::start().await);
        let function = Function::new(SECRET, clock.clone(), Arc::clone(&logs), LOG_GROUP);
        let transport = Arc::new(function.transport());
        let superoffice = SuperOffice::start_at("127.0.0.1:0", clock.slowed(slow_by), transport, 0.0).await;
        superoffice.accept_token(TOKEN);
        Self { superoffice: Arc::new(superoffice), function, logs, clock }
    }

    /// The variables of a program that uses an access token.
    pub fn variables(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("SUPEROFFICE_URL", self.superoffice.url()),
            ("SUPEROFFICE_ACCESS_TOKEN", TOKEN.to_owned()),
            ("SUPEROFFICE_WEBHOOK_SECRET", SECRET.to_owned()),
            ("WEBHOOK_URL", WEBHOOK_URL.to_owned()),
            ("LOG_GROUP_NAME", LOG_GROUP.to_owned()),
        ])
    }

    /// The variables of a program that looks the tenant up.
    pub fn lookup_variables(&self) -> BTreeMap<&'static str, String> {
        let mut variables = self.variables();
        variables.remove("SUPEROFFICE_URL");
        variables.insert("SUPEROFFICE_TENANT", TENANT.to_owned());
        variables.insert("SUPEROFFICE_ENVIRONMENT_URL", self.superoffice.environment_url());
        variables
    }

    /// The variables of the AWS SDK.
    pub fn aws_variables(&self) -> BTreeMap<&'static str, String> {
        BTreeMap::from([
            ("AWS_ENDPOINT_URL_CLOUDWATCH_LOGS", self.logs.url()),
            ("AWS_REGION", "eu-north-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "id".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "key".to_owned()),
        ])
    }

    /// Lets time pass.
    pub fn pass(&self, seconds: i64) {
        self.clock.advance(seconds * 1000);
    }

    /// Returns the methods and paths of the requests so far.
    pub fn calls(&self) -> Vec<String> {
        self.superoffice.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }
}
