//! Plays one SuperOffice tenant for tests: its REST API, its webhook sender and its sign-in, written from the public
//! documentation. Nothing here was compared with a real installation.
//!
//! ```no_run
//! # #[tokio::main] async fn main() {
//! use fake_superoffice::{Reply, SuperOffice};
//!
//! let superoffice = SuperOffice::start(|_delivery| Box::pin(async { Ok(Reply::status(200)) })).await;
//! println!("SUPEROFFICE_URL={}", superoffice.url());
//! let contact = superoffice.create_contact();
//! superoffice.change_contact(contact);
//! superoffice.idle().await;
//! # }
//! ```
//!
//! [`Logs`] plays `FilterLogEvents` of CloudWatch Logs, and [`Function`] is the real function in this process.
//! Everything runs on the caller's Tokio runtime, listens on loopback only, and ends when it is dropped.

mod agent;
mod api;
mod archive;
mod auth;
mod call;
mod clock;
mod control;
mod error;
mod exchange;
mod filter;
mod function;
mod installation;
mod logs;
mod mode;
mod patch;
mod people;
mod record;
mod records;
mod row;
mod sender;
mod server;
mod shared;
mod tenant;
mod times;
mod transport;
mod webhook;
mod webhooks;

pub use auth::TICKET_CLAIM;
pub use clock::Clock;
pub use exchange::{Fault, Request};
pub use function::{Arrival, Function, Outage};
pub use installation::{Installation, LOG_GROUP, SECRET, START, TOKEN, WEBHOOK_URL};
pub use logs::Logs;
pub use mode::{EmptyBody, Mode, States, Version, Zones};
pub use record::{Kind, Record};
pub use tenant::Paging;
pub use transport::{Delivery, Reply, Transport, http_transport};
pub use webhook::Webhook;

use std::sync::{Arc, MutexGuard};

use server::Server;
use shared::Shared;
use tenant::Tenant;

/// The name of a tenant, unless another one is chosen.
pub const TENANT: &str = "Cust12345";

/// A running SuperOffice tenant.
pub struct SuperOffice {
    shared: Arc<Shared>,
    /// Two servers, like two subdomains: one is the tenant's host, and the other returns 421.
    servers: [Server; 2],
    sender: tokio::task::JoinHandle<()>,
}

impl Drop for SuperOffice {
    fn drop(&mut self) {
        self.sender.abort();
    }
}

impl SuperOffice {
    /// Starts a tenant whose events are delivered by `transport`, without waits between attempts.
    pub async fn start(
        transport: impl Fn(Delivery) -> futures_util::future::BoxFuture<'static, Result<Reply, String>>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::start_at("127.0.0.1:0", Clock::system(), Arc::new(transport), 0.0).await
    }

    /// Starts a tenant at an address. Its sender waits `pace` times 1 s and 4 s between attempts.
    pub async fn start_at(address: &str, clock: Clock, transport: Transport, pace: f64) -> Self {
        Self::start_named(TENANT, address, clock, transport, pace).await
    }

    /// Starts a tenant as [`start_at`](Self::start_at), with another name.
    pub async fn start_named(name: &str, address: &str, clock: Clock, transport: Transport, pace: f64) -> Self {
        let shared = Arc::new(Shared::new(Tenant::new(name, clock), transport));
        let servers = [
            Server::start(address, api::router(Arc::clone(&shared), 0)).await,
            Server::start("127.0.0.1:0", api::router(Arc::clone(&shared), 1)).await,
        ];
        shared.set_addresses([servers[0].address(), servers[1].address()]);
        let sender = tokio::spawn(sender::run(Arc::clone(&shared), pace));
        Self { shared, servers, sender }
    }

    /// The tenant's base URL: `SUPEROFFICE_URL`.
    pub fn url(&self) -> String {
        self.shared.url()
    }

    /// The environment's URL: `SUPEROFFICE_ENVIRONMENT_URL`.
    pub fn environment_url(&self) -> String {
        self.servers[0].url()
    }

    /// Lets this tenant's environment report the state of another tenant, too.
    pub fn add_to_environment(&self, other: &Self) {
        self.shared.add_neighbor(&other.shared);
    }

    /// The tenant's clock.
    pub fn clock(&self) -> Clock {
        self.tenant().clock.clone()
    }

    /// Moves the tenant to the other host. The first one returns 421 from now on.
    pub fn change_host(&self) {
        self.shared.change_host();
    }

    /// Sets the state that the environment reports.
    pub fn set_running(&self, running: bool) {
        self.tenant().running = running;
    }

    /// Chooses the behavior of the server where it is unknown.
    pub fn set_mode(&self, mode: Mode) {
        self.tenant().mode = mode;
    }

    /// Chooses the server's version.
    pub fn set_version(&self, version: Version) {
        self.tenant().mode.version = version;
    }

    /// Chooses the way in which archives return pages.
    pub fn set_paging(&self, paging: Paging) {
        self.tenant().paging = paging;
    }

    /// Accepts an access token.
    pub fn accept_token(&self, token: &str) {
        self.tenant().access.tokens.insert(token.to_owned());
    }

    /// Accepts a user and password.
    pub fn accept_user(&self, user: &str, password: &str) {
        self.tenant().access.users.insert((user.to_owned(), password.to_owned()));
    }

    /// Accepts a system user whose requests are signed with the key that belongs to this public key (PKCS#1 DER).
    pub fn accept_system_user(&self, token: &str, client_secret: &str, public_key: &[u8]) {
        self.tenant().access.system_user = Some(auth::SystemUser {
            token: token.to_owned(),
            client_secret: client_secret.to_owned(),
            public_key: public_key.to_vec(),
        });
    }

    /// Rejects an access token from now on.
    pub fn revoke_token(&self, token: &str) {
        self.tenant().access.tokens.remove(token);
    }

    /// Ends the life of every ticket.
    pub fn expire_tickets(&self) {
        self.tenant().access.tickets.clear();
    }

    /// Denies access to calls whose path contains `path`.
    pub fn forbid(&self, path: &str) {
        self.tenant().access.forbidden.push(path.to_owned());
    }

    /// Returns contacts and persons as they were before changes that are younger.
    pub fn set_read_lag(&self, lag: jiff::SignedDuration) {
        self.tenant().read_lag = lag;
    }

    /// Ends every denial of access.
    pub fn allow_everything(&self) {
        self.tenant().access.forbidden.clear();
    }

    /// Responds to the next requests whose method and path contain `call` with these faults.
    pub fn script(&self, call: &str, faults: impl IntoIterator<Item = Fault>) {
        self.shared.script(call, faults);
    }

    /// Removes all faults that are left.
    pub fn clear_faults(&self) {
        self.shared.clear_faults();
    }

    /// Returns every request so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.clear_requests();
    }

    fn tenant(&self) -> MutexGuard<'_, Tenant> {
        self.shared.tenant()
    }
}
