//! Changes that hold only for the revision that the caller has seen: `If-Match: revision_number=3`
//! (Neutron's `revision-if-match`). The number is compared under the object's lock.

use cloud_types::{Fault, FaultKind};

use crate::faults::http_bad_request;

/// The revision that an object must have; none means any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IfMatch(pub Option<i64>);

impl IfMatch {
    /// Reads the header's value.
    ///
    /// # Errors
    /// 400 for anything else than a revision number.
    pub fn parse(text: &str) -> Result<IfMatch, Fault> {
        let number = text.trim().strip_prefix("revision_number=");
        number.and_then(|number| number.trim().parse().ok()).map(|n| IfMatch(Some(n))).ok_or_else(
            || {
                http_bad_request(format!(
                    "If-Match must be revision_number= and a number, not '{}'",
                    text.chars().take(64).collect::<String>()
                ))
            },
        )
    }

    /// # Errors
    /// 412 when the object has another revision.
    pub fn check(self, current: i64) -> Result<(), Fault> {
        match self.0 {
            Some(wanted) if wanted != current => Err(Fault::new(
                FaultKind::PreconditionFailed,
                format!("Constrained to {wanted}, but current revision is {current}"),
            )
            .named("RevisionNumberConstraintFailed")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_read_and_compared() {
        let wanted = IfMatch::parse("revision_number=3").unwrap();
        assert!(wanted.check(3).is_ok() && IfMatch::default().check(7).is_ok());
        assert_eq!(wanted.check(4).unwrap_err().status(), 412);
        for bad in ["3", "\"etag\"", "revision_number=x", ""] {
            assert!(IfMatch::parse(bad).is_err(), "{bad}");
        }
    }
}
