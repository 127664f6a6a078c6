//! The rows of archives, and their JSON.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::times::Times;

pub(crate) enum Cell {
    Number(i64),
    Text(String),
    Time(Option<Timestamp>),
}

impl Cell {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn count(count: impl TryInto<i64>) -> Self {
        Self::Number(count.try_into().unwrap_or(i64::MAX))
    }
}

pub(crate) struct Row {
    entity: &'static str,
    primary_key: i64,
    cells: Vec<(&'static str, Cell)>,
}

impl Row {
    pub(crate) fn new(entity: &'static str, primary_key: i64) -> Self {
        Self { entity, primary_key, cells: Vec::new() }
    }

    pub(crate) fn with(mut self, column: &'static str, cell: Cell) -> Self {
        self.cells.push((column, cell));
        self
    }

    pub(crate) fn cell(&self, column: &str) -> Option<&Cell> {
        self.cells.iter().find(|(name, _)| name.eq_ignore_ascii_case(column)).map(|(_, cell)| cell)
    }

    /// Returns the columns under the names that were requested.
    pub(crate) fn view(&self, columns: &[&str], times: &Times) -> Value {
        // A primary key is text, as in the documentation's samples of the dynamic archive.
        let mut view = Map::from_iter([
            ("PrimaryKey".to_owned(), json!(self.primary_key.to_string())),
            ("EntityName".to_owned(), json!(self.entity)),
        ]);
        for column in columns {
            let value = match self.cell(column) {
                None => Value::Null,
                Some(Cell::Number(number)) => json!(number),
                Some(Cell::Text(text)) => json!(text),
                Some(Cell::Time(time)) => times.write(*time),
            };
            view.insert((*column).to_owned(), value);
        }
        Value::Object(view)
    }
}
