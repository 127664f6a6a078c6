//! The assumptions about SuperOffice that the project depends on, and what a run found out about each.

use std::collections::BTreeMap;

macro_rules! assumptions {
    ($($variant:ident $name:literal $meaning:literal,)*) => {
        /// An assumption about SuperOffice.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Assumption {
            $($variant,)*
        }

        impl Assumption {
            /// All assumptions, in the order of the report.
            pub(super) const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Returns the name, for programs and the documentation.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the assumption as a sentence.
            pub(super) fn meaning(self) -> &'static str {
                match self {
                    $(Self::$variant => $meaning,)*
                }
            }
        }
    };
}

assumptions! {
    Clock "clock" "responses have the time of SuperOffice's clock",
    WrongSecretRefused "wrong-secret-refused" "a webhook is not saved if its URL rejects the signed test",
    Created "webhook-created" "a webhook is saved if its URL accepts the signed test",
    SavedAsSent "webhook-saved" "a webhook is listed with the name, URL and events that were sent",
    SecretReturned "secret-returned" "a webhook is listed with its secret",
    StateText "state-text" "the state of a webhook is text",
    TestCall "test" "SuperOffice tests a webhook on request",
    Usage "usage" "the archive Webhook has the counters and the last event of a webhook",
    JsonPatch "json-patch" "a webhook can be changed by JSON Patch",
    StateCompared "state-compared" "a JSON Patch compares states as text",
    EventCreated "event-created" "a new contact raises contact.created",
    EventChanged "event-changed" "a changed contact raises contact.changed",
    EventSoftDeleted "event-softdeleted" "a deleted contact raises contact.softdeleted",
    EventMergedSource "event-merge-source" "a merge raises contact.deleted of the contact that no longer exists",
    EventMergedDestination "event-merge-destination" "a merge raises contact.changed of the remaining contact",
    EventResync "event-resync" "a signaled contact.resync arrives",
    EventResyncGone "event-resync-gone" "a contact.resync that is signaled for a contact that no longer exists arrives",
    EventState "event-state" "a stopped webhook raises a signed webhook.stopped",
    EventTenant "event-tenant" "events name the tenant",
    EventTime "event-time" "events have the time at which they were raised, in UTC",
    Offsets "offsets" "times in lists have an offset from UTC",
    ListCreated "list-created" "the list of created contacts has a new contact",
    ListChanged "list-changed" "the list of changed contacts has a changed contact",
    ListSoftDeleted "list-softdeleted" "the archive RecycleContact has a deleted contact",
    ListMerged "list-merged" "the table mergemovelog has both contacts of a merge",
    ListOrder "list-order" "lists are in the order of the key, and begin after the key that is asked for",
    ListWithoutDeleted "list-without-deleted" "the list of all contacts lacks deleted contacts",
    Comparable "comparable" "the time of an event is not before the time of its change in the lists",
    Read "read" "a contact is read with its ContactId",
    ReadDeleted "read-deleted" "a deleted contact is read as deleted",
    ReadMerged "read-merged" "a contact that was merged into another one is not read under its own id",
    ReadAfterEvent "read-after-event" "an answer contains every change whose event was sent",
    Unregistered "webhook-deleted" "a deleted webhook is no longer listed",
}

/// The answer to an assumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Yes,
    No,
    CouldNotTell,
}

impl Answer {
    pub(super) fn yes_if(is_yes: bool) -> Self {
        if is_yes { Self::Yes } else { Self::No }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::CouldNotTell => "could not tell",
        }
    }
}

/// An answer with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) assumption: Assumption,
    pub(super) answer: Answer,
    pub(super) evidence: String,
}

/// The answers so far.
#[derive(Default)]
pub(super) struct Findings(BTreeMap<Assumption, (Answer, String)>);

impl Findings {
    pub(super) fn set(&mut self, assumption: Assumption, answer: Answer, evidence: impl Into<String>) {
        self.0.insert(assumption, (answer, evidence.into()));
    }

    /// Answers several assumptions with "could not tell", for one reason.
    pub(super) fn unknown(&mut self, assumptions: &[Assumption], reason: &str) {
        for assumption in assumptions {
            self.set(*assumption, Answer::CouldNotTell, reason);
        }
    }

    pub(super) fn is_yes(&self, assumption: Assumption) -> bool {
        self.0.get(&assumption).is_some_and(|(answer, _)| *answer == Answer::Yes)
    }

    /// Returns an answer for every assumption.
    pub(super) fn all(mut self) -> Vec<Finding> {
        let finding = |assumption: &Assumption| {
            let unanswered = || (Answer::CouldNotTell, "the run ended before".to_owned());
            let (answer, evidence) = self.0.remove(assumption).unwrap_or_else(unanswered);
            Finding { assumption: *assumption, answer, evidence }
        };
        Assumption::ALL.iter().map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Assumption;

    #[test]
    fn documentation_has_the_effect_of_each_assumption() {
        let documentation = include_str!("../../../../docs/administration.md");
        let table: String = documentation.lines().filter(|line| line.starts_with("| `")).collect();
        for assumption in Assumption::ALL {
            assert!(table.contains(&format!("`{}`", assumption.name())), "{}", assumption.name());
        }
    }
}
