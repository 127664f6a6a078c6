//! The place of the list, and the time a program keeps it.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use aws_setup::InvalidSettings;
use jiff::{SignedDuration, Timestamp};
use superoffice_client::{Clock, settings};
use superoffice_webhook::env::Environment;
use tokio::sync::{Mutex, OnceCell};

use crate::entry::{Reason, Shared};
use crate::list::{Entries, Tenant, TenantList, UnusableEntry};
use crate::parameters::{Content, Parameters, ReadError};

/// The variable with the path of the list in SSM Parameter Store.
pub const TENANTS_PARAMETER: &str = "SUPEROFFICE_TENANTS_PARAMETER";

/// The variables of a single tenant.
const OF_ONE_TENANT: [&str; 6] = [
    "SUPEROFFICE_URL",
    "SUPEROFFICE_TENANT",
    "SUPEROFFICE_ACCESS_TOKEN",
    "SUPEROFFICE_USER",
    "SUPEROFFICE_PASSWORD",
    "SUPEROFFICE_SYSTEM_TOKEN",
];

/// The time a list is used.
const LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// The time between two reads of one entry.
const PAUSE: SignedDuration = SignedDuration::from_mins(1);

/// The list cannot be read to its end, or is empty. A partial list is never used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// There is no entry. A wrong path or region looks exactly like an empty list.
    #[error("the list of tenants is empty: there is no parameter directly below {path} in {region}")]
    Empty {
        /// `SUPEROFFICE_TENANTS_PARAMETER`.
        path: String,
        /// The region that was asked.
        region: String,
    },
    /// A call failed.
    #[error("the list of tenants at {path} in {region} cannot be read: {reason}")]
    Unreadable {
        /// `SUPEROFFICE_TENANTS_PARAMETER`.
        path: String,
        /// The region that was asked.
        region: String,
        /// The error of AWS.
        reason: String,
    },
    /// The way to AWS is not configured correctly.
    #[error(transparent)]
    Settings(#[from] InvalidSettings),
}

/// A tenant that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// The list cannot be read.
    #[error(transparent)]
    List(#[from] ListError),
    /// The tenant's entry cannot be used.
    #[error(transparent)]
    Unusable(#[from] UnusableEntry),
}

/// The place of the list: the parameters below a path, or the environment with its one tenant.
pub struct TenantSource(Kind);

enum Kind {
    Environment(Arc<TenantList>),
    Parameters(Box<Listed>),
}

/// A list in Parameter Store.
struct Listed {
    path: String,
    shared: Shared,
    clock: Clock,
    parameters: OnceCell<Parameters>,
    known: Mutex<Known>,
}

/// Everything that was read, with the time.
#[derive(Default)]
struct Known {
    list: Option<(Timestamp, Arc<TenantList>)>,
    /// Entries that were read alone, by the requested name in lower case.
    found: HashMap<String, (Timestamp, Found)>,
    /// The time of the last repeated read of an entry, by name.
    refreshed: HashMap<String, Timestamp>,
}

/// An entry that was looked for; `None` if there is none.
type Found = Option<Result<Arc<Tenant>, UnusableEntry>>;

impl fmt::Debug for TenantSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TenantSource").field(&self.path().unwrap_or("environment")).finish()
    }
}

impl TenantSource {
    /// Reads `SUPEROFFICE_TENANTS_PARAMETER` with the variables that all tenants share, or the variables of one tenant.
    /// A path beside a variable of one tenant is a problem.
    pub fn from_environment(env: &mut Environment<'_>) -> Option<Self> {
        if !env.is_set(TENANTS_PARAMETER) {
            let tenant = Tenant::of_environment(settings::connection(env)?);
            return Some(Self(Kind::Environment(Arc::new(TenantList::of_one(tenant)))));
        }
        let path = env.parse(TENANTS_PARAMETER, parse_path);
        for name in OF_ONE_TENANT {
            if env.is_set(name) {
                env.problem(name, format_args!("set, and so is {TENANTS_PARAMETER}; set one of them"));
            }
        }
        let environment_url = settings::environment_url(env);
        let certificates = settings::certificates(env);
        let app = settings::system_app(env);
        let shared = Shared { environment_url: environment_url?, certificates, app };
        Some(Self(Kind::Parameters(Box::new(Listed {
            path: path?,
            shared,
            clock: Arc::new(Timestamp::now),
            parameters: OnceCell::new(),
            known: Mutex::default(),
        }))))
    }

