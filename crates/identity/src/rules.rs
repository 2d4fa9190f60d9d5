//! Who may do what in identity. Names and personas are upstream's: an administrator may do all; a
//! reader with a system token may look at all; a manager of a domain runs the users, groups and
//! projects of that domain and delegates what a manager has; everybody may look at themselves.

use service_kit::PolicyRule;

macro_rules! rules {
    ($($name:literal, $expression:literal, $description:literal;)*) => {
        &[$(PolicyRule { name: $name, expression: $expression, description: $description }),*]
    };
}

/// The rules of identity.
pub const POLICY: &[PolicyRule] = rules! {
    "identity:domain_reader", "role:reader and domain_id:%(domain_id)s",
        "Looks at a domain.";
    "identity:domain_manager", "role:manager and domain_id:%(domain_id)s",
        "Runs a domain.";
    "identity:overseer", "rule:admin or rule:system_reader",
        "Looks at everything.";
    "identity:readers", "rule:identity:overseer or rule:identity:domain_reader",
        "Looks at what a domain has.";
    "identity:managers", "rule:admin or rule:identity:domain_manager",
        "Changes what a domain has.";

    "identity:validate_token", "rule:identity:overseer or rule:service or user_id:%(user_id)s",
        "Look at somebody's token.";
    "identity:revoke_token", "rule:admin or user_id:%(user_id)s",
        "Revoke somebody's token.";

    "identity:list_users", "rule:identity:readers", "List users.";
    "identity:get_user", "rule:identity:readers or user_id:%(user_id)s", "Show a user.";
    "identity:create_user", "rule:identity:managers", "Create a user.";
    "identity:update_user", "rule:identity:managers", "Change a user.";
    "identity:delete_user", "rule:identity:managers", "Delete a user.";

    "identity:list_groups", "rule:identity:readers", "List groups.";
    "identity:get_group", "rule:identity:readers", "Show a group.";
    "identity:list_groups_for_user", "rule:identity:readers or user_id:%(user_id)s",
        "List the groups of a user.";
    "identity:create_group", "rule:identity:managers", "Create a group.";
    "identity:update_group", "rule:identity:managers", "Change a group.";
    "identity:delete_group", "rule:identity:managers", "Delete a group.";
    "identity:list_users_in_group", "rule:identity:readers", "List a group's members.";
    "identity:check_user_in_group", "rule:identity:readers", "Ask whether a user is a member.";
    "identity:add_user_to_group",
        "rule:admin or (rule:identity:domain_manager and domain_id:%(member_domain_id)s)",
        "Add a member.";
    "identity:remove_user_from_group",
        "rule:admin or (rule:identity:domain_manager and domain_id:%(member_domain_id)s)",
        "Remove a member.";

    "identity:list_projects", "rule:identity:readers", "List projects.";
    "identity:get_project", "rule:identity:readers or project_id:%(project_id)s",
        "Show a project.";
    "identity:list_user_projects", "rule:identity:readers or user_id:%(user_id)s",
        "List the projects of a user.";
    "identity:create_project", "rule:identity:managers", "Create a project.";
    "identity:update_project", "rule:identity:managers", "Change a project.";
    "identity:delete_project", "rule:identity:managers", "Delete a project.";

    "identity:list_domains", "rule:identity:overseer or role:manager", "List domains.";
    "identity:get_domain",
        "rule:identity:overseer or domain_id:%(domain_id)s or project_domain_id:%(domain_id)s",
        "Show a domain.";
    "identity:create_domain", "rule:admin", "Create a domain.";
    "identity:update_domain", "rule:admin", "Change a domain.";
    "identity:delete_domain", "rule:admin", "Delete a domain.";

    "identity:list_roles", "rule:identity:overseer or role:manager", "List roles.";
    "identity:get_role", "rule:identity:overseer or role:manager", "Show a role.";
    "identity:create_role", "rule:admin", "Create a role.";
    "identity:update_role", "rule:admin", "Change a role.";
    "identity:delete_role", "rule:admin", "Delete a role.";
    "identity:list_implied_roles", "rule:identity:overseer", "See what a role implies.";
    "identity:create_implied_role", "rule:admin", "Let a role imply another.";
    "identity:delete_implied_role", "rule:admin", "End an implication.";

    "identity:list_role_assignments", "rule:identity:readers or rule:identity:own_project",
        "List who has which role where.";
    "identity:own_project", "role:manager and project_id:%(project_id)s",
        "Runs a project.";
    "identity:list_grants",
        "rule:identity:overseer or (rule:identity:domain_reader and \
         domain_id:%(actor_domain_id)s)",
        "List or check the roles of somebody somewhere.";
    "identity:change_grants",
        "rule:admin or (rule:identity:domain_manager and domain_id:%(actor_domain_id)s and \
         'True':%(delegable)s)",
        "Grant or take away a role. A domain's manager delegates manager, member and reader.";
    "identity:list_system_grants", "rule:identity:overseer", "See who has roles on the system.";
    "identity:change_system_grants", "rule:admin", "Grant or take away roles on the system.";

    "identity:get_region", "@", "Show a region.";
    "identity:list_regions", "@", "List regions.";
    "identity:change_region", "rule:admin", "Create, change or delete a region.";
    "identity:get_service", "rule:identity:overseer", "Show a service.";
    "identity:list_services", "rule:identity:overseer", "List services.";
    "identity:change_service", "rule:admin", "Create, change or delete a service.";
    "identity:get_endpoint", "rule:identity:overseer", "Show an endpoint.";
    "identity:list_endpoints", "rule:identity:overseer", "List endpoints.";
    "identity:change_endpoint", "rule:admin", "Create, change or delete an endpoint.";
};
