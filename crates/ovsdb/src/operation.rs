//! The operations of a transaction (RFC 7047 section 5.2). They are done in order, all or none.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::error::OvsdbError;
use crate::value::{Row, reference};

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Function {
    Less,
    LessOrEqual,
    Equal,
    NotEqual,
    GreaterOrEqual,
    Greater,
    Includes,
    Excludes,
}

impl Function {
    fn text(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
            Self::Includes => "includes",
            Self::Excludes => "excludes",
        }
    }
}

/// Which rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition(Value);

impl Condition {
    /// Compares a column.
    pub fn new(column: &str, function: Function, value: impl Into<Value>) -> Self {
        Self(json!([column, function.text(), value.into()]))
    }

    /// The column is equal.
    pub fn equal(column: &str, value: impl Into<Value>) -> Self {
        Self::new(column, Function::Equal, value)
    }

    /// This row.
    pub fn row(row: Uuid) -> Self {
        Self::equal("_uuid", reference(row))
    }
}

/// How a mutation changes a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names say it
pub enum Mutator {
    Add,
    Subtract,
    Insert,
    Delete,
}

/// A change of a column that depends on what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mutation(Value);

impl Mutation {
    /// Changes a column.
    pub fn new(column: &str, mutator: Mutator, value: impl Into<Value>) -> Self {
        let mutator = match mutator {
            Mutator::Add => "+=",
            Mutator::Subtract => "-=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        };
        Self(json!([column, mutator, value.into()]))
    }
}

fn conditions(list: &[Condition]) -> Value {
    list.iter().map(|c| c.0.clone()).collect()
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation(pub(crate) Value);

impl Operation {
    /// Adds a row; others of this transaction may refer to it by `name`.
    pub fn insert(table: &str, name: Option<&str>, row: Row) -> Self {
        let mut operation = json!({"op": "insert", "table": table, "row": row.0});
        if let Some(name) = name {
            operation["uuid-name"] = name.into();
        }
        Self(operation)
    }

    /// Reads columns of rows; all of them for an empty list.
    pub fn select(table: &str, which: &[Condition], columns: &[&str]) -> Self {
        let mut operation = json!({"op": "select", "table": table, "where": conditions(which)});
        if !columns.is_empty() {
            operation["columns"] = columns.iter().copied().collect();
        }
        Self(operation)
    }

    /// Sets columns of rows.
    pub fn update(table: &str, which: &[Condition], row: Row) -> Self {
        Self(json!({"op": "update", "table": table, "where": conditions(which), "row": row.0}))
    }

    /// Changes columns of rows.
    pub fn mutate(table: &str, which: &[Condition], mutations: &[Mutation]) -> Self {
        let mutations: Vec<&Value> = mutations.iter().map(|m| &m.0).collect();
        Self(
            json!({"op": "mutate", "table": table, "where": conditions(which), "mutations": mutations}),
        )
    }

    /// Removes rows.
    pub fn delete(table: &str, which: &[Condition]) -> Self {
        Self(json!({"op": "delete", "table": table, "where": conditions(which)}))
    }

    /// Fails the transaction unless the columns of the rows are these: a compare before a swap.
    pub fn expect(table: &str, which: &[Condition], columns: &[&str], rows: Vec<Row>) -> Self {
        let rows: Vec<Value> = rows.into_iter().map(|r| Value::Object(r.0)).collect();
        Self(json!({
            "op": "wait", "timeout": 0, "table": table, "where": conditions(which),
            "columns": columns, "until": "==", "rows": rows,
        }))
    }

    /// A note in the database's log.
    pub fn comment(text: &str) -> Self {
        Self(json!({"op": "comment", "comment": text}))
    }

    /// Fails the transaction.
    pub fn abort() -> Self {
        Self(json!({"op": "abort"}))
    }
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationResult(Value);

impl OperationResult {
    /// Identity of the row that an insert made.
    pub fn inserted(&self) -> Option<Uuid> {
        self.0["uuid"][1].as_str()?.parse().ok()
    }

    /// How many rows an update, mutate or delete found.
    pub fn count(&self) -> u64 {
        self.0["count"].as_u64().unwrap_or(0)
    }

    /// The rows that a select found.
    pub fn rows(&self) -> Vec<Row> {
        let rows = self.0["rows"].as_array();
        rows.into_iter()
            .flatten()
            .filter_map(Value::as_object)
            .map(|row| Row(row.clone()))
            .collect()
    }
}

/// Reads the answer to a transaction of `count` operations.
pub(crate) fn results(answer: Value, count: usize) -> Result<Vec<OperationResult>, OvsdbError> {
    let Value::Array(results) = answer else {
        return Err(OvsdbError::Protocol("the result of a transaction is not an array".into()));
    };
    for (index, result) in results.iter().enumerate() {
        if let Some(error) = result.get("error").and_then(Value::as_str) {
            let details = result.get("details").and_then(Value::as_str).unwrap_or_default();
            return Err(OvsdbError::Transaction {
                index,
                error: error.into(),
                details: details.into(),
            });
        }
    }
    if results.len() < count {
        return Err(OvsdbError::Protocol(format!(
            "{} results for {count} operations",
            results.len()
        )));
    }
    Ok(results.into_iter().take(count).map(OperationResult).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_the_answer() {
        let answer =
            json!([{"count": 1}, {"error": "constraint violation", "details": "twice"}, null]);
        let OvsdbError::Transaction { index, error, details } = results(answer, 3).unwrap_err()
        else {
            panic!()
        };
        assert_eq!((index, error.as_str(), details.as_str()), (1, "constraint violation", "twice"));
        // The commit's own failure comes one past the end.
        let answer = json!([{}, {"error": "referential integrity violation"}]);
        assert!(matches!(results(answer, 1), Err(OvsdbError::Transaction { index: 1, .. })));
        assert!(results(json!([{}]), 2).is_err());
        assert!(results(json!(null), 0).is_err());
    }

    #[test]
    fn results_are_read() {
        let id = Uuid::from_u128(9);
        let answer = json!([{"uuid": ["uuid", id.to_string()]}, {"count": 4}, {"rows": [{"name": "a"}]}, {}]);
        let results = results(answer, 4).unwrap();
        assert_eq!((results[0].inserted(), results[1].count()), (Some(id), 4));
        assert_eq!(results[2].rows()[0].text("name"), Some("a"));
        assert_eq!(
            (results[3].inserted(), results[3].count(), results[3].rows().len()),
            (None, 0, 0)
        );
    }
}
