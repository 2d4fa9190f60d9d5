//! What a trust is, and how one may follow from another. Pure.

use cloud_types::{Fault, ProjectId, RoleId, Timestamp, UserId};
use serde_json::{Value, json};
use service_kit::{Ctx, Target};

use crate::role::model::Role;
use crate::wire;

/// How often a trust can be handed on, at most; upstream's `max_redelegation_count`.
pub(crate) const MAX_REDELEGATION: i64 = 3;

/// A trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trust {
    pub id: String,
    pub trustor: UserId,
    pub trustee: UserId,
    /// `None`: tokens by it are for no scope.
    pub project_id: Option<ProjectId>,
    pub impersonation: bool,
    pub expires_at: Option<Timestamp>,
    /// How many tokens can still be got; `None`: any number.
    pub remaining_uses: Option<i64>,
    /// The trust by which the trustor had what is handed on.
    pub redelegated_trust_id: Option<String>,
    /// How often it can still be handed on.
    pub redelegation_count: i64,
    pub roles: Vec<RoleId>,
    pub created_at: Timestamp,
}

impl Trust {
    /// Whether tokens can be got by it.
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now <= end) && self.remaining_uses != Some(0)
    }

    /// What the API shows in lists, and the journal keeps: no roles.
    pub fn public(&self) -> Value {
        json!({
            "id": self.id,
            "trustor_user_id": self.trustor,
            "trustee_user_id": self.trustee,
            "project_id": self.project_id,
            "impersonation": self.impersonation,
            "expires_at": self.expires_at.map(Timestamp::rfc3339_micros),
            "remaining_uses": self.remaining_uses,
            "redelegated_trust_id": self.redelegated_trust_id,
            "redelegation_count": self.redelegation_count,
            "deleted_at": null,
        })
    }

    /// A row of a list.
    pub fn summary(&self, ctx: &Ctx) -> Value {
        let mut view = self.public();
        view["links"] = json!({"self": wire::self_link(ctx, "OS-TRUST/trusts", &self.id)});
        view
    }

    /// What the API shows of one.
    pub fn view(&self, ctx: &Ctx, roles: &[Role]) -> Value {
        let mut view = self.summary(ctx);
        view["roles"] = roles.iter().map(|role| role.view(ctx)).collect();
        let own = format!("{}/roles", wire::self_link(ctx, "OS-TRUST/trusts", &self.id));
        view["roles_links"] = json!({"self": own, "next": null, "previous": null});
        view
    }

    /// Where a rule about it looks.
    pub fn target(&self) -> Target {
        Target::none()
            .with("trust.trustor_user_id", self.trustor.as_str())
            .with("trust.trustee_user_id", self.trustee.as_str())
    }
}

/// What is asked of a trust's redelegation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Redelegation {
    pub allowed: bool,
    pub count: Option<i64>,
}

fn forbidden(message: impl Into<String>) -> Fault {
    Fault::forbidden(message)
}

/// How often a new trust can be handed on: as asked, within what the one before it leaves.
pub(crate) fn redelegation_count(
    asked: Redelegation,
    remaining_uses: Option<i64>,
    parent: Option<&Trust>,
) -> Result<i64, Fault> {
    let Redelegation { allowed, count } = asked;
    if !allowed || count == Some(0) {
        return Ok(0);
    }
    if let Some(count) = count
        && count > MAX_REDELEGATION
    {
        return Err(forbidden(format!(
            "Requested redelegation depth of {count} is greater than allowed {MAX_REDELEGATION}"
        )));
    }
    if remaining_uses.is_some() {
        return Err(Fault::bad_request(
            "remaining_uses must not be set if redelegation is allowed",
        ));
    }
    let left = parent.map(|parent| parent.redelegation_count - 1);
    match (count, left) {
        (Some(count), Some(left)) if count != left => Err(forbidden(
            "Modifying \"redelegation_count\" upon redelegation is forbidden. Omitting this \
             parameter is advised.",
        )),
        (_, Some(left)) => Ok(left),
        (Some(count), None) => Ok(count),
        (None, None) => Ok(MAX_REDELEGATION),
    }
}

