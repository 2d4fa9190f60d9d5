//! Identifiers. Each kind of object has a type of its own, so that a port cannot be passed where a
//! network is wanted. Resources use dashed UUIDs; identity uses 32 hexadecimal digits (or a short
//! word such as `default`), as Keystone does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A text that is not an identifier of the kind that was wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {kind} identifier")]
pub struct ParseIdError {
    /// What was wanted.
    pub kind: &'static str,
    /// What was given, cut to 64 characters.
    pub text: String,
}

impl ParseIdError {
    fn new(kind: &'static str, text: &str) -> Self {
        ParseIdError { kind, text: text.chars().take(64).collect() }
    }
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident, $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new random identifier.
            pub fn random() -> Self { $name(Uuid::new_v4()) }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { self.0.hyphenated().fmt(f) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, ":{}"), self.0.hyphenated())
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                Uuid::parse_str(text).map($name).map_err(|_| ParseIdError::new($word, text))
            }
        }
        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self { $name(uuid) }
        }
    )*};
}

uuid_id! {
    /// A host: one machine that runs an agent.
    HostId, "host";
    /// A compute server (Nova's instance).
    ServerId, "server";
    /// A flavor's internal identity; its public id is free text.
    FlavorId, "flavor";
    /// An image.
    ImageId, "image";
    /// A tenant's network.
    NetworkId, "network";
    /// A subnet of a network.
    SubnetId, "subnet";
    /// A port on a network.
    PortId, "port";
    /// A security group.
    SecurityGroupId, "security group";
    /// A rule of a security group.
    SecurityGroupRuleId, "security group rule";
    /// A rule that new security groups begin with.
    DefaultSecurityGroupRuleId, "default security group rule";
    /// A named list of address ranges that rules refer to.
    AddressGroupId, "address group";
    /// Subnet pools whose prefixes do not overlap.
    AddressScopeId, "address scope";
    /// Prefixes from which subnets get their ranges.
    SubnetPoolId, "subnet pool";
    /// A statement that somebody else may use an object.
    RbacPolicyId, "RBAC policy";
    /// A durable workflow.
    WorkflowId, "workflow";
}

macro_rules! name_id {
    ($($(#[$doc:meta])* $name:ident, $word:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new random identifier: 32 hexadecimal digits.
            pub fn random() -> Self { $name(Uuid::new_v4().simple().to_string()) }
            /// The identifier as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, ":{}"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let fits = (1..=64).contains(&text.len())
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
                if fits { Ok($name(text.to_owned())) } else { Err(ParseIdError::new($word, text)) }
            }
        }
    )*};
}

name_id! {
    /// A project (tenant).
    ProjectId, "project";
    /// A user.
    UserId, "user";
    /// A role.
    RoleId, "role";
    /// A domain: a name space of users and projects.
    DomainId, "domain";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_refuse_what_they_are_not() {
        assert!("not-a-uuid".parse::<ServerId>().is_err());
        assert!("a/b".parse::<ProjectId>().is_err());
        assert!("".parse::<UserId>().is_err());
        assert_eq!("default".parse::<DomainId>().unwrap().as_str(), "default");
    }

    #[test]
    fn uuid_identifiers_accept_both_spellings_and_print_dashed() {
        let id: PortId = "6f1c2d3e4b5a69788796a5b4c3d2e1f0".parse().unwrap();
        assert_eq!(id.to_string(), "6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0");
    }
}
