//! The unknowns of SuperOffice's API: one place for everything that may differ between servers.

/// The generation of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 12.1: counters and the last error are properties of the webhook.
    Current,
    /// 11.1: counters are in an archive, and the last error has a call of its own.
    WithoutCounters,
    /// 9: as before, without `PATCH` and without `FieldValues` in deliveries.
    WithoutPatch,
}

/// The effect of the header `SO-TimeZone`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zones {
    /// Times are read and written in the zone, and have an offset if `includeTZOffset` asks for it.
    Honored,
    /// Times are in the server's base zone, without an offset.
    Ignored,
    /// As `Honored`, but a request with `includeTZOffset` is refused.
    OffsetsRefused,
}

/// The form of a webhook's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum States {
    /// Text, in answers and in the tests of a JSON Patch.
    Names,
    /// Text in answers, and a number in the tests of a JSON Patch.
    TestedAsNumbers,
    /// A number everywhere.
    Numbers,
}

/// The response to a signal without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmptyBody {
    /// 400.
    BadRequest,
    /// 415.
    UnsupportedMediaType,
}

/// The behavior of a server where the documentation is silent, contradicts itself, or differs between versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// The generation of the server.
    pub version: Version,
    /// The effect of the header `SO-TimeZone`.
    pub zones: Zones,
    /// The offset of the server's base zone from UTC, in hours.
    pub base_zone: i8,
    /// The form of a webhook's state.
    pub states: States,
    /// Webhooks are returned with an empty secret.
    pub hides_secrets: bool,
    /// The response to a signal without a body.
    pub empty_body: EmptyBody,
}

impl Default for Mode {
    fn default() -> Self {
        Self::DOCUMENTED
    }
}

impl Mode {
    /// The most likely reading of the documentation, one hour east of UTC.
    pub const DOCUMENTED: Self = Self {
        version: Version::Current,
        zones: Zones::Honored,
        base_zone: 1,
        states: States::Names,
        hides_secrets: false,
        empty_body: EmptyBody::BadRequest,
    };

    /// Every mode that programs are tested with, and its name.
    pub const ALL: [(&'static str, Self); 11] = {
        let documented = Self::DOCUMENTED;
        [
            ("documented", documented),
            ("zone ignored, east of UTC", Self { zones: Zones::Ignored, base_zone: 2, ..documented }),
            ("zone ignored, west of UTC", Self { zones: Zones::Ignored, base_zone: -5, ..documented }),
            ("offsets refused", Self { zones: Zones::OffsetsRefused, ..documented }),
            ("secret hidden", Self { hides_secrets: true, ..documented }),
            ("states tested as numbers", Self { states: States::TestedAsNumbers, ..documented }),
            ("states as numbers", Self { states: States::Numbers, ..documented }),
            ("no counters", Self { version: Version::WithoutCounters, ..documented }),
            ("no PATCH", Self { version: Version::WithoutPatch, ..documented }),
            ("no PATCH, secret hidden", Self { version: Version::WithoutPatch, hides_secrets: true, ..documented }),
            ("empty body refused with 415", Self { empty_body: EmptyBody::UnsupportedMediaType, ..documented }),
        ]
    };
}
