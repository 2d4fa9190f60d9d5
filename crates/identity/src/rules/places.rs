//! Domains and projects, who has which role on them, and their limits. See [`super`].

use service_kit::PolicyRule;

use super::{
    ADMIN, ALL, ANYBODY, CLOUD, GRANT, LIST_IN_DOMAIN, READ, RUN_PROJECT, SEE_PROJECT, rules,
};

/// The rules.
pub(super) const RULES: &[PolicyRule] = rules! {
    // domain
    "identity:get_domain",
        "rule:admin_required or (role:reader and system_scope:all) or \
         token.domain.id:%(target.domain.id)s or \
         token.project.domain.id:%(target.domain.id)s",
        ALL, "Show a domain.";
    "identity:list_domains",
        "rule:admin_required or (role:reader and system_scope:all) or (role:reader and \
         domain_id:%(target.domain.id)s)",
        ALL, "List domains.";
    "identity:create_domain",
        ADMIN,
        CLOUD, "Create a domain.";
    "identity:update_domain",
        ADMIN,
        CLOUD, "Change a domain.";
    "identity:delete_domain",
        ADMIN,
        CLOUD, "Delete a domain.";
    // domain config
    "identity:create_domain_config",
        ADMIN,
        CLOUD, "Create a domain configuration.";
    "identity:get_domain_config",
        READ,
        CLOUD, "Show a domain configuration.";
    "identity:get_security_compliance_domain_config",
        ANYBODY,
        ALL, "See a domain's rules for passwords.";
    "identity:update_domain_config",
        ADMIN,
        CLOUD, "Change a domain configuration.";
    "identity:delete_domain_config",
        ADMIN,
        CLOUD, "Delete a domain configuration.";
    "identity:get_domain_config_default",
        READ,
        CLOUD, "See what a domain is configured to unless it says otherwise.";
    // project
    "identity:get_project",
        SEE_PROJECT,
        ALL, "Show a project.";
    "identity:list_projects",
        LIST_IN_DOMAIN,
        ALL, "List projects.";
    "identity:list_user_projects",
        "rule:admin_required or (role:reader and system_scope:all) or (role:reader and \
         domain_id:%(target.user.domain_id)s) or user_id:%(target.user.id)s",
        ALL, "List the projects of a user.";
    "identity:create_project",
        RUN_PROJECT,
        ALL, "Create a project.";
    "identity:update_project",
        RUN_PROJECT,
        ALL, "Change a project.";
    "identity:delete_project",
        RUN_PROJECT,
        ALL, "Delete a project.";
    "identity:list_project_tags",
        SEE_PROJECT,
        ALL, "List project tags.";
    "identity:get_project_tag",
        SEE_PROJECT,
        ALL, "Show a project tag.";
    "identity:update_project_tags",
        RUN_PROJECT,
        ALL, "Change project tags.";
    "identity:create_project_tag",
        RUN_PROJECT,
        ALL, "Create a project tag.";
    "identity:delete_project_tags",
        RUN_PROJECT,
        ALL, "Delete project tags.";
    "identity:delete_project_tag",
        RUN_PROJECT,
        ALL, "Delete a project tag.";
    // grant
    "identity:check_grant",
        "rule:admin_required or ((role:reader and system_scope:all) or ((role:reader and \
         domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) \
         or (role:reader and domain_id:%(target.user.domain_id)s and \
         domain_id:%(target.domain.id)s) or (role:reader and \
         domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) \
         or (role:reader and domain_id:%(target.group.domain_id)s and \
         domain_id:%(target.domain.id)s)) and (domain_id:%(target.role.domain_id)s or \
         None:%(target.role.domain_id)s))",
        ALL, "Ask whether somebody has a role on a project or domain.";
    "identity:list_grants",
        "rule:admin_required or ((role:reader and system_scope:all) or (role:reader and \
         domain_id:%(target.user.domain_id)s and domain_id:%(target.project.domain_id)s) \
         or (role:reader and domain_id:%(target.user.domain_id)s and \
         domain_id:%(target.domain.id)s) or (role:reader and \
         domain_id:%(target.group.domain_id)s and domain_id:%(target.project.domain_id)s) \
         or (role:reader and domain_id:%(target.group.domain_id)s and \
         domain_id:%(target.domain.id)s))",
        ALL, "List somebody's roles on a project or domain.";
    "identity:create_grant",
        GRANT,
        ALL, "Give somebody a role on a project or domain.";
    "identity:revoke_grant",
        GRANT,
        ALL, "Take a role on a project or domain away.";
    "identity:list_system_grants_for_user",
        READ,
        CLOUD, "List system grants for a user.";
    "identity:check_system_grant_for_user",
        READ,
        CLOUD, "Look at a system grant for a user.";
    "identity:create_system_grant_for_user",
        ADMIN,
        CLOUD, "Create a system grant for a user.";
    "identity:revoke_system_grant_for_user",
        ADMIN,
        CLOUD, "Take away a system grant for a user.";
    "identity:list_system_grants_for_group",
        READ,
        CLOUD, "List system grants for a group.";
    "identity:check_system_grant_for_group",
        READ,
        CLOUD, "Look at a system grant for a group.";
    "identity:create_system_grant_for_group",
        ADMIN,
        CLOUD, "Create a system grant for a group.";
    "identity:revoke_system_grant_for_group",
        ADMIN,
        CLOUD, "Take away a system grant for a group.";
    // role assignment
    "identity:list_role_assignments",
        LIST_IN_DOMAIN,
        ALL, "List who has which role where.";
    "identity:list_role_assignments_for_tree",
        LIST_IN_DOMAIN,
        ALL, "List who has which role on a project and those below it.";
    // limit
    "identity:get_limit_model",
        ANYBODY,
        ALL, "See how limits are enforced.";
    "identity:get_limit",
        "rule:admin_required or (role:reader and system_scope:all) or \
         (domain_id:%(target.limit.domain.id)s or \
         domain_id:%(target.limit.project.domain_id)s) or \
         (project_id:%(target.limit.project_id)s and not \
         None:%(target.limit.project_id)s)",
        ALL, "Show a limit.";
    "identity:list_limits",
        ANYBODY,
        ALL, "List limits.";
    "identity:create_limits",
        ADMIN,
        CLOUD, "Create limits.";
    "identity:update_limit",
        ADMIN,
        CLOUD, "Change a limit.";
    "identity:delete_limit",
        ADMIN,
        CLOUD, "Delete a limit.";
    // registered limit
    "identity:get_registered_limit",
        ANYBODY,
        ALL, "Show a registered limit.";
    "identity:list_registered_limits",
        ANYBODY,
        ALL, "List registered limits.";
    "identity:create_registered_limits",
        ADMIN,
        CLOUD, "Create registered limits.";
    "identity:update_registered_limit",
        ADMIN,
        CLOUD, "Change a registered limit.";
    "identity:delete_registered_limit",
        ADMIN,
        CLOUD, "Delete a registered limit.";
};
