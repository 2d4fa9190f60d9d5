//! Rows, read by column name.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use cloud_types::Timestamp;
use serde::de::DeserializeOwned;

use crate::{DatabaseError, Value};

/// What the rows of one statement have in common.
#[derive(Debug)]
pub(crate) struct Header {
    /// Column names, in order.
    pub columns: Vec<String>,
    /// The statement, for messages.
    pub sql: String,
}

/// One row of an answer. Each accessor names a column of the statement; a column that is missing
/// or of another type is [`DatabaseError::Decode`].
#[derive(Clone, Debug)]
pub struct Row {
    header: Arc<Header>,
    values: Vec<Value>,
}

macro_rules! integers {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, column: &str) -> Result<$type, DatabaseError> {
            let number = self.int(column)?;
            <$type>::try_from(number)
                .map_err(|_| self.wrong(column, format!("{number} is out of range")))
        }
    )*};
}

impl Row {
    pub(crate) fn new(header: Arc<Header>, values: Vec<Value>) -> Self {
        Row { header, values }
    }

    /// The column as it came.
    pub fn value(&self, column: &str) -> Result<&Value, DatabaseError> {
        self.header
            .columns
            .iter()
            .position(|name| name == column)
            .and_then(|index| self.values.get(index))
            .ok_or_else(|| self.wrong(column, "the statement returns no such column"))
    }

    /// Text that is not NULL.
    pub fn text(&self, column: &str) -> Result<String, DatabaseError> {
        self.opt_text(column)?.ok_or_else(|| self.null(column))
    }

    /// Text, or `None` for NULL.
    pub fn opt_text(&self, column: &str) -> Result<Option<String>, DatabaseError> {
        Ok(self.opt_str(column)?.map(str::to_owned))
    }

    /// Text without a copy, or `None` for NULL.
    pub fn opt_str(&self, column: &str) -> Result<Option<&str>, DatabaseError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Text(text) => Ok(Some(text)),
            other => Err(self.wrong(column, format!("{} instead of text", other.type_name()))),
        }
    }

    /// An integer that is not NULL.
    pub fn int(&self, column: &str) -> Result<i64, DatabaseError> {
        self.opt_int(column)?.ok_or_else(|| self.null(column))
    }

    /// An integer, or `None` for NULL.
    pub fn opt_int(&self, column: &str) -> Result<Option<i64>, DatabaseError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Int(number) => Ok(Some(*number)),
            other => {
                Err(self.wrong(column, format!("{} instead of an integer", other.type_name())))
            }
        }
    }

    integers! {
        /// A non-negative integer: generations, epochs, sizes.
        u64: u64;
        /// A non-negative integer of 32 bits.
        u32: u32;
        /// A non-negative integer of 16 bits.
        u16: u16;
    }

    /// A real number that is not NULL; an integer is taken for one.
    pub fn real(&self, column: &str) -> Result<f64, DatabaseError> {
        match self.value(column)? {
            Value::Real(number) => Ok(*number),
            #[allow(clippy::cast_precision_loss)]
            Value::Int(number) => Ok(*number as f64),
            other => Err(self.wrong(column, format!("{} instead of a number", other.type_name()))),
        }
    }

    /// A truth value: 0 is false, 1 is true.
    pub fn bool(&self, column: &str) -> Result<bool, DatabaseError> {
        match self.int(column)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.wrong(column, format!("{other} instead of 0 or 1"))),
        }
    }

    /// Bytes that are not NULL.
    pub fn bytes(&self, column: &str) -> Result<Vec<u8>, DatabaseError> {
        self.opt_bytes(column)?.ok_or_else(|| self.null(column))
    }

    /// Bytes, or `None` for NULL.
    pub fn opt_bytes(&self, column: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
        match self.value(column)? {
            Value::Null => Ok(None),
            Value::Bytes(bytes) => Ok(Some(bytes.clone())),
            other => Err(self.wrong(column, format!("{} instead of bytes", other.type_name()))),
        }
    }

    /// A moment that is not NULL.
    pub fn timestamp(&self, column: &str) -> Result<Timestamp, DatabaseError> {
        self.int(column).map(Timestamp)
    }

    /// A moment, or `None` for NULL.
    pub fn opt_timestamp(&self, column: &str) -> Result<Option<Timestamp>, DatabaseError> {
        Ok(self.opt_int(column)?.map(Timestamp))
    }

    /// JSON stored as text, read as `T`.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, DatabaseError> {
        self.opt_json(column)?.ok_or_else(|| self.null(column))
    }

    /// JSON stored as text, or `None` for NULL.
    pub fn opt_json<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, DatabaseError> {
        self.opt_str(column)?
            .map(|text| {
                serde_json::from_str(text).map_err(|error| self.wrong(column, error.to_string()))
            })
            .transpose()
    }

    /// Text that is not NULL, read by `FromStr`: identifiers, addresses, states.
    pub fn parse<T>(&self, column: &str) -> Result<T, DatabaseError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.opt_parse(column)?.ok_or_else(|| self.null(column))
    }

    /// Text read by `FromStr`, or `None` for NULL.
    pub fn opt_parse<T>(&self, column: &str) -> Result<Option<T>, DatabaseError>
    where
        T: FromStr,
        T::Err: Display,
    {
        self.opt_str(column)?
            .map(|text| text.parse().map_err(|error: T::Err| self.wrong(column, error.to_string())))
            .transpose()
    }

    fn null(&self, column: &str) -> DatabaseError {
        self.wrong(column, "NULL where a value was expected")
    }

    fn wrong(&self, column: &str, reason: impl Into<String>) -> DatabaseError {
        DatabaseError::decode(&self.header.sql, column, reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        let header = Header {
            columns: ["id", "n", "flag", "doc", "nothing"].map(str::to_owned).into(),
            sql: "SELECT * FROM things".to_owned(),
        };
        let values = vec![
            Value::Text("default".to_owned()),
            Value::Int(-1),
            Value::Int(1),
            Value::Text("{\"a\":[1,2]}".to_owned()),
            Value::Null,
        ];
        Row::new(Arc::new(header), values)
    }

    #[test]
    fn columns_are_read_by_type() {
        let row = row();
        assert_eq!(row.parse::<cloud_types::DomainId>("id").unwrap().as_str(), "default");
        assert_eq!(row.int("n").unwrap(), -1);
        assert!(row.bool("flag").unwrap());
        assert_eq!(row.json::<serde_json::Value>("doc").unwrap()["a"][1], 2);
        assert_eq!(row.opt_text("nothing").unwrap(), None);
    }

    #[test]
    fn errors_name_table_and_column() {
        let row = row();
        for (error, expected) in [
            (
                row.text("missing").unwrap_err(),
                "column missing of things cannot be read: the statement returns no such column",
            ),
            (
                row.text("nothing").unwrap_err(),
                "column nothing of things cannot be read: NULL where a value was expected",
            ),
            (row.u64("n").unwrap_err(), "column n of things cannot be read: -1 is out of range"),
            (
                row.bytes("id").unwrap_err(),
                "column id of things cannot be read: text instead of bytes",
            ),
        ] {
            assert_eq!(error.to_string(), expected);
        }
    }
}
