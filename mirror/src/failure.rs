//! The reasons of failures. Each consists of fixed words and a status, and never contains text from a response.

use superoffice_client::{ApiError, ErrorKind};

use crate::table::TableError;

/// The reason why a row was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// SuperOffice responded with another status than expected.
    #[error("SuperOffice responded with status {0}")]
    Status(u16),
    /// SuperOffice did not respond.
    #[error("SuperOffice did not respond in time")]
    Timeout,
    /// There is no connection to SuperOffice.
    #[error("SuperOffice is unreachable")]
    Unreachable,
    /// The system user got no ticket.
    #[error("SuperOffice rejected the system user")]
    SignIn,
    /// The environment has no base URL for the tenant.
    #[error("the tenant has no usable base URL")]
    NoBaseUrl,
    /// The response contains neither the document nor the statement that it does not exist.
    #[error("SuperOffice's response is not as documented")]
    Unexpected,
    /// The response says that a record of this entity does not exist, and SuperOffice's list has it.
    #[error("the list contradicts the response that the {0} does not exist")]
    Contradicted(&'static str),
    /// SuperOffice's list, filtered by the id of a record of this entity, was not read.
    #[error("the list, filtered by the {0}: {1}")]
    List(&'static str, Box<Self>),
    /// SuperOffice's list of all records of this entity was not read.
    #[error("the list of all {0}s: {1}")]
    Page(&'static str, Box<Self>),
    /// The ids of SuperOffice's list do not ascend.
    #[error("the ids of the list do not ascend")]
    NotAscending,
    /// Most rows of a range are surplus: a wrong URL or a user with less access must not empty the table.
    #[error("SuperOffice's list lacks most {0}s of a range, so no row is removed")]
    Braked(&'static str),
    /// An audit does not begin for a paused tenant.
    #[error("the tenant is paused")]
    Paused,
    /// Others wrote the row after every attempt to read it.
    #[error("the row changed during every attempt")]
    Contended,
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
    /// Earlier failures in this invocation concern the whole tenant, or all its records of an entity.
    #[error("the tenant was given up for this invocation")]
    GivenUp,
    /// SuperOffice throttled an earlier call of this invocation.
    #[error("SuperOffice throttled an earlier call of this invocation")]
    Throttled,
    /// The time of the invocation has passed.
    #[error("the time of the invocation did not suffice")]
    OutOfTime,
    /// The event names a tenant that the mirror does not have.
    #[error("the tenant is not in the list of tenants")]
    UnknownTenant,
    /// The list of tenants cannot be read to its end, or is empty.
    #[error("the list of tenants cannot be read")]
    UnreadableList,
    /// The tenant's entry cannot be used.
    #[error("the tenant's entry in the list of tenants is unusable")]
    UnusableTenant,
    /// The message is not an event, or its signature is missing or wrong.
    #[error("the message cannot be decoded")]
    Undecodable,
}

impl Failure {
    /// Returns the status of SuperOffice's response.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(*status),
            Self::List(_, failure) | Self::Page(_, failure) => failure.status(),
            _ => None,
        }
    }

    /// Returns `true` if SuperOffice refused the credentials.
    pub fn is_unauthorized(&self) -> bool {
        match self {
            Self::List(_, failure) | Self::Page(_, failure) => failure.is_unauthorized(),
            failure => *failure == Self::SignIn || failure.status() == Some(401),
        }
    }

    /// Returns `true` if SuperOffice throttled a call.
    pub fn is_throttled(&self) -> bool {
        *self == Self::Throttled || self.status() == Some(429)
    }

    /// Returns `true` if the failure says nothing about SuperOffice.
    pub fn is_of_table(&self) -> bool {
        matches!(self, Self::Table(_) | Self::Contended)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match error.kind() {
            ErrorKind::Unreachable { .. } => Self::Unreachable,
            ErrorKind::Timeout(_) => Self::Timeout,
            ErrorKind::Ticket(_) | ErrorKind::InvalidCredential => Self::SignIn,
            ErrorKind::NoBaseUrl { .. } => Self::NoBaseUrl,
            ErrorKind::NotAscending => Self::NotAscending,
            _ => error.status().map_or(Self::Unexpected, Self::Status),
        }
    }
}
