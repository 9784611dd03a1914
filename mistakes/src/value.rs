//! Mending values of JSON.

use serde_json::{Map, Value, json};

use crate::{Filling, Step, Tree};

impl Tree for Value {
    fn filled(with: Filling<'_>) -> Self {
        match with {
            Filling::Text(text) => text.into(),
            Filling::Number(number) => number.parse::<u64>().map_or(Self::Null, Into::into),
            Filling::True => Self::Bool(true),
            Filling::List => Self::Array(Vec::new()),
            Filling::Mapping => Self::Object(Map::new()),
            Filling::Entry(key) => json!({key: ""}),
        }
    }

    fn child(&mut self, step: &Step) -> Option<&mut Self> {
        match step {
            Step::Key(key) => self.get_mut(key),
            Step::Index(index) => self.get_mut(index),
        }
    }

    fn insert(&mut self, key: &str, value: Self) {
        if let Self::Object(fields) = self {
            fields.insert(key.to_owned(), value);
        }
    }

    fn remove(&mut self, key: &str) -> bool {
        match self {
            Self::Object(fields) => fields.remove(key).is_some(),
            _ => false,
        }
    }
}