/// Whether a trust may follow from another: never for more, nor for longer.
pub(crate) fn check_handed_on(parent: &Trust, child: &Trust) -> Result<(), Fault> {
    if !(1..=MAX_REDELEGATION).contains(&parent.redelegation_count) {
        return Err(forbidden(format!(
            "Remaining redelegation depth of {} out of allowed range of [0..{MAX_REDELEGATION}]",
            parent.redelegation_count
        )));
    }
    if let Some(uses) = child.remaining_uses {
        return Err(forbidden(format!(
            "Field \"remaining_uses\" is set to {uses} while it must not be set in order to \
             redelegate a trust"
        )));
    }
    if let Some(end) = parent.expires_at
        && child.expires_at.is_none_or(|wanted| wanted > end)
    {
        return Err(forbidden(
            "Requested expiration time is more than redelegated trust can provide",
        ));
    }
    if child.roles.iter().any(|role| !parent.roles.contains(role)) {
        return Err(forbidden("Some of requested roles are not in redelegated trust"));
    }
    if child.project_id != parent.project_id {
        return Err(forbidden("The project is not that of the redelegated trust"));
    }
    if child.impersonation && !parent.impersonation {
        return Err(forbidden(format!(
            "Impersonation is not allowed because redelegated trust does not specify \
             impersonation. Redelegated trust id: {}",
            parent.id
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trust(count: i64) -> Trust {
        Trust {
            id: "t".into(),
            trustor: "a".parse().unwrap(),
            trustee: "b".parse().unwrap(),
            project_id: Some("p".parse().unwrap()),
            impersonation: true,
            expires_at: Some(Timestamp(100)),
            remaining_uses: None,
            redelegated_trust_id: None,
            redelegation_count: count,
            roles: vec!["r".parse().unwrap(), "s".parse().unwrap()],
            created_at: Timestamp(0),
        }
    }

    #[test]
    fn the_depth_shrinks_with_each_step_and_cannot_be_chosen_below_the_first() {
        let ask = |allowed, count| Redelegation { allowed, count };
        let parent = trust(2);
        let cases = [
            (ask(false, Some(2)), None, None, Ok(0)),
            (ask(true, Some(0)), None, None, Ok(0)),
            (ask(true, None), None, None, Ok(3)),
            (ask(true, Some(2)), None, None, Ok(2)),
            (ask(true, Some(4)), None, None, Err(403)),
            (ask(true, None), Some(1), None, Err(400)),
            (ask(false, None), Some(1), None, Ok(0)),
            (ask(true, None), None, Some(&parent), Ok(1)),
            (ask(true, Some(1)), None, Some(&parent), Ok(1)),
            (ask(true, Some(2)), None, Some(&parent), Err(403)),
            (ask(false, None), None, Some(&parent), Ok(0)),
        ];
        for (asked, uses, parent, expected) in cases {
            let got = redelegation_count(asked, uses, parent).map_err(|fault| fault.status());
            assert_eq!(got, expected, "{asked:?} {uses:?}");
        }
    }

    #[test]
    fn nothing_is_handed_on_that_is_more_than_what_was_given() {
        let parent = trust(1);
        let child = Trust { id: "u".into(), redelegation_count: 0, ..trust(0) };
        assert_eq!(check_handed_on(&parent, &child), Ok(()));
        let bad = [
            Trust { remaining_uses: Some(1), ..child.clone() },
            Trust { expires_at: Some(Timestamp(101)), ..child.clone() },
            Trust { expires_at: None, ..child.clone() },
            Trust { roles: vec!["other".parse().unwrap()], ..child.clone() },
            Trust { project_id: None, ..child.clone() },
        ];
        for child in bad {
            assert_eq!(check_handed_on(&parent, &child).map_err(|f| f.status()), Err(403));
        }
        let own = Trust { impersonation: false, ..parent.clone() };
        assert!(check_handed_on(&own, &child).is_err());
        assert!(check_handed_on(&trust(0), &child).is_err());
    }

    #[test]
    fn a_trust_is_over_when_its_time_or_uses_are() {
        let once = Trust { remaining_uses: Some(1), ..trust(0) };
        assert!(once.is_usable(Timestamp(100)));
        assert!(!once.is_usable(Timestamp(101)));
        assert!(!Trust { remaining_uses: Some(0), ..once }.is_usable(Timestamp(1)));
    }
}
