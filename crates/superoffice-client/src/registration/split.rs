//! The events of a registration, split over several webhooks.

use std::cmp::Reverse;

use super::CONTACT_EVENTS;
use crate::webhooks::{RESYNC_EVENT, is_contact_event};

/// SuperOffice stores the events of a webhook, joined by commas, in a column of this length.
pub const MAX_EVENTS_LENGTH: usize = 4000;
/// The room for names, each with a comma.
const ROOM: usize = MAX_EVENTS_LENGTH + 1;

/// Returns the events of each webhook, given those that each existing webhook has.
///
/// Without chosen events, every webhook keeps its events, and [`RESYNC_EVENT`] is added if it is missing.
pub(super) fn events_of_webhooks(chosen: Option<&[String]>, existing: &[Vec<&str>]) -> Vec<Vec<String>> {
    match chosen {
        Some(events) => split(complete(events), existing),
        None if existing.is_empty() => vec![CONTACT_EVENTS.map(str::to_owned).into()],
        None => with_resync(existing),
    }
}

/// Returns the events without repetitions. The registration is recognized by a contact event, so one is added if all
/// are missing.
fn complete(events: &[String]) -> Vec<&str> {
    let mut complete: Vec<&str> = Vec::new();
    for event in events {
        if !complete.iter().any(|other| other.eq_ignore_ascii_case(event)) {
            complete.push(event);
        }
    }
    if !complete.iter().any(|event| is_contact_event(event)) {
        complete.push(RESYNC_EVENT);
    }
    complete
}

fn with_resync(existing: &[Vec<&str>]) -> Vec<Vec<String>> {
    let mut webhooks = existing.to_vec();
    if !existing.iter().flatten().any(|event| event.eq_ignore_ascii_case(RESYNC_EVENT)) {
        let has_room = |events: &&mut Vec<&str>| length(events) + cost(RESYNC_EVENT) <= ROOM;
        match webhooks.iter_mut().find(has_room) {
            Some(events) => events.push(RESYNC_EVENT),
            None => webhooks.push(vec![RESYNC_EVENT]),
        }
    }
    webhooks.into_iter().map(|events| events.into_iter().map(str::to_owned).collect()).collect()
}

/// Splits events over as few webhooks as possible. The first webhook has the contact events and the private events. Any
/// other event stays in its webhook, if that needs no further webhook.
fn split(events: Vec<&str>, existing: &[Vec<&str>]) -> Vec<Vec<String>> {
    let fewest = length(&events).div_ceil(ROOM).max(1);
    let places = (fewest..).find_map(|count| {
        let none: &[Vec<&str>] = &[];
        let attempts = [(existing, false), (existing, true), (none, true)];
        attempts.into_iter().find_map(|(existing, long_first)| place(&events, existing, count, long_first))
    });
    let mut webhooks: Vec<Vec<String>> = Vec::new();
    for (event, place) in events.into_iter().zip(places.unwrap_or_default()) {
        if webhooks.len() <= place {
            webhooks.resize(place + 1, Vec::new());
        }
        webhooks[place].push(event.to_owned());
    }
    webhooks.retain(|events| !events.is_empty());
    webhooks
}

/// Returns the webhook of each event, by its position: the first webhook, or the one that has it, or the first with
/// room for it. With `long_first`, less room remains unused. `None` if `count` webhooks have too little room.
fn place(events: &[&str], existing: &[Vec<&str>], count: usize, long_first: bool) -> Option<Vec<usize>> {
    let has = |webhook: &Vec<&str>, event: &str| webhook.iter().any(|name| name.eq_ignore_ascii_case(event));
    let is_first = |event: &str| is_contact_event(event) || event.ends_with(".resync");
    let current = |event: &str| match is_first(event) {
        true => Some(0),
        false => existing.iter().position(|webhook| has(webhook, event)),
    };
    let mut used = vec![0; count];
    let mut places = vec![None; events.len()];
    let mut order: Vec<usize> = (0..events.len()).collect();
    order.sort_by_key(|&index| {
        let length = if long_first { events[index].len() } else { 0 };
        (!is_first(events[index]), Reverse(length))
    });
    for stays in [true, false] {
        for &index in &order {
            let event = events[index];
            let fits = |place: &usize| used.get(*place).is_some_and(|used| *used == 0 || used + cost(event) <= ROOM);
            let place = match places[index] {
                Some(_) => continue,
                None if stays => current(event).filter(fits),
                None => (0..count).find(fits),
            };
            if let Some(place) = place {
                used[place] += cost(event);
                places[index] = Some(place);
            }
        }
    }
    places.into_iter().collect()
}

/// Returns the room that events need.
fn length(events: &[&str]) -> usize {
    events.iter().map(|event| cost(event)).sum()
}

