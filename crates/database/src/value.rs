//! What goes into a statement and comes out of a row. Both databases are used through the same
//! five types, so that a test on one says something about the other: times are microseconds,
//! truth values are 0 and 1, identifiers and JSON are text.

use cloud_types::{
    AddressGroupId, AddressScopeId, DefaultSecurityGroupRuleId, DomainId, FlavorId, HostId,
    ImageId, MacAddress, NetworkId, PortId, ProjectId, RbacPolicyId, RoleId, SecurityGroupId,
    SecurityGroupRuleId, ServerId, SubnetId, SubnetPoolId, Timestamp, UserId, WorkflowId,
};

/// A parameter of a statement, or a column of a row.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Value {
    /// SQL's NULL, of whatever type is wanted.
    #[default]
    Null,
    /// BIGINT; also truth values (0, 1) and times (microseconds since the epoch).
    Int(i64),
    /// DOUBLE PRECISION.
    Real(f64),
    /// TEXT; also identifiers and JSON. Must not hold a NUL character (PostgreSQL cannot).
    Text(String),
    /// BYTEA.
    Bytes(Vec<u8>),
}

impl Value {
    /// The word for the type, for error messages.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Null => "NULL",
            Value::Int(_) => "an integer",
            Value::Real(_) => "a real number",
            Value::Text(_) => "text",
            Value::Bytes(_) => "bytes",
        }
    }
}

/// What can be a parameter of a statement. Implement it for a type of your own by its text or
/// number; references and options follow by themselves.
pub trait ToValue {
    /// The parameter.
    fn to_value(&self) -> Value;
}

impl<T: ToValue + ?Sized> ToValue for &T {
    fn to_value(&self) -> Value {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToValue::to_value)
    }
}

impl ToValue for Value {
    fn to_value(&self) -> Value {
        self.clone()
    }
}

impl ToValue for str {
    fn to_value(&self) -> Value {
        Value::Text(self.to_owned())
    }
}

impl ToValue for [u8] {
    fn to_value(&self) -> Value {
        Value::Bytes(self.to_vec())
    }
}

macro_rules! to_value {
    ($($type:ty => $convert:expr;)*) => {$(
        impl ToValue for $type {
            fn to_value(&self) -> Value {
                let convert: fn(&$type) -> Value = $convert;
                convert(self)
            }
        }
        impl From<$type> for Value {
            fn from(value: $type) -> Value { value.to_value() }
        }
        impl From<&$type> for Value {
            fn from(value: &$type) -> Value { value.to_value() }
        }
        impl From<Option<$type>> for Value {
            fn from(value: Option<$type>) -> Value { value.to_value() }
        }
        impl From<Option<&$type>> for Value {
            fn from(value: Option<&$type>) -> Value { value.to_value() }
        }
    )*};
}

to_value! {
    String => |v| Value::Text(v.clone());
    Vec<u8> => |v| Value::Bytes(v.clone());
    bool => |v| Value::Int(i64::from(*v));
    i64 => |v| Value::Int(*v);
    i32 => |v| Value::Int(i64::from(*v));
    u8 => |v| Value::Int(i64::from(*v));
    u16 => |v| Value::Int(i64::from(*v));
    u32 => |v| Value::Int(i64::from(*v));
    u64 => |v| Value::Int(i64::try_from(*v).unwrap_or(i64::MAX));
    usize => |v| Value::Int(i64::try_from(*v).unwrap_or(i64::MAX));
    f64 => |v| Value::Real(*v);
    Timestamp => |v| Value::Int(v.0);
    serde_json::Value => |v| Value::Text(v.to_string());
    uuid::Uuid => |v| Value::Text(v.hyphenated().to_string());
    std::net::IpAddr => |v| Value::Text(v.to_string());
    MacAddress => |v| Value::Text(v.to_string());
    HostId => |v| Value::Text(v.to_string());
    ServerId => |v| Value::Text(v.to_string());
    FlavorId => |v| Value::Text(v.to_string());
    ImageId => |v| Value::Text(v.to_string());
    NetworkId => |v| Value::Text(v.to_string());
    SubnetId => |v| Value::Text(v.to_string());
    PortId => |v| Value::Text(v.to_string());
    SecurityGroupId => |v| Value::Text(v.to_string());
    SecurityGroupRuleId => |v| Value::Text(v.to_string());
    DefaultSecurityGroupRuleId => |v| Value::Text(v.to_string());
    AddressGroupId => |v| Value::Text(v.to_string());
    AddressScopeId => |v| Value::Text(v.to_string());
    SubnetPoolId => |v| Value::Text(v.to_string());
    RbacPolicyId => |v| Value::Text(v.to_string());
    WorkflowId => |v| Value::Text(v.to_string());
    ProjectId => |v| Value::Text(v.to_string());
    UserId => |v| Value::Text(v.to_string());
    RoleId => |v| Value::Text(v.to_string());
    DomainId => |v| Value::Text(v.to_string());
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        Value::Text(value.to_owned())
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Value {
        value.to_value()
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Value {
        Value::Bytes(value.to_vec())
    }
}

/// The parameters of a statement, in order: `&params![id, name, Some(3), now]`. Takes anything
/// that is [`ToValue`] by reference, so nothing is moved.
#[macro_export]
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        [$($crate::ToValue::to_value(&$value)),*] as [$crate::Value; <[()]>::len(&[$($crate::params!(@unit $value)),*])]
    };
    (@unit $value:expr) => { () };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_take_what_services_have() {
        let name = String::from("web");
        let id = ServerId::random();
        let nothing: Option<&str> = None;
        let list = params![name, &name, "x", id, &id, Some(&id), nothing, true, 7u64, Timestamp(5)];
        assert_eq!(list[0], list[1]);
        assert_eq!(list[3], Value::Text(id.to_string()));
        assert_eq!(list[5], list[3]);
        assert_eq!(list[6], Value::Null);
        assert_eq!(list[7], Value::Int(1));
        assert_eq!(list[9], Value::Int(5));
        let empty: &[Value] = &params![];
        assert!(empty.is_empty());
    }
}
