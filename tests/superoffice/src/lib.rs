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

mod api;
mod archive;
mod auth;
mod clock;
mod control;
mod function;
mod installation;
mod logs;
mod sender;
mod server;
mod tenant;

pub use api::{Fault, Request};
pub use auth::TICKET_CLAIM;
pub use clock::Clock;
pub use function::{Arrival, Function, Outage};
pub use installation::{Installation, LOG_GROUP, SECRET, START, TOKEN, WEBHOOK_URL};
pub use logs::Logs;
pub use sender::{Delivery, Reply, Transport, http_transport};
pub use tenant::{Contact, Merge, Paging, Version, Webhook};

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::Shared;
use jiff::Timestamp;
use server::Server;
use tenant::Tenant;

/// The tenant's name.
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

/// Locks, also when another test thread panicked while it held the lock: its own failure is the one to report.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let shared = Arc::new(Shared::new(Tenant::new(clock)));
        let servers = [
            Server::start(address, api::router(Arc::clone(&shared), 0)).await,
            Server::start("127.0.0.1:0", api::router(Arc::clone(&shared), 1)).await,
        ];
        shared.set_addresses([servers[0].address(), servers[1].address()]);
        shared.set_transport(transport);
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

    /// Chooses the server's version.
    pub fn set_version(&self, version: Version) {
        self.tenant().version = version;
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

    /// Ends the life of every ticket.
    pub fn expire_tickets(&self) {
        self.tenant().access.tickets.clear();
    }

    /// Denies access to calls whose path contains `path`.
    pub fn forbid(&self, path: &str) {
        self.tenant().access.forbidden.push(path.to_owned());
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

    /// Creates a contact, which raises `contact.created`.
    pub fn create_contact(&self) -> i64 {
        self.raise(|tenant| tenant.create_contact())
    }

    /// Changes a contact, which raises `contact.changed`.
    pub fn change_contact(&self, id: i64) {
        self.raise(|tenant| tenant.change_contact(id));
    }

    /// Deletes a contact as a person does, which raises `contact.softdeleted`.
    pub fn soft_delete_contact(&self, id: i64) {
        self.raise(|tenant| tenant.soft_delete_contact(id));
    }

    /// Merges a contact into another one, which raises `contact.deleted` and `contact.changed`.
    pub fn merge_contacts(&self, source: i64, destination: i64) {
        self.raise(|tenant| tenant.merge_contacts(source, destination));
    }

    /// Adds contacts that were created at a time, without any event.
    pub fn import_contacts(&self, count: i64, registered: Timestamp) {
        self.tenant().import_contacts(count, registered);
    }

    /// Drops every event that is waiting, which is how events are lost without a failed delivery.
    pub fn lose_waiting_events(&self) {
        self.tenant().waiting.clear();
        self.shared.changed();
    }

    /// Changes a contact, and loses the event.
    pub fn change_contact_silently(&self, id: i64) {
        self.tenant().change_contact_silently(id);
    }

    /// Makes the sender hold events back, or go on.
    pub fn pause_sender(&self, paused: bool) {
        self.tenant().paused = paused;
        self.shared.changed();
    }

    /// Waits until the sender has delivered or discarded every event.
    pub async fn idle(&self) {
        self.shared.idle().await;
    }

    /// Returns the webhooks, in order of their ids.
    pub fn webhooks(&self) -> Vec<Webhook> {
        self.tenant().webhooks.values().cloned().collect()
    }

    /// Adds a webhook without a test, and returns its id.
    pub fn add_webhook(&self, properties: serde_json::Value) -> i64 {
        self.tenant().add_webhook(properties)
    }

    /// Sets a property of a webhook, as a person does in the user interface.
    pub fn set_property(&self, webhook: i64, name: &str, value: serde_json::Value) {
        self.raise(|tenant| tenant.set_property(webhook, name, value));
    }

    /// Returns the contacts, in order of their ids.
    pub fn contacts(&self) -> Vec<Contact> {
        self.tenant().contacts.values().copied().collect()
    }

    /// Returns the merges, oldest first.
    pub fn merges(&self) -> Vec<Merge> {
        self.tenant().merges.clone()
    }

    fn tenant(&self) -> MutexGuard<'_, Tenant> {
        lock(&self.shared.tenant)
    }

    fn raise<T>(&self, act: impl FnOnce(&mut Tenant) -> T) -> T {
        let result = act(&mut self.tenant());
        self.shared.changed();
        result
    }
}