    /// Uses a client that is configured already, instead of the environment's configuration.
    #[must_use]
    pub fn with_client(mut self, client: aws_sdk_ssm::Client) -> Self {
        if let Kind::Parameters(listed) = &mut self.0 {
            listed.parameters = OnceCell::new_with(Some(Parameters::new(client, listed.path.clone())));
        }
        self
    }

    /// Uses another clock than the system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        if let Kind::Parameters(listed) = &mut self.0 {
            listed.clock = clock;
        }
        self
    }

    /// Returns the path of the list; `None` for the one tenant of the environment.
    pub fn path(&self) -> Option<&str> {
        match &self.0 {
            Kind::Environment(_) => None,
            Kind::Parameters(listed) => Some(&listed.path),
        }
    }

    /// Returns the list, at most ten minutes old.
    ///
    /// # Errors
    ///
    /// [`ListError`] if the list is empty or cannot be read to its end.
    pub async fn list(&self) -> Result<Arc<TenantList>, ListError> {
        match &self.0 {
            Kind::Environment(list) => Ok(Arc::clone(list)),
            Kind::Parameters(listed) => listed.list(&mut *listed.known.lock().await).await,
        }
    }

    /// Returns the tenant that an event names, without regard to case. Its entry is read by the event's spelling, and
    /// the whole list only if there is none. `None` if there is no such tenant.
    ///
    /// The one tenant of the environment has every name.
    ///
    /// # Errors
    ///
    /// [`FindError`] if the entry cannot be read or used.
    pub async fn find(&self, spelling: &str) -> Result<Option<Arc<Tenant>>, FindError> {
        match &self.0 {
            Kind::Environment(list) => Ok(list.usable().first().cloned()),
            Kind::Parameters(listed) => listed.find(spelling).await,
        }
    }

    /// Reads a tenant's entry again, because its credentials were refused, at most once a minute. Returns the same
    /// `Arc` if the entry is unchanged, and `None` if there is no entry any more.
    ///
    /// # Errors
    ///
    /// [`FindError`] if the entry cannot be read or used.
    pub async fn refresh(&self, tenant: &Arc<Tenant>) -> Result<Option<Arc<Tenant>>, FindError> {
        match (&self.0, tenant.name()) {
            (Kind::Parameters(listed), Some(name)) => listed.refresh(name).await,
            _ => Ok(Some(Arc::clone(tenant))),
        }
    }
}

impl Listed {
    async fn parameters(&self) -> Result<&Parameters, ListError> {
        let load = async || {
            let config = aws_setup::load().await?;
            Ok(Parameters::new(aws_sdk_ssm::Client::new(&config), self.path.clone()))
        };
        self.parameters.get_or_try_init(load).await
    }

    /// Returns `true` if something that was read at a time is younger than `age`.
    fn is_younger(&self, read: Timestamp, age: SignedDuration) -> bool {
        (self.clock)().duration_since(read).abs() < age
    }

    fn unreadable(&self, parameters: &Parameters, error: ReadError) -> ListError {
        let (path, region) = (self.path.clone(), parameters.region().to_owned());
        ListError::Unreadable { path, region, reason: error.0 }
    }