/// Returns the room that an event needs.
fn cost(event: &str) -> usize {
    event.chars().count() + 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The length of the column's content.
    fn stored(events: &[String]) -> usize {
        events.join(",").chars().count()
    }

    fn lists(count: usize) -> Vec<String> {
        (100..100 + count).map(|list| format!("list.{list}.softdeleted")).collect()
    }

    fn names(webhooks: &[Vec<String>]) -> Vec<Vec<&str>> {
        webhooks.iter().map(|events| events.iter().map(String::as_str).collect()).collect()
    }

    #[test]
    fn webhook_keeps_its_events_and_receives_resync_events() {
        assert_eq!(events_of_webhooks(None, &[]), [CONTACT_EVENTS]);
        let existing = vec!["sale.changed", "Contact.Changed"];
        assert_eq!(
            events_of_webhooks(None, std::slice::from_ref(&existing)),
            [["sale.changed", "Contact.Changed", "contact.resync"]]
        );
        let chosen = ["contact.deleted".to_owned()];
        assert_eq!(events_of_webhooks(Some(&chosen), std::slice::from_ref(&existing)), [["contact.deleted"]]);
        assert_eq!(events_of_webhooks(Some(&chosen), &[]), [["contact.deleted"]]);
        // By hand, the events were split in another way, and the first webhook is full.
        let full = [lists(190)];
        let existing = [names(&full).remove(0), vec!["sale.changed"]];
        let events = events_of_webhooks(None, &existing);
        assert_eq!((events[0].len(), &events[1]), (190, &vec!["sale.changed".to_owned(), "contact.resync".to_owned()]));
        assert_eq!(events_of_webhooks(None, &existing[..1])[1], ["contact.resync"]);
    }

    #[test]
    fn chosen_events_have_a_contact_event_and_no_repetition() {
        let chosen = ["sale.sold", "Sale.Sold", "sale.lost"].map(str::to_owned);
        assert_eq!(events_of_webhooks(Some(&chosen), &[]), [["sale.sold", "sale.lost", "contact.resync"]]);
    }

    #[test]
    fn events_fill_each_webhook_up_to_the_limit() {
        // 20 characters and a comma each: 190 names and a longer one fill the column.
        let mut events = lists(188);
        events.extend(["contact.changed".to_owned(), "y_".to_owned() + &"e".repeat(4000 - 188 * 21 - 16 - 2)]);
        let webhooks = split(complete(&events), &[]);
        assert_eq!(webhooks.iter().map(|events| stored(events)).collect::<Vec<_>>(), [MAX_EVENTS_LENGTH]);
        events.push("a.b".into());
        let webhooks = split(complete(&events), &[]);
        assert_eq!((webhooks.len(), webhooks[0].contains(&"contact.changed".to_owned())), (2, true));
        assert_eq!(webhooks.concat().len(), events.len());
    }

    #[test]
    fn event_stays_in_its_webhook() {
        let mut events = lists(400);
        events.extend(["contact.created", "person.resync"].map(str::to_owned));
        let first = split(complete(&events), &[]);
        assert_eq!((first.len(), &first[0][189..]), (3, &events[400..]));
        assert_eq!(split(complete(&events), &names(&first)), first);
        // The others stay when events are removed and added.
        let removed = first[0][0].clone();
        events.retain(|event| *event != removed);
        events.push("sale.sold".into());
        let second = split(complete(&events), &names(&first));
        assert_eq!((second[0].last().unwrap().as_str(), second[0].contains(&removed)), ("sale.sold", false));
        assert_eq!(second[1..], first[1..]);
        // A webhook that is not needed is the last one.
        events.truncate(250);
        let third = split(complete(&events), &names(&second));
        assert_eq!(third.len(), 2);
        assert!(third[1].iter().all(|event| second[1].contains(event)));
    }

    #[test]
    fn random_changes_keep_each_event_once_in_the_fewest_webhooks() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100 {
            let mut existing: Vec<Vec<String>> = Vec::new();
            for _ in 0..4 {
                let lists: BTreeSet<u32> = (0..random.usize(1..400)).map(|_| random.u32(1..1000)).collect();
                let mut events: Vec<String> = lists.iter().map(|list| format!("list.{list}.changed")).collect();
                events.push("contact.created".into());
                random.shuffle(&mut events);
                let webhooks = split(complete(&events), &names(&existing));
                let saved: BTreeSet<&String> = webhooks.iter().flatten().collect();
                assert_eq!((saved, webhooks.concat().len()), (events.iter().collect(), events.len()));
                assert!(webhooks.iter().all(|events| stored(events) <= MAX_EVENTS_LENGTH));
                assert!(webhooks[0].contains(&"contact.created".to_owned()));
                // Less than the longest name may remain unused in each webhook.
                let total = length(&complete(&events));
                let fewest = total.div_ceil(ROOM);
                assert!(webhooks.len() == fewest || total + fewest * 17 > fewest * ROOM, "{total}");
                assert_eq!(split(complete(&events), &names(&webhooks)), webhooks);
                existing = webhooks;
            }
        }
    }

    #[test]
    fn name_that_is_too_long_has_a_webhook_of_its_own() {
        let events = ["contact.changed".to_owned(), format!("y_{}.changed", "e".repeat(4000)), "sale.sold".to_owned()];
        let lengths: Vec<_> = split(complete(&events), &[]).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 1]);
    }
}
