//! The WHERE clause of a list, put together from filters. Column names come from the code; what a
//! caller gave becomes a parameter.

use database::{ToValue, Value};
use service_kit::{Filters, PageRequest};

/// Conditions joined by AND, with their parameters.
#[derive(Default)]
pub(crate) struct Where {
    conditions: Vec<String>,
    params: Vec<Value>,
}

impl Where {
    /// `column = value`.
    pub fn equal(&mut self, column: &'static str, value: impl ToValue) {
        self.params.push(value.to_value());
        self.conditions.push(format!("{column} = ${}", self.params.len()));
    }

    /// A condition with one parameter, written `{}` in it.
    pub fn with(&mut self, condition: &'static str, value: impl ToValue) {
        self.params.push(value.to_value());
        let place = format!("${}", self.params.len());
        self.conditions.push(condition.replace("{}", &place));
    }

    /// A condition without a parameter.
    pub fn always(&mut self, condition: &'static str) {
        self.conditions.push(condition.to_owned());
    }

    /// The clause, from ` WHERE` on; empty without conditions.
    pub fn clause(self) -> (String, Vec<Value>) {
        if self.conditions.is_empty() {
            return (String::new(), self.params);
        }
        (format!(" WHERE {}", self.conditions.join(" AND ")), self.params)
    }

    /// Upstream's comparisons of a text: `name`, `name__contains`, `name__startswith` and
    /// `name__endswith`, and the same ignoring case.
    pub fn text(&mut self, column: &'static str, key: &str, filters: &Filters) {
        if let Some(value) = filters.get(key) {
            self.equal(column, value);
        }
        for (ending, before, after) in
            [("contains", "%", "%"), ("startswith", "", "%"), ("endswith", "%", "")]
        {
            for (prefix, lower) in [("", false), ("i", true)] {
                if let Some(value) = filters.get(&format!("{key}__{prefix}{ending}")) {
                    let escaped = value.replace('!', "!!").replace('%', "!%").replace('_', "!_");
                    let pattern = format!("{before}{escaped}{after}");
                    let pattern = if lower { pattern.to_lowercase() } else { pattern };
                    self.params.push(pattern.to_value());
                    let place = self.params.len();
                    self.conditions.push(if lower {
                        format!("LOWER({column}) LIKE ${place} ESCAPE '!'")
                    } else {
                        format!("{column} LIKE ${place} ESCAPE '!'")
                    });
                }
            }
        }
    }

    /// The page: rows after the marker in id order, one more than asked for.
    pub fn page(mut self, column: &'static str, page: &PageRequest) -> (String, Vec<Value>) {
        if let Some(marker) = &page.marker {
            self.params.push(marker.to_value());
            self.conditions.push(format!("{column} > ${}", self.params.len()));
        }
        let (condition, mut params) = self.clause();
        params.push(page.rows_and_one().to_value());
        let place = params.len();
        (format!("{condition} ORDER BY {column} LIMIT ${place}"), params)
    }
}
