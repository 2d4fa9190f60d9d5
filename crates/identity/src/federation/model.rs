//! What a federated login is made of.

use cloud_types::{DomainId, Timestamp, UserId};
use zeroize::Zeroizing;

use crate::mapping::engine::Assertion;

/// What a provider said about somebody, checked.
pub(crate) struct Word {
    /// What the mapping reads.
    pub assertion: Assertion,
    /// The person, in the provider's terms.
    pub subject: String,
    /// The provider's session, where it names one.
    pub provider_session: Option<String>,
    /// With what the provider can be asked again.
    pub keep: Keep,
    /// When what was brought ends, where it says so.
    pub ends_at: Option<Timestamp>,
}

/// With what a provider can be asked whether its word still holds. No `Debug`: these are secrets.
#[derive(Clone)]
pub(crate) enum Keep {
    /// Nothing: the tokens end with what was brought.
    Nothing,
    Refresh(Zeroizing<String>),
    Access(Zeroizing<String>, Ways),
}

/// How a provider answers about an access token: by what it did at the login. One that knows
/// nothing of a token that it signed has not taken it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ways {
    pub introspection: bool,
    pub user_info: bool,
}

/// The words for ways in the database.
const WAYS: [(&str, Ways); 3] = [
    ("access", Ways { introspection: true, user_info: true }),
    ("introspection", Ways { introspection: true, user_info: false }),
    ("user_info", Ways { introspection: false, user_info: true }),
];

impl Keep {
    /// An access token, where the provider answers about it.
    pub fn access(token: Zeroizing<String>, ways: Ways) -> Keep {
        if ways.introspection || ways.user_info { Keep::Access(token, ways) } else { Keep::Nothing }
    }

    /// The word for it in the database, and the secret.
    pub fn parts(&self) -> (&'static str, Option<&str>) {
        match self {
            Keep::Nothing => ("none", None),
            Keep::Refresh(token) => ("refresh", Some(token)),
            Keep::Access(token, ways) => {
                let word = WAYS.iter().find(|(_, known)| known == ways);
                (word.map_or("none", |(word, _)| word), Some(token))
            }
        }
    }

    /// Reads the parts back.
    pub fn from_parts(kind: &str, secret: Option<Zeroizing<String>>) -> Keep {
        let ways = WAYS.iter().find(|(word, _)| *word == kind).map(|(_, ways)| *ways);
        match (kind, ways, secret) {
            ("refresh", _, Some(token)) => Keep::Refresh(token),
            (_, Some(ways), Some(token)) => Keep::Access(token, ways),
            _ => Keep::Nothing,
        }
    }
}

impl Word {
    /// When tokens that rest on it must have ended. Who can be asked about for as long as the token
    /// lives has no such end.
    pub fn must_end(&self) -> Option<Timestamp> {
        match self.keep {
            Keep::Refresh(_) => None,
            Keep::Access(..) | Keep::Nothing => self.ends_at,
        }
    }
}

/// A login by a provider, while tokens of it may be alive.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    /// The audit id of its first token.
    pub chain: String,
    pub user_id: UserId,
    pub idp_id: String,
    pub protocol_id: String,
    pub subject: String,
    pub provider_session: Option<String>,
    /// See [`Keep::parts`].
    pub word_kind: String,
    /// Sealed.
    pub word: Option<Vec<u8>>,
    /// The groups that it gave, by id.
    pub groups: Vec<String>,
    /// When its last token ends.
    pub expires_at: Timestamp,
}

/// Under what the word of a session is sealed, before its chain.
pub(crate) const SESSION: &str = "federated session ";

impl Session {
    /// What its word is sealed under.
    pub fn seal_name(chain: &str) -> String {
        format!("{SESSION}{chain}")
    }
}

/// Where a shadow user is found again.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub idp_id: String,
    pub protocol_id: String,
    pub unique_id: String,
}

/// A shadow user as a mapping describes it.
#[derive(Clone, Debug)]
pub(crate) struct Shadow {
    pub link: Link,
    pub domain_id: DomainId,
    pub name: String,
    pub email: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_provider_can_be_asked_by_is_read_back_as_it_was_written() {
        let token = || Zeroizing::new("t".to_owned());
        for introspection in [false, true] {
            for user_info in [false, true] {
                let ways = Ways { introspection, user_info };
                let keep = Keep::access(token(), ways);
                let (kind, secret) = keep.parts();
                let secret = secret.map(|text| Zeroizing::new(text.to_owned()));
                assert_eq!(secret.is_some(), introspection || user_info);
                match Keep::from_parts(kind, secret) {
                    Keep::Access(read, found) => assert_eq!((read.as_str(), found), ("t", ways)),
                    Keep::Nothing => assert!(!introspection && !user_info),
                    Keep::Refresh(_) => panic!("{ways:?}"),
                }
            }
        }
        let (kind, _) = Keep::Refresh(token()).parts();
        assert!(matches!(Keep::from_parts(kind, Some(token())), Keep::Refresh(_)));
        assert!(matches!(Keep::from_parts(kind, None), Keep::Nothing));
    }
}
