//! Who may do what in identity. Names, expressions and scopes are upstream's, so that a policy file
//! written for Keystone means the same here. Personas: an administrator (of any scope that a rule
//! takes) may do all; a reader with a system token may look at all; a manager of a domain, with a
//! token for it, runs the users, groups and projects of that domain and hands manager, member and
//! reader on; everybody may look at themselves.
//!
//! What the rules ask of a target is filled in by the services: `user.domain_id` and the like name
//! the object's own attribute, `domain_id` the domain that a list is limited to.

mod people;
mod places;
mod services;

use service_kit::{PolicyRule, TokenScope};

macro_rules! rules {
    ($($name:literal, $expression:expr, $scopes:expr, $description:literal;)*) => {
        &[$(PolicyRule {
            name: $name,
            expression: $expression,
            description: $description,
            scopes: $scopes,
        }),*]
    };
}
use rules;

/// Tokens of any scope, or none.
const ANY: &[TokenScope] = &[];
/// The same, as upstream writes it for rules that ask for a role.
const ALL: &[TokenScope] = &[TokenScope::System, TokenScope::Domain, TokenScope::Project];
/// What concerns the whole cloud is no matter for the token of a domain.
const CLOUD: &[TokenScope] = &[TokenScope::System, TokenScope::Project];
/// What is done within a project.
const PROJECT: &[TokenScope] = &[TokenScope::Project];

const ANYBODY: &str = "";
const ADMIN: &str = "rule:admin_required";
const READ: &str = "rule:admin_required or (role:reader and system_scope:all)";
const LIST_IN_DOMAIN: &str = "rule:admin_required or (role:reader and system_scope:all) or \
     (role:reader and domain_id:%(target.domain_id)s)";
const SEE_PROJECT: &str = "rule:admin_required or (role:reader and system_scope:all) or \
     (role:reader and domain_id:%(target.project.domain_id)s and \
     not None:%(target.project.domain_id)s) or project_id:%(target.project.id)s";
const RUN_PROJECT: &str = "rule:admin_required or (role:manager and \
     domain_id:%(target.project.domain_id)s and not None:%(target.project.domain_id)s)";
const SEE_GROUP: &str = "rule:admin_required or (role:reader and system_scope:all) or \
     (role:reader and domain_id:%(target.group.domain_id)s)";
const RUN_GROUP: &str =
    "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s)";
const RUN_USER: &str =
    "rule:admin_required or (role:manager and token.domain.id:%(target.user.domain_id)s)";
/// Giving and taking roles: an administrator of a domain any of its own or the cloud's roles, a
/// manager those that a manager may hand on; in both cases to users and groups of that domain on
/// that domain and its projects.
const GRANT: &str = "rule:admin_required or \
     ((role:admin and domain_id:%(target.user.domain_id)s and \
     domain_id:%(target.project.domain_id)s) or \
     (role:admin and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or \
     (role:admin and domain_id:%(target.group.domain_id)s and \
     domain_id:%(target.project.domain_id)s) or \
     (role:admin and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) \
     and (domain_id:%(target.role.domain_id)s or None:%(target.role.domain_id)s) or \
     ((role:manager and domain_id:%(target.user.domain_id)s and \
     domain_id:%(target.project.domain_id)s) or \
     (role:manager and domain_id:%(target.user.domain_id)s and domain_id:%(target.domain.id)s) or \
     (role:manager and domain_id:%(target.group.domain_id)s and \
     domain_id:%(target.project.domain_id)s) or \
     (role:manager and domain_id:%(target.group.domain_id)s and domain_id:%(target.domain.id)s)) \
     and rule:domain_managed_target_role";

const PARTS: [&[PolicyRule]; 3] = [people::RULES, places::RULES, services::RULES];

/// The rules of identity.
pub const POLICY: &[PolicyRule] = &join::<{ count() }>();

const fn count() -> usize {
    let (mut part, mut sum) = (0, 0);
    while part < PARTS.len() {
        sum += PARTS[part].len();
        part += 1;
    }
    sum
}

const fn join<const N: usize>() -> [PolicyRule; N] {
    let mut all = [PolicyRule::new("", "", ""); N];
    let (mut part, mut next) = (0, 0);
    while part < PARTS.len() {
        let mut index = 0;
        while index < PARTS[part].len() {
            all[next] = PARTS[part][index];
            next += 1;
            index += 1;
        }
        part += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use service_kit::{Policy, Target, Token};

    use super::*;

    #[test]
    fn an_administrator_may_do_all_that_the_scope_allows_and_a_system_reader_look() {
        let policy = Policy::new(&[POLICY]).unwrap();
        let admin = Token::for_test("u", Some("p"), &["admin"]);
        // One's own matters, where not even an administrator stands in.
        let own = [
            "identity:create_trust",
            "identity:create_application_credential",
            "identity:get_access_rule",
            "identity:list_access_rules",
            "identity:delete_access_rule",
        ];
        for rule in POLICY.iter().filter(|rule| rule.name.starts_with("identity:")) {
            let allowed = policy.allows(rule.name, &admin, &Target::none());
            assert_eq!(allowed, !own.contains(&rule.name), "{}", rule.name);
        }
        let mut reader = Token::for_test("u", None, &["reader"]);
        reader.system = true;
        for (rule, allowed) in [
            ("identity:list_users", true),
            ("identity:list_limits", true),
            ("identity:get_domain_config", true),
            ("identity:create_user", false),
            ("identity:delete_domain", false),
            ("identity:revoke_token", false),
        ] {
            assert_eq!(policy.allows(rule, &reader, &Target::none()), allowed, "{rule}");
        }
    }

    #[test]
    fn a_manager_of_a_domain_hands_three_roles_on_within_it() {
        let policy = Policy::new(&[POLICY]).unwrap();
        let mut manager = Token::for_test("u", None, &["manager"]);
        manager.domain = Some("d".parse().unwrap());
        let may = |user: &str, project: &str, role: &str| {
            let target = Target::none()
                .with("user.domain_id", user)
                .with("project.domain_id", project)
                .with("role.name", role)
                .with("role.domain_id", "None");
            policy.allows("identity:create_grant", &manager, &target)
        };
        for role in ["manager", "member", "reader"] {
            assert!(may("d", "d", role) && !may("d", "e", role) && !may("e", "d", role), "{role}");
        }
        assert!(!may("d", "d", "admin") && !may("d", "d", "auditor"));
    }
}
