//! The WHERE clause of a list, put together from filters. Column names come from the code; what a
//! caller gave becomes a parameter.

use cloud_types::{Fault, Timestamp};
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

    /// A condition with a list of parameters, written `{}` in it; an empty list finds nothing.
    pub fn within(&mut self, condition: &'static str, values: &[String]) {
        let places: Vec<String> = values
            .iter()
            .map(|value| {
                self.params.push(value.to_value());
                format!("${}", self.params.len())
            })
            .collect();
        let list = if places.is_empty() { "NULL".to_owned() } else { places.join(", ") };
        self.conditions.push(condition.replace("{}", &list));
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
                    let pattern = format!("{before}{}{after}", escaped(value));
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

    /// Upstream's filters of tags: `tags` (all of these), `tags-any`, `not-tags` (not all of them)
    /// and `not-tags-any` (none of them). The column holds a JSON list of texts.
    pub fn tags(&mut self, column: &'static str, filters: &Filters) {
        for (key, join, negate) in [
            ("tags", " AND ", false),
            ("tags-any", " OR ", false),
            ("not-tags", " AND ", true),
            ("not-tags-any", " OR ", true),
        ] {
            let Some(list) = filters.get(key).filter(|list| !list.is_empty()) else {
                continue;
            };
            let mut each = Vec::new();
            for tag in list.split(',') {
                self.params.push(format!("%{}%", escaped(&quoted(tag))).to_value());
                each.push(format!("{column} LIKE ${} ESCAPE '!'", self.params.len()));
            }
            let all = each.join(join);
            self.conditions.push(if negate { format!("NOT ({all})") } else { format!("({all})") });
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

/// A text in which LIKE finds only itself.
fn escaped(text: &str) -> String {
    text.replace('!', "!!").replace('%', "!%").replace('_', "!_")
}

/// A text as it stands in a JSON list.
fn quoted(text: &str) -> String {
    serde_json::Value::String(text.to_owned()).to_string()
}

/// Upstream's `password_expires_at=OPERATOR:TIME`. Users whose password never ends match none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExpiryFilter {
    /// With `{}` in the place of the time.
    pub condition: &'static str,
    pub time: Timestamp,
}

impl ExpiryFilter {
    /// Reads it; without an operator the times have to be equal.
    ///
    /// # Errors
    /// 400 for an operator or a time that is none.
    pub fn read(filters: &Filters) -> Result<Option<ExpiryFilter>, Fault> {
        let Some(text) = filters.get("password_expires_at") else {
            return Ok(None);
        };
        let (operator, time) = match text.split_once(':') {
            Some((operator, time)) if (2..=3).contains(&operator.len()) => (operator, time),
            _ => ("eq", text),
        };
        let condition = match operator {
            "lt" => "password_expires_at < {}",
            "lte" => "password_expires_at <= {}",
            "gt" => "password_expires_at > {}",
            "gte" => "password_expires_at >= {}",
            "eq" => "password_expires_at = {}",
            "neq" => "password_expires_at <> {}",
            other => {
                return Err(Fault::bad_request(format!(
                    "Invalid value for query parameter password_expires_at: The given operator \
                     {other} is not valid. It must be one of the following: 'eq', 'neq', 'lt', \
                     'lte', 'gt', or 'gte'."
                )));
            }
        };
        let time = Timestamp::parse(time).ok_or_else(|| {
            Fault::bad_request(
                "Invalid value for query parameter password_expires_at: Timestamp not in expected \
                 format. The server could not comply with the request since it is either malformed \
                 or otherwise incorrect. The client is assumed to be in error.",
            )
        })?;
        Ok(Some(ExpiryFilter { condition, time }))
    }

    /// The same judged here, for lists that are short anyway.
    pub fn matches(&self, expires_at: Option<Timestamp>) -> bool {
        let Some(at) = expires_at else { return false };
        match self.condition.split(' ').nth(1) {
            Some("<") => at < self.time,
            Some("<=") => at <= self.time,
            Some(">") => at > self.time,
            Some(">=") => at >= self.time,
            Some("<>") => at != self.time,
            _ => at == self.time,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_is_compared_by_six_operators() {
        let read = |text: &str| {
            ExpiryFilter::read(&Filters(vec![("password_expires_at".into(), text.into())]))
        };
        let at = |seconds| Some(Timestamp(1_700_000_000_000_000 + seconds * 1_000_000));
        for (operator, matching) in [
            ("lt:", [true, false, false]),
            ("lte:", [true, true, false]),
            ("gt:", [false, false, true]),
            ("gte:", [false, true, true]),
            ("eq:", [false, true, false]),
            ("", [false, true, false]),
            ("neq:", [true, false, true]),
        ] {
            let filter = read(&format!("{operator}2023-11-14T22:13:20Z")).unwrap().unwrap();
            assert_eq!(
                [-1i64, 0, 1].map(|offset: i64| filter.matches(at(offset))),
                matching,
                "{operator}"
            );
            assert!(!filter.matches(None));
        }
        for bad in ["xx:2023-11-14T22:13:20Z", "lt:yesterday", "", "lt:", "2023"] {
            assert_eq!(read(bad).unwrap_err().status(), 400, "{bad}");
        }
        assert_eq!(ExpiryFilter::read(&Filters::default()), Ok(None));
    }
}
