//! SuperOffice's response for a record, and its meaning.

use superoffice_webhook::{FieldValue, Fields};

use crate::failure::Failure;
use crate::row::Key;

/// The meaning of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// SuperOffice has the record: its JSON object without `Persons`.
    Living(String),
    /// The record's own document says that it is deleted.
    Deleted,
    /// SuperOffice says that there is no record with this id, or returns another one, as after a merge. A wrong path
    /// or a lost right looks like this, too.
    Gone,
}

/// Judges a response for a record: the JSON object, or `None` for a 404 with a JSON body.
///
/// # Errors
///
/// [`Failure::Unexpected`] if the document has no id.
pub fn judge(key: Key, document: Option<&str>) -> Result<Meaning, Failure> {
    let Some(document) = document else {
        return Ok(Meaning::Gone);
    };
    let fields = Fields::parse(document.as_bytes()).map_err(|_| Failure::Unexpected)?;
    let id = fields.get(key.archive.id).and_then(FieldValue::integer).ok_or(Failure::Unexpected)?;
    Ok(if id != key.id {
        Meaning::Gone
    } else if fields.get("Deleted").is_some_and(is_set) {
        Meaning::Deleted
    } else {
        Meaning::Living(without_persons(&fields))
    })
}

/// Returns `true` for `true` and for a number other than 0.
fn is_set(flag: &FieldValue) -> bool {
    flag.json() == "true" || flag.json().parse::<f64>().is_ok_and(|number| number != 0.0)
}

/// Writes an object again, without the persons: an erased person would stay in a company's row, because a change of a
/// person is no event of the company. A person's own document has no `Persons`. The values keep their bytes.
fn without_persons(fields: &Fields) -> String {
    let mut data = String::from("{");
    for (name, value) in fields.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("Persons")) {
        if data.len() > 1 {
            data.push(',');
        }
        data.push_str(&serde_json::Value::from(name).to_string());
        data.push(':');
        data.push_str(value.json());
    }
    data.push('}');
    data
}

#[cfg(test)]
mod tests {
    use superoffice_webhook::webhook::entity::Archive;

    use super::*;

    /// Judges a response for the contact 7.
    fn judge(document: Option<&str>) -> Result<Meaning, Failure> {
        super::judge(Key { archive: Archive::CONTACT, id: 7 }, document)
    }

    fn living(data: &str) -> Result<Meaning, Failure> {
        Ok(Meaning::Living(data.into()))
    }

    #[test]
    fn only_the_persons_are_cut_out() {
        let document = r#" { "Name" : "A \u00e9\/" , "Persons":[{"Persons":1,"ContactId":8}],"ContactId": 7,
            "Amount":1.50,"Big":12345678901234567890,"Deleted":0,"Extra":{"Persons":[ 1 ],"b" : null},"a\"b":"\ud83d\ude00" } "#;
        let data = r#"{"Name":"A \u00e9\/","ContactId":7,"Amount":1.50,"Big":12345678901234567890,"Deleted":0,"Extra":{"Persons":[ 1 ],"b" : null},"a\"b":"\ud83d\ude00"}"#;
        assert_eq!(judge(Some(document)), living(data));
        assert_eq!(judge(Some(r#"{"persons":[1],"ContactId":7,"\u0050ersons":2}"#)), living(r#"{"ContactId":7}"#));
    }

    #[test]
    fn missing_and_other_contacts_are_gone() {
        assert_eq!(judge(None), Ok(Meaning::Gone));
        assert_eq!(judge(Some(r#"{"ContactId":8,"Deleted":true}"#)), Ok(Meaning::Gone));
    }

    #[test]
    fn person_has_its_own_id() {
        let person = |document: &str| super::judge(Key { archive: Archive::PERSON, id: 7 }, Some(document));
        let document = r#"{"PersonId":7,"Contact":{"ContactId":8}}"#;
        assert_eq!(person(document), living(document));
        assert_eq!(person(r#"{"PersonId":8,"Contact":{"ContactId":7}}"#), Ok(Meaning::Gone));
        assert_eq!(person(r#"{"ContactId":7}"#), Err(Failure::Unexpected));
    }

    #[test]
    fn own_flag_says_that_a_contact_is_deleted() {
        for flag in ["true", "1", "-1", "2.5", "1e3"] {
            assert_eq!(judge(Some(&format!(r#"{{"ContactId":7,"Deleted":{flag}}}"#))), Ok(Meaning::Deleted), "{flag}");
        }
        for flag in ["false", "0", "-0.0", "null", "\"true\"", "\"1\"", "[1]"] {
            let document = format!(r#"{{"ContactId":7,"Deleted":{flag}}}"#);
            assert_eq!(judge(Some(&document)), living(&document), "{flag}");
        }
    }

    #[test]
    fn documents_without_an_id_are_unexpected() {
        for document in ["{}", "[]", "{", r#"{"ContactId":null}"#, r#"{"ContactId":"seven"}"#, r#"{"ContactId":7.5}"#] {
            assert_eq!(judge(Some(document)), Err(Failure::Unexpected), "{document}");
        }
    }
}
