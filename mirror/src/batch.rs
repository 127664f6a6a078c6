//! A batch of messages: all events of a record cause one read, and no tenant waits for another one.

use futures_util::future::join_all;
use jiff::Timestamp;
use superoffice_consumer::rows::{RowEvents, Rows};
use superoffice_consumer::{Batch, BatchResponse};
use superoffice_webhook::Verifier;
use superoffice_webhook::webhook::entity::Archive;
use tenants::ONSITE;
use tokio::time::{Instant, timeout_at};

use crate::failure::Failure;
use crate::row::Key;
use crate::superoffice::SuperOffice;
use crate::table::Table;
use crate::telemetry::Report;
use crate::tenants::Tenants;
use crate::visit::{Evidence, Outcome, Visit};

/// The rows of a tenant in a batch, contacts first.
struct Group<'a> {
    /// The first spelling that an event has.
    tenant: &'a str,
    /// Each row with its index in the batch's rows.
    rows: Vec<(usize, &'a RowEvents)>,
}

/// The result of a row: its write and the time of it.
type Handled = Result<(Outcome, Timestamp), Failure>;

/// Handles a batch until the deadline. Events of other entities than `archives` need no work.
pub async fn handle(
    tenants: &impl Tenants,
    table: &impl Table,
    verifier: Option<&Verifier>,
    archives: &[&'static Archive],
    batch: &Batch,
    deadline: Instant,
) -> (BatchResponse, Report) {
    let rows = Rows::of(batch, verifier, archives);
    let mut report = Report { messages: batch.records.len(), ..Report::default() };
    for _ in 0..rows.undecodable() {
        report.add_reason(None, None, &Failure::Undecodable);
    }
    let groups = by_tenant(rows.rows(), archives);
    let visits = groups.iter().map(|group| mirror_tenant(tenants, table, group, deadline));
    let mut results = vec![Ok(()); rows.rows().len()];
    for (group, handled) in groups.iter().zip(join_all(visits).await) {
        let is_throttled = handled.iter().any(|result| result.as_ref().is_err_and(Failure::is_throttled));
        report.metrics.mirror_throttled += u64::from(is_throttled);
        for ((index, row), result) in group.rows.iter().zip(handled) {
            match result {
                Ok((outcome, written_at)) => report.add_row(outcome, row.oldest(), written_at),
                Err(failure) => {
                    let key = Key { archive: row.archive(), id: row.id() };
                    report.add_reason(Some(group.tenant), Some(key), &failure);
                    results[*index] = Err(failure);
                }
            }
        }
    }
    // A reason in the log has fixed words only. The consumer's own text has words of a library.
    let response = rows.respond(results, |_| Failure::Undecodable);
    report.failed_messages = response.failed_ids().count();
    (response, report)
}

/// Groups rows by their tenants. Letter case is ignored.
fn by_tenant<'a>(rows: &'a [RowEvents], archives: &[&'static Archive]) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for row in rows.iter().enumerate() {
        let tenant = row.1.tenant().unwrap_or(ONSITE);
        match groups.iter_mut().find(|group| group.tenant.eq_ignore_ascii_case(tenant)) {
            Some(group) => group.rows.push(row),
            None => groups.push(Group { tenant, rows: vec![row] }),
        }
    }
    for group in &mut groups {
        group.rows.sort_by_key(|(_, row)| archives.iter().position(|archive| *archive == row.archive()));
    }
    groups
}

/// Mirrors the rows of a tenant one after the other. Another tenant does not wait for a slow one.
async fn mirror_tenant(
    tenants: &impl Tenants,
    table: &impl Table,
    group: &Group<'_>,
    deadline: Instant,
) -> Vec<Handled> {
    let all_fail = |failure: Failure| group.rows.iter().map(|_| Err(failure.clone())).collect();
    let tenant = match timeout_at(deadline, tenants.find(group.tenant)).await {
        Ok(Ok(tenant)) => tenant,
        Ok(Err(failure)) => return all_fail(failure),
        Err(_) => return all_fail(Failure::OutOfTime),
    };
    let superoffice = &*tenant.superoffice;
    let mut handled = Vec::with_capacity(group.rows.len());
    let (mut is_refused, mut stop) = (false, None);
    for rows in group.rows.chunk_by(|(_, first), (_, second)| first.archive() == second.archive()) {
        let mut visit = Visit::new(&tenant.name, rows[0].1.archive(), superoffice, table).after(stop);
        for (_, row) in rows {
            let evidence = if row.has_deletion() { Evidence::DeletionEvent } else { Evidence::None };
            let result = if Instant::now() < deadline {
                timeout_at(deadline, visit.mirror(row.id(), evidence, None)).await
            } else {
                Ok(Err(Failure::OutOfTime))
            };
            let result = result.unwrap_or(Err(Failure::OutOfTime));
            handled.push(result.map(|outcome| (outcome, superoffice.now())));
        }
        stop = visit.stop();
        is_refused |= visit.is_refused();
    }
    if is_refused {
        // If the entry is not read again now, its credentials are refused in the next invocation, too.
        let _ = timeout_at(deadline, tenants.refused(&tenant.name)).await;
    }
    handled
}
