//! What the rules ask about the objects of identity, under upstream's names: `user.domain_id` is the
//! domain of the user that is acted upon.

use cloud_types::DomainId;
use service_kit::{Ctx, Target};

/// How a rule reads an attribute that is known to be unset.
pub(crate) const UNSET: &str = "None";

/// What a list is limited to: for the token of a domain that domain, under each name that the
/// rules of lists use for it.
pub(crate) fn list(ctx: &Ctx) -> Target {
    let own = ctx.token.as_ref().and_then(|token| token.domain.clone());
    match own {
        None => Target::none(),
        Some(domain) => Target::domain(&domain)
            .with("group.domain_id", domain.as_str())
            .with("domain.id", domain.as_str()),
    }
}

/// A user.
pub(crate) fn user(user: &crate::user::model::User) -> Target {
    Target::user(&user.id)
        .with("user.id", user.id.as_str())
        .with("user.domain_id", user.domain_id.as_str())
}

/// A user of whom only the id is known; whether there is one is not told to who may not ask.
pub(crate) fn user_named(id: &cloud_types::UserId) -> Target {
    Target::user(id).with("user.id", id.as_str())
}

/// A user to be, in a domain.
pub(crate) fn new_user(domain: &DomainId) -> Target {
    Target::none().with("user.domain_id", domain.as_str())
}

/// A group, or one to be, in a domain.
pub(crate) fn group(domain: &DomainId) -> Target {
    Target::none().with("group.domain_id", domain.as_str())
}

/// A project; one that acts as a domain is in none.
pub(crate) fn project(project: &crate::project::model::Project) -> Target {
    let domain = if project.is_domain { UNSET } else { project.domain_id.as_str() };
    Target::project(&project.id)
        .with("project.id", project.id.as_str())
        .with("project.domain_id", domain)
}

/// A domain.
pub(crate) fn domain(id: &DomainId) -> Target {
    Target::domain(id).with("domain.id", id.as_str())
}

/// What a role adds to the target of a grant, or is one by itself.
pub(crate) fn with_role(target: Target, role: &crate::role::model::Role) -> Target {
    let domain = role.domain_id.as_ref().map_or(UNSET, DomainId::as_str);
    target.with("role.name", role.name.clone()).with("role.domain_id", domain)
}