    /// Returns the known list if it is recent.
    fn recent<'a>(&self, known: &'a Known) -> Option<&'a Arc<TenantList>> {
        known.list.as_ref().filter(|(read, _)| self.is_younger(*read, LIFETIME)).map(|(_, list)| list)
    }

    async fn list(&self, known: &mut Known) -> Result<Arc<TenantList>, ListError> {
        if let Some(list) = self.recent(known) {
            return Ok(Arc::clone(list));
        }
        let parameters = self.parameters().await?;
        let started = (self.clock)();
        let entries = std::cell::RefCell::new(Entries::default());
        let found = |name: &str, content| entries.borrow_mut().add(name, self.tenant(name, content, known));
        let read = parameters.read(found, || entries.borrow_mut().clear()).await;
        read.map_err(|error| self.unreadable(parameters, error))?;
        let list = Arc::new(entries.into_inner().finish());
        if list.is_empty() {
            return Err(ListError::Empty { path: self.path.clone(), region: parameters.region().to_owned() });
        }
        known.list = Some((started, Arc::clone(&list)));
        known.found.clear();
        Ok(list)
    }

    /// Returns the tenant of an entry, the known one if its value is unchanged.
    fn tenant(&self, name: &str, content: Content, known: &Known) -> Result<Arc<Tenant>, Reason> {
        let value = content?;
        let unchanged = known.tenant(name).filter(|tenant| tenant.has_value(&value));
        unchanged
            .map_or_else(|| Tenant::parse(name, value, &self.shared).map(Arc::new), |tenant| Ok(Arc::clone(tenant)))
    }

    /// Reads an entry alone.
    async fn read(&self, name: &str, known: &Known) -> Result<Option<Result<Arc<Tenant>, Reason>>, ListError> {
        let parameters = self.parameters().await?;
        let content = parameters.get(name).await.map_err(|error| self.unreadable(parameters, error))?;
        Ok(content.map(|content| self.tenant(name, content, known)))
    }

    async fn find(&self, spelling: &str) -> Result<Option<Arc<Tenant>>, FindError> {
        if !is_parameter_name(spelling) {
            return Ok(None);
        }
        let known = &mut *self.known.lock().await;
        if let Some(entry) = self.recent(known).and_then(|list| list.get(spelling)) {
            return Ok(Some(Arc::clone(entry.map_err(Clone::clone)?)));
        }
        let key = spelling.to_ascii_lowercase();
        // A tenant that cannot be used may be mended soon.
        let is_recent = |(read, found): &(Timestamp, Found)| {
            self.is_younger(*read, if matches!(found, Some(Ok(_))) { LIFETIME } else { PAUSE })
        };
        known.found.retain(|_, entry| is_recent(entry));
        let found = match known.found.get(&key) {
            Some((_, found)) => found.clone(),
            None => {
                let read = (self.clock)();
                let found = match self.read(spelling, known).await? {
                    Some(entry) => Some(entry.map_err(|reason| UnusableEntry { name: spelling.to_owned(), reason })),
                    None => match self.list(known).await {
                        Ok(list) => list.get(spelling).map(|entry| entry.map(Arc::clone).map_err(Clone::clone)),
                        Err(ListError::Empty { .. }) => None,
                        Err(error) => return Err(error.into()),
                    },
                };
                known.found.insert(key, (read, found.clone()));
                found
            }
        };
        Ok(found.transpose()?)
    }

    async fn refresh(&self, name: &str) -> Result<Option<Arc<Tenant>>, FindError> {
        let known = &mut *self.known.lock().await;
        known.refreshed.retain(|_, read| self.is_younger(*read, PAUSE));
        if known.refreshed.contains_key(name) {
            return Ok(known.tenant(name).cloned());
        }
        known.refreshed.insert(name.to_owned(), (self.clock)());
        let entry = self.read(name, known).await?;
        if let Some((_, list)) = &mut known.list {
            *list = Arc::new(list.with(name, entry.clone()));
        }
        let found = entry.map(|entry| entry.map_err(|reason| UnusableEntry { name: name.to_owned(), reason }));
        if let Some((_, before)) = known.found.get_mut(&name.to_ascii_lowercase()) {
            *before = found.clone();
        }
        Ok(found.transpose()?)
    }
}

impl Known {
    /// Returns a usable tenant with exactly this name.
    fn tenant(&self, name: &str) -> Option<&Arc<Tenant>> {
        let in_list = || self.list.as_ref()?.1.get(name)?.ok();
        let found = || self.found.get(&name.to_ascii_lowercase())?.1.as_ref()?.as_ref().ok();
        in_list().or_else(found).filter(|tenant| tenant.name() == Some(name))
    }
}

/// Returns `true` if a parameter can have this name.
fn is_parameter_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// Parses a path in Parameter Store. A slash at its end is ignored.
fn parse_path(text: &str) -> Result<String, &'static str> {
    let path = text.strip_suffix('/').unwrap_or(text);
    let is_path = path.strip_prefix('/').is_some_and(|path| path.split('/').all(is_parameter_name));
    if is_path { Ok(path.to_owned()) } else { Err("expected a path such as /superoffice/my-app") }
}
