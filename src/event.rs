//! The event in a signed body: the few fields that decide what happens to it.
//!
//! SuperOffice adds fields and columns over time, and writes numbers as strings now and then, so nothing but the
//! fields that are needed can keep an event back, whatever the type of the others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::signature::VerifiedBody;

/// What identifies an event. Every field but the first two can be missing; one that is `null`, empty or of an
/// unexpected type is as good as missing. Where a field is given twice, the last one counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventHead {
    /// The event's name, `contact.changed`.
    pub event: String,
    /// The event's id, a GUID; the same in every attempt to deliver it.
    pub event_id: String,
    /// The kind of row, `contact`.
    pub entity: Option<String>,
    /// The row's id, the contact id of a contact.
    pub primary_key: Option<i64>,
    /// The customer in SuperOffice Online, `Cust1234`; on-site installations have none.
    pub context_identifier: Option<String>,
    /// The name that the customer gave to the webhook.
    pub webhook_name: Option<String>,
    /// When the event occurred, as SuperOffice wrote it.
    pub timestamp: Option<String>,
    /// Whether `ContextIdentifier` stands there more than once: readers disagree on which of them counts.
    pub(crate) context_identifier_repeated: bool,
}

/// Why a signed body is not understood. The text says nothing of what the body holds.
#[derive(Debug, thiserror::Error)]
pub enum NotUnderstood {
    /// The body is not UTF-8.
    #[error("not UTF-8: invalid byte at offset {0}")]
    NotUtf8(usize),
    /// The body is not JSON; where, and what was expected there.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// The body is JSON, but not an object.
    #[error("not a JSON object")]
    NotAnObject,
    /// There is no usable `Event`.
    #[error("no usable Event")]
    NoEvent,
    /// There is no usable `EventId`.
    #[error("no usable EventId")]
    NoEventId,
    /// The event is to be forwarded, and there is no integer `PrimaryKey`.
    #[error("no usable PrimaryKey")]
    NoPrimaryKey,
}

/// A verified body that is understood, and its head.
#[derive(Clone, Debug)]
pub struct Event {
    head: EventHead,
    body: VerifiedBody,
}

impl Event {
    /// Reads a verified body.
    ///
    /// # Errors
    ///
    /// [`NotUnderstood`], and the body again, when it is not a JSON object, or has no usable `Event` or, but for the
    /// registration probe, no usable `EventId`.
    pub fn parse(body: VerifiedBody) -> Result<Self, (NotUnderstood, VerifiedBody)> {
        match EventHead::parse_signed(body.bytes()) {
            Ok(head) => Ok(Self { head, body }),
            Err(reason) => Err((reason, body)),
        }
    }

    /// What identifies the event.
    pub fn head(&self) -> &EventHead {
        &self.head
    }

    /// The verified body.
    pub fn body(&self) -> &VerifiedBody {
        &self.body
    }

    /// The verified body, given away.
    pub fn into_body(self) -> VerifiedBody {
        self.body
    }

    /// The body's text, as it was received.
    pub fn into_text(self) -> String {
        #[expect(clippy::expect_used, reason = "only UTF-8 is parsed")]
        String::from_utf8(self.body.into_bytes()).expect("only UTF-8 is parsed")
    }
}

impl EventHead {
    /// Reads the head of a body that a secret has signed, while it is still open whose secret that is.
    pub(crate) fn parse_signed(body: &[u8]) -> Result<Self, NotUnderstood> {
        let text = std::str::from_utf8(body).map_err(|e| NotUnderstood::NotUtf8(e.valid_up_to()))?;
        let head: Self = serde_json::from_str(text).map_err(|e| match e.classify() {
            // The text of such an error quotes the value.
            serde_json::error::Category::Data => NotUnderstood::NotAnObject,
            _ => NotUnderstood::NotJson(e),
        })?;
        if head.event.trim().is_empty() {
            return Err(NotUnderstood::NoEvent);
        }
        if head.event_id.trim().is_empty() && !head.is_test() {
            return Err(NotUnderstood::NoEventId);
        }
        Ok(head)
    }

    /// The kind of row: the body's `Entity`, or the event's name up to its last dot.
    pub fn entity(&self) -> &str {
        match &self.entity {
            Some(entity) => entity,
            None => self.event.rsplit_once('.').map_or(self.event.as_str(), |(entity, _)| entity),
        }
    }

    /// Whether this is the probe that SuperOffice sends when a webhook is saved.
    pub fn is_test(&self) -> bool {
        self.event.eq_ignore_ascii_case("test")
    }

    /// Whether SuperOffice says here that it has switched the webhook off: `webhook.errors`, or with the webhook's
    /// number, `webhook7.errors`.
    pub fn says_webhook_disabled(&self) -> bool {
        let event = self.event.to_ascii_lowercase();
        event
            .strip_prefix("webhook")
            .and_then(|rest| rest.strip_suffix(".errors"))
            .is_some_and(|id| id.bytes().all(|b| b.is_ascii_digit()))
    }
}

impl<'de> Deserialize<'de> for EventHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadVisitor)
    }
}

/// Picks the known fields and passes over the rest. A derived `Deserialize` would refuse a field of an unexpected
/// type, or one that is given twice.
struct HeadVisitor;

impl<'de> Visitor<'de> for HeadVisitor {
    type Value = EventHead;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventHead, A::Error> {
        let mut head = EventHead::default();
        let mut context_identifiers = 0;
        while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
            match key.as_ref() {
                b"Event" => head.event = text(value).unwrap_or_default(),
                b"EventId" => head.event_id = text(value).unwrap_or_default(),
                b"Entity" => head.entity = text(value),
                b"PrimaryKey" => head.primary_key = value.get().parse().ok(),
                b"ContextIdentifier" => {
                    context_identifiers += 1;
                    head.context_identifier = text(value);
                }
                b"WebhookName" => head.webhook_name = text(value),
                b"Timestamp" => head.timestamp = text(value),
                _ => {}
            }
        }
        head.context_identifier_repeated = context_identifiers > 1;
        Ok(head)
    }
}

/// A field's name. As bytes, because a `str` would refuse the whole body for a lone surrogate in a name.
struct Key<'de>(Cow<'de, [u8]>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }

            fn visit_borrowed_bytes<E>(self, name: &'de [u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(name)))
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(name.to_vec())))
            }
        }
        deserializer.deserialize_bytes(KeyVisitor)
    }
}

/// A JSON string that is not empty.
fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(value.get()).ok().filter(|text| !text.is_empty())
}
