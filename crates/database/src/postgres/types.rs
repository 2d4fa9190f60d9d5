//! Our five types on PostgreSQL's wire. The server says what type a parameter or a column has;
//! what SQLite would convert by a column's affinity is converted here too.

use std::error::Error;

use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type};

use crate::Value;

/// A parameter.
#[derive(Debug)]
pub(crate) struct Param<'a>(pub &'a Value);

impl ToSql for Param<'_> {
    fn to_sql(
        &self,
        wanted: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let wrong = || format!("{} given where the statement wants {wanted}", self.0.type_name());
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Int(number) => match *wanted {
                Type::INT8 => number.to_sql(wanted, out),
                Type::INT4 => i32::try_from(*number)?.to_sql(wanted, out),
                Type::INT2 => i16::try_from(*number)?.to_sql(wanted, out),
                Type::BOOL => (*number != 0).to_sql(wanted, out),
                #[allow(clippy::cast_precision_loss)]
                Type::FLOAT8 => (*number as f64).to_sql(wanted, out),
                ref text if is_text(text) => number.to_string().to_sql(wanted, out),
                _ => Err(wrong().into()),
            },
            Value::Real(number) => match *wanted {
                Type::FLOAT8 => number.to_sql(wanted, out),
                _ => Err(wrong().into()),
            },
            Value::Text(text) => match *wanted {
                Type::INT8 => text.parse::<i64>().map_err(|_| wrong())?.to_sql(wanted, out),
                ref kind if is_text(kind) => text.as_str().to_sql(wanted, out),
                _ => Err(wrong().into()),
            },
            Value::Bytes(bytes) => match *wanted {
                Type::BYTEA => bytes.as_slice().to_sql(wanted, out),
                _ => Err(wrong().into()),
            },
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

fn is_text(wanted: &Type) -> bool {
    matches!(*wanted, Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN)
}

/// A column.
pub(crate) struct Cell(pub Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell(match *kind {
            Type::INT8 => Value::Int(i64::from_sql(kind, raw)?),
            Type::INT4 => Value::Int(i32::from_sql(kind, raw)?.into()),
            Type::INT2 => Value::Int(i16::from_sql(kind, raw)?.into()),
            Type::OID => Value::Int(u32::from_sql(kind, raw)?.into()),
            Type::BOOL => Value::Int(bool::from_sql(kind, raw)?.into()),
            Type::FLOAT8 => Value::Real(f64::from_sql(kind, raw)?),
            Type::FLOAT4 => Value::Real(f32::from_sql(kind, raw)?.into()),
            Type::NUMERIC => numeric(raw)?,
            Type::BYTEA => Value::Bytes(raw.to_vec()),
            // The answer of a function that returns nothing.
            Type::VOID => Value::Null,
            ref text if is_text(text) => Value::Text(String::from_sql(&Type::TEXT, raw)?),
            ref other => return Err(format!("{other} columns are not used here").into()),
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Cell(Value::Null))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// What SUM of a BIGINT column returns: an integer when it is one, else a real number. The wire
/// form is a count of base-10000 digits, the weight of the first, a sign, a display scale, and
/// the digits, all 16 bits wide.
fn numeric(raw: &[u8]) -> Result<Value, Box<dyn Error + Sync + Send>> {
    let mut words = raw.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut word = || words.next().ok_or("a numeric column that ends early");
    let count = word()?;
    let weight = i32::from(i16::from_be_bytes(word()?.to_be_bytes()));
    let sign = word()?;
    let _scale = word()?;
    if sign & 0xc000 == 0xc000 {
        return Err("a numeric column that is not a number".into());
    }
    let (mut whole, mut real, mut fraction) = (0i128, 0f64, false);
    for index in 0..i32::from(count) {
        let digit = word()?;
        let power = weight - index;
        real += f64::from(digit) * 10_000f64.powi(power);
        if power < 0 {
            fraction |= digit != 0;
        } else {
            let scale = u32::try_from(power)
                .ok()
                .and_then(|power| 10_000i128.checked_pow(power))
                .ok_or("a numeric column out of range")?;
            whole = i128::from(digit)
                .checked_mul(scale)
                .and_then(|part| whole.checked_add(part))
                .ok_or("a numeric column out of range")?;
        }
    }
    let negative = sign == 0x4000;
    if fraction {
        return Ok(Value::Real(if negative { -real } else { real }));
    }
    let signed = if negative { -whole } else { whole };
    Ok(Value::Int(i64::try_from(signed).map_err(|_| "a numeric column out of range")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(words: &[u16]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    #[test]
    fn sums_are_read() {
        assert_eq!(numeric(&wire(&[0, 0, 0, 0])).unwrap(), Value::Int(0));
        assert_eq!(numeric(&wire(&[2, 1, 0, 0, 12, 3456])).unwrap(), Value::Int(123_456));
        assert_eq!(numeric(&wire(&[1, 2, 0x4000, 0, 7])).unwrap(), Value::Int(-700_000_000));
        assert_eq!(numeric(&wire(&[2, 0, 0, 2, 1, 5000])).unwrap(), Value::Real(1.5));
        assert!(numeric(&wire(&[0, 0, 0xc000, 0])).is_err(), "NaN");
        assert!(numeric(&wire(&[3, 0, 0, 0, 1])).is_err(), "cut short");
        assert!(numeric(&wire(&[1, 9, 0, 0, 1])).is_err(), "too large");
    }
}
