//! The state that the tenant's servers and its sender share.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use axum::http::Method;
use tokio::sync::Notify;

use crate::exchange::{Fault, Request};
use crate::tenant::{Event, Tenant};
use crate::transport::{Delivery, Reply, Transport};

/// Locks, even when another test thread panicked while it held the lock: its own failure is the one to report.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) struct Shared {
    /// The name of the tenant.
    pub(crate) name: String,
    tenant: Mutex<Tenant>,
    /// Other tenants whose state this environment knows.
    neighbors: Mutex<Vec<Weak<Shared>>>,
    /// The index of the server that is the tenant's host.
    host: AtomicUsize,
    addresses: OnceLock<[SocketAddr; 2]>,
    transport: Transport,
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    requests: Mutex<Vec<Request>>,
    /// Signaled when events were added, removed or delivered.
    notify: Notify,
    /// The number of events that are being delivered.
    busy: AtomicUsize,
}

impl Shared {
    pub(crate) fn new(tenant: Tenant, transport: Transport) -> Self {
        Self {
            name: tenant.name.clone(),
            neighbors: Mutex::default(),
            tenant: Mutex::new(tenant),
            host: AtomicUsize::new(0),
            addresses: OnceLock::new(),
            transport,
            faults: Mutex::default(),
            requests: Mutex::default(),
            notify: Notify::new(),
            busy: AtomicUsize::new(0),
        }
    }

    pub(crate) fn tenant(&self) -> MutexGuard<'_, Tenant> {
        lock(&self.tenant)
    }

    /// Changes the tenant, and wakes the sender.
    pub(crate) fn raise<T>(&self, act: impl FnOnce(&mut Tenant) -> T) -> T {
        let result = act(&mut self.tenant());
        self.notify.notify_waiters();
        result
    }

    pub(crate) fn set_addresses(&self, addresses: [SocketAddr; 2]) {
        let _ = self.addresses.set(addresses);
    }

    pub(crate) fn add_neighbor(&self, other: &Arc<Self>) {
        lock(&self.neighbors).push(Arc::downgrade(other));
    }

    /// Returns the tenant with a name that this environment knows.
    pub(crate) fn in_environment(self: &Arc<Self>, name: &str) -> Option<Arc<Self>> {
        if self.name.eq_ignore_ascii_case(name) {
            return Some(Arc::clone(self));
        }
        let neighbors = lock(&self.neighbors);
        neighbors.iter().filter_map(Weak::upgrade).find(|shared| shared.name.eq_ignore_ascii_case(name))
    }

    /// Makes a delivery.
    pub(crate) async fn deliver(&self, delivery: Delivery) -> Result<Reply, String> {
        if self.tenant().network_down {
            return Err("no route to host".into());
        }
        (self.transport)(delivery).await
    }

    pub(crate) fn url(&self) -> String {
        let addresses = self.addresses.get().expect("the servers have started");
        format!("http://{}/{}", addresses[self.host.load(Ordering::SeqCst)], self.name)
    }

    pub(crate) fn is_host(&self, index: usize) -> bool {
        index == self.host.load(Ordering::SeqCst)
    }

    pub(crate) fn change_host(&self) {
        self.host.fetch_xor(1, Ordering::SeqCst);
    }

    pub(crate) fn script(&self, call: &str, faults: impl IntoIterator<Item = Fault>) {
        lock(&self.faults).push((call.to_owned(), faults.into_iter().collect()));
    }

    pub(crate) fn clear_faults(&self) {
        lock(&self.faults).clear();
    }

    /// Returns the fault that is scripted for a call, once.
    pub(crate) fn fault(&self, method: &Method, path: &str) -> Fault {
        let call = format!("{method} {path}");
        let mut faults = lock(&self.faults);
        let scripted = faults.iter_mut().find(|(pattern, left)| call.contains(pattern.as_str()) && !left.is_empty());
        scripted.and_then(|(_, left)| left.pop_front()).unwrap_or(Fault::None)
    }

    pub(crate) fn record(&self, request: Request) {
        lock(&self.requests).push(request);
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    pub(crate) fn clear_requests(&self) {
        lock(&self.requests).clear();
    }

    /// Waits for an event and removes it from the queue; `None` if it was removed in the meantime.
    pub(crate) async fn next_event(&self) -> Option<Event> {
        let notified = self.notify.notified();
        let event = {
            let mut tenant = self.tenant();
            let event = if tenant.paused { None } else { tenant.waiting.pop_front() };
            if event.is_some() {
                self.busy.fetch_add(1, Ordering::SeqCst);
            }
            event
        };
        if event.is_none() {
            notified.await;
        }
        event
    }

    pub(crate) fn delivered(&self) {
        self.busy.fetch_sub(1, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// Waits until every event was delivered or discarded.
    pub(crate) async fn idle(&self) {
        loop {
            let notified = self.notify.notified();
            let idle = {
                let tenant = self.tenant();
                (tenant.paused || tenant.waiting.is_empty()) && self.busy.load(Ordering::SeqCst) == 0
            };
            if idle {
                return;
            }
            notified.await;
        }
    }
}
