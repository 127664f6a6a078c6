//! The names of entities and events. They select the events of a registration.

use superoffice_webhook::webhook::entity::{Archive, ENTITIES, Entity};

/// A name that is not documented.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownName {
    /// The name is no entity, and does not begin with one.
    #[error("`{0}` is neither an entity nor an event: expected {entities}, or one of their events, for example sale.sold", entities = entities())]
    Entity(String),
    /// The entity has no such event.
    #[error("`{name}` is not an event: expected {events}")]
    Event {
        /// The name.
        name: String,
        /// The events of the entity.
        events: String,
    },
}

/// Returns the events of a name, in any letter case: the event itself for `sale.sold`, and all events of the entity for
/// `sale`, `list.category` or `y_equipment`. To the events of an entity belongs its private event, `contact.resync`, if
/// lost events are recovered. An extra table or a list may have events that are not documented.
///
/// # Errors
///
/// [`UnknownName`]
///
/// ```
/// use superoffice_client::registration::events_named;
///
/// assert_eq!(events_named("sale.sold")?, ["sale.sold"]);
/// assert_eq!(events_named("ticket")?, ["ticket.created", "ticket.changed"]);
/// assert!(events_named("contact.renamed").is_err());
/// # Ok::<(), superoffice_client::registration::UnknownName>(())
/// ```
pub fn events_named(name: &str) -> Result<Vec<String>, UnknownName> {
    let name = name.trim();
    if let Some(entity) = Entity::named(name) {
        return Ok(events_of(entity, name));
    }
    let named = |(subject, ending)| Some((Entity::named(subject)?, subject, ending));
    let (entity, subject, ending) =
        name.rsplit_once('.').and_then(named).ok_or_else(|| UnknownName::Entity(name.into()))?;
    let events = events_of(entity, subject);
    if let Some(event) = events.iter().find(|event| event.eq_ignore_ascii_case(name)) {
        return Ok(vec![event.clone()]);
    }
    if entity.may_have(ending) {
        return Ok(vec![name.into()]);
    }
    Err(UnknownName::Event { name: name.into(), events: events.join(", ") })
}

/// Returns the events of an entity. `subject` is its name.
fn events_of(entity: &Entity, subject: &str) -> Vec<String> {
    let subject = if entity.name.contains('{') { subject } else { entity.name };
    let resync = entity.archive.map(Archive::resync);
    entity.endings.iter().map(|ending| format!("{subject}.{ending}")).chain(resync).collect()
}

fn entities() -> String {
    ENTITIES.each_ref().map(|entity| entity.name).join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(name: &str) -> Vec<String> {
        events_named(name).unwrap()
    }

    #[test]
    fn entity_stands_for_all_its_events() {
        assert_eq!(events("contact"), super::super::CONTACT_EVENTS);
        assert_eq!(
            events("Sale").join(" "),
            "sale.created sale.changed sale.deleted sale.sold sale.lost sale.completed"
        );
        assert_eq!(events(" person ").last().unwrap(), "person.resync");
        assert_eq!(
            events("list.category"),
            ["list.category.created", "list.category.changed", "list.category.softdeleted"]
        );
        assert_eq!(events("y_Equipment"), ["y_Equipment.created", "y_Equipment.changed", "y_Equipment.deleted"]);
        let count =
            ENTITIES.iter().filter(|entity| !entity.name.contains('{')).flat_map(|entity| events(entity.name)).count();
        assert_eq!(count, 47 + 2, "the documented events, and two private ones");
    }

    #[test]
    fn event_stands_for_itself() {
        for (name, event) in [
            ("contact.created", "contact.created"),
            ("Contact.Resync", "contact.resync"),
            ("quote.sent", "quote.sent"),
            ("list.110.changed", "list.110.changed"),
            ("list.category.archived", "list.category.archived"),
            ("y_equipment.returned", "y_equipment.returned"),
            ("webhook12.errors", "webhook12.errors"),
        ] {
            assert_eq!(events(name), [event], "{name}");
        }
    }

    #[test]
    fn unknown_name_is_refused_with_the_accepted_ones() {
        for name in [
            "",
            "contacts",
            "kontakt.created",
            "appointment",
            "list",
            "list.created",
            "y_",
            "y_.created",
            "webhook.errors",
            "*",
            "contact created",
            "y_a b",
            "list..created",
        ] {
            let error = events_named(name).unwrap_err();
            assert_eq!(error, UnknownName::Entity(name.trim().into()));
        }
        assert_eq!(
            events_named("kontakt").unwrap_err().to_string(),
            "`kontakt` is neither an entity nor an event: expected contact, person, activity, document, sale, \
             salestakeholder, project, projectmember, quote, relation, ticket, chatsession, associate, list.{list}, \
             y_{table}, webhook{id}, or one of their events, for example sale.sold"
        );
        for name in
            ["contact.renamed", "contact.*", "ticket.deleted", "sale.resync", "y_equipment.*", "webhook12.disabled"]
        {
            assert!(matches!(events_named(name), Err(UnknownName::Event { .. })), "{name}");
        }
        assert_eq!(
            events_named("ticket.deleted").unwrap_err().to_string(),
            "`ticket.deleted` is not an event: expected ticket.created, ticket.changed"
        );
    }
}
