//! A batch of messages: all events of a contact cause one read, and each tenant is visited on its own.

use std::collections::HashMap;

use futures_util::future::join_all;
use jiff::Timestamp;
use superoffice_consumer::batch::process_batch;
use superoffice_consumer::{Batch, BatchResponse, Record};
use superoffice_webhook::{ContactEvent, ContactEventKind, QueuedEvent, Verifier};
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::superoffice::SuperOffice;
use crate::table::Table;
use crate::telemetry::Report;
use crate::tenants::{ONSITE, Tenants};
use crate::visit::{Evidence, Outcome, Visit};

/// A contact of a batch.
struct Contact {
    id: i64,
    evidence: Evidence,
    /// The time of the oldest event.
    oldest: Option<Timestamp>,
    /// The indexes of the contact's messages.
    messages: Vec<usize>,
}

/// The contacts of a tenant, in the order of their first messages.
struct Contacts {
    /// The first spelling that an event has.
    tenant: String,
    contacts: Vec<Contact>,
}

/// The result of a contact: its write and the time of it.
type Handled = Result<(Outcome, Timestamp), Failure>;

/// Handles a batch until the deadline.
pub async fn handle(
    tenants: &impl Tenants,
    table: &impl Table,
    verifier: Option<&Verifier>,
    batch: &Batch,
    deadline: Instant,
) -> (BatchResponse, Report) {
    let mut report = Report::default();
    let mut results = vec![Ok(()); batch.records.len()];
    let mut groups: Vec<Contacts> = Vec::new();
    for (index, record) in batch.records.iter().enumerate() {
        match decode(record, verifier) {
            Ok(Some(event)) => add(&mut groups, index, &event),
            Ok(None) => {}
            Err(failure) => {
                report.add_reason(None, None, &failure);
                results[index] = Err(failure);
            }
        }
    }
    let visits = groups.iter().map(|group| visit(tenants, table, group, deadline));
    for (group, handled) in groups.iter().zip(join_all(visits).await) {
        let is_throttled = handled.iter().any(|result| result.as_ref().is_err_and(Failure::is_throttled));
        report.metrics.mirror_throttled += u64::from(is_throttled);
        for (contact, result) in group.contacts.iter().zip(handled) {
            match result {
                Ok((outcome, written_at)) => report.add_contact(outcome, contact.oldest, written_at),
                Err(failure) => {
                    report.add_reason(Some(&group.tenant), Some(contact.id), &failure);
                    for index in &contact.messages {
                        results[*index] = Err(failure.clone());
                    }
                }
            }
        }
    }
    let response = respond(batch, results).await;
    report.messages = batch.records.len();
    report.failed_messages = response.failed_ids().count();
    (response, report)
}

/// Decodes a message; `None` if it needs no read.
fn decode(record: &Record, verifier: Option<&Verifier>) -> Result<Option<ContactEvent>, Failure> {
    let (body, attribute) = (record.body.as_str(), |name: &str| record.attribute(name));
    let event = match verifier {
        Some(verifier) => QueuedEvent::from_message_verified(body, attribute, verifier),
        None => QueuedEvent::from_message(body, attribute),
    };
    match event.map_err(|_| Failure::Undecodable)? {
        QueuedEvent::Contact(event) => Ok((event.contact_id() > 0).then_some(event)),
        // A contact without an id.
        QueuedEvent::Other(event) if event.metadata().entity().eq_ignore_ascii_case("contact") => {
            Err(Failure::Undecodable)
        }
        _ => Ok(None),
    }
}

/// Adds an event to the contacts of its tenant.
fn add(groups: &mut Vec<Contacts>, index: usize, event: &ContactEvent) {
    let tenant = event.tenant().filter(|tenant| *tenant != "Default").unwrap_or(ONSITE);
    let known = groups.iter().position(|group| group.tenant.eq_ignore_ascii_case(tenant));
    let group = known.unwrap_or_else(|| {
        groups.push(Contacts { tenant: tenant.to_owned(), contacts: Vec::new() });
        groups.len() - 1
    });
    let contacts = &mut groups[group].contacts;
    let id = event.contact_id();
    let known = contacts.iter().position(|contact| contact.id == id);
    let contact = known.unwrap_or_else(|| {
        contacts.push(Contact { id, evidence: Evidence::None, oldest: None, messages: Vec::new() });
        contacts.len() - 1
    });
    let contact = &mut contacts[contact];
    if matches!(event.kind(), ContactEventKind::SoftDeleted | ContactEventKind::Deleted) {
        contact.evidence = Evidence::DeletionEvent;
    }
    let occurred_at = event.event().occurred_at();
    contact.oldest = contact.oldest.into_iter().chain(occurred_at).min();
    contact.messages.push(index);
}

/// Mirrors the contacts of a tenant one after the other. Another tenant does not wait for a slow one.
async fn visit(tenants: &impl Tenants, table: &impl Table, group: &Contacts, deadline: Instant) -> Vec<Handled> {
    let all_fail = |failure: Failure| group.contacts.iter().map(|_| Err(failure.clone())).collect();
    let tenant = match timeout_at(deadline, tenants.find(&group.tenant)).await {
        Ok(Ok(tenant)) => tenant,
        Ok(Err(failure)) => return all_fail(failure),
        Err(_) => return all_fail(Failure::OutOfTime),
    };
    let superoffice = &*tenant.superoffice;
    let mut visit = Visit::new(&tenant.name, superoffice, table);
    let mut handled = Vec::with_capacity(group.contacts.len());
    let mut is_refused = false;
    for contact in &group.contacts {
        let result = if Instant::now() < deadline {
            timeout_at(deadline, visit.mirror(contact.id, contact.evidence, None)).await
        } else {
            Ok(Err(Failure::OutOfTime))
        };
        let result = result.unwrap_or(Err(Failure::OutOfTime));
        is_refused |= result.as_ref().is_err_and(Failure::is_unauthorized);
        handled.push(result.map(|outcome| (outcome, superoffice.now())));
    }
    if is_refused {
        tenants.refused(&tenant.name).await;
    }
    handled
}

/// Returns the failed messages, and the later messages of their groups on a FIFO queue.
async fn respond(batch: &Batch, results: Vec<Result<(), Failure>>) -> BatchResponse {
    let by_record: HashMap<*const Record, _> = batch.records.iter().map(std::ptr::from_ref).zip(results).collect();
    process_batch(batch, async |record| by_record[&std::ptr::from_ref(record)].clone()).await
}
