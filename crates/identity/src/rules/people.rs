//! Users and groups, roles, and what people log in with. See [`super`].

use service_kit::PolicyRule;

use super::{
    ADMIN, ALL, ANY, ANYBODY, CLOUD, LIST_IN_DOMAIN, PROJECT, READ, RUN_GROUP, RUN_USER, SEE_GROUP,
    rules,
};

/// The rules.
pub(super) const RULES: &[PolicyRule] = rules! {
    // user
    "identity:get_user",
        "rule:admin_required or (role:reader and system_scope:all) or (role:reader and \
         token.domain.id:%(target.user.domain_id)s) or user_id:%(target.user.id)s",
        ALL, "Show a user.";
    "identity:list_users",
        LIST_IN_DOMAIN,
        ALL, "List users.";
    "identity:list_projects_for_user",
        ANYBODY,
        ANY, "List the projects for which one can get a token (the older of two rules).";
    "identity:list_domains_for_user",
        ANYBODY,
        ANY, "List the domains for which one can get a token (the older of two rules).";
    "identity:create_user",
        RUN_USER,
        ALL, "Create a user.";
    "identity:update_user",
        RUN_USER,
        ALL, "Change a user.";
    "identity:delete_user",
        RUN_USER,
        ALL, "Delete a user.";
    // group
    "identity:get_group",
        SEE_GROUP,
        ALL, "Show a group.";
    "identity:list_groups",
        SEE_GROUP,
        ALL, "List groups.";
    "identity:list_groups_for_user",
        "rule:admin_required or (role:reader and system_scope:all) or (role:reader and \
         domain_id:%(target.user.domain_id)s) or user_id:%(user_id)s",
        ALL, "List the groups of a user.";
    "identity:create_group",
        RUN_GROUP,
        ALL, "Create a group.";
    "identity:update_group",
        RUN_GROUP,
        ALL, "Change a group.";
    "identity:delete_group",
        RUN_GROUP,
        ALL, "Delete a group.";
    "identity:list_users_in_group",
        SEE_GROUP,
        ALL, "List the members of a group.";
    "identity:remove_user_from_group",
        "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s \
         and domain_id:%(target.user.domain_id)s)",
        ALL, "Take a member out of a group.";
    "identity:check_user_in_group",
        "rule:admin_required or (role:reader and system_scope:all) or (role:reader and \
         domain_id:%(target.group.domain_id)s and domain_id:%(target.user.domain_id)s)",
        ALL, "Ask whether a user is a member of a group.";
    "identity:add_user_to_group",
        "rule:admin_required or (role:manager and domain_id:%(target.group.domain_id)s \
         and domain_id:%(target.user.domain_id)s)",
        ALL, "Add a member to a group.";
    // role
    "identity:get_role",
        "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and \
         rule:domain_managed_target_role)",
        ALL, "Show a role.";
    "identity:list_roles",
        "(rule:admin_required or (role:reader and system_scope:all)) or (role:manager and \
         not domain_id:None)",
        ALL, "List roles.";
    "identity:create_role",
        ADMIN,
        CLOUD, "Create a role.";
    "identity:update_role",
        ADMIN,
        CLOUD, "Change a role.";
    "identity:delete_role",
        ADMIN,
        CLOUD, "Delete a role.";
    "identity:get_domain_role",
        READ,
        CLOUD, "Show a domain role.";
    "identity:list_domain_roles",
        READ,
        CLOUD, "List domain roles.";
    "identity:create_domain_role",
        ADMIN,
        CLOUD, "Create a domain role.";
    "identity:update_domain_role",
        ADMIN,
        CLOUD, "Change a domain role.";
    "identity:delete_domain_role",
        ADMIN,
        CLOUD, "Delete a domain role.";
    // implied role
    "identity:get_implied_role",
        READ,
        CLOUD, "Show that a role implies another.";
    "identity:list_implied_roles",
        READ,
        CLOUD, "List the roles that a role implies.";
    "identity:create_implied_role",
        ADMIN,
        CLOUD, "Let a role imply another.";
    "identity:delete_implied_role",
        ADMIN,
        CLOUD, "End an implication.";
    "identity:list_role_inference_rules",
        READ,
        CLOUD, "List which role implies which.";
    "identity:check_implied_role",
        READ,
        CLOUD, "Ask whether a role implies another.";
    // credential
    "identity:get_credential",
        "rule:admin_required or (role:reader and system_scope:all) or \
         user_id:%(target.credential.user_id)s",
        ALL, "Show a credential.";
    "identity:list_credentials",
        "rule:admin_required or (role:reader and system_scope:all) or \
         user_id:%(target.credential.user_id)s",
        ALL, "List credentials.";
    "identity:create_credential",
        "rule:admin_required or user_id:%(target.credential.user_id)s",
        ALL, "Create a credential.";
    "identity:update_credential",
        "rule:admin_required or user_id:%(target.credential.user_id)s",
        ALL, "Change a credential.";
    "identity:delete_credential",
        "rule:admin_required or user_id:%(target.credential.user_id)s",
        ALL, "Delete a credential.";
    // ec2 credential
    "identity:ec2_get_credential",
        "rule:admin_required or (role:reader and system_scope:all) or \
         user_id:%(target.credential.user_id)s",
        CLOUD, "Show an EC2 credential.";
    "identity:ec2_list_credentials",
        "rule:admin_required or (role:reader and system_scope:all) or rule:owner",
        CLOUD, "List EC2 credentials.";
    "identity:ec2_create_credential",
        "rule:admin_required or (role:member and user_id:%(target.credential.user_id)s)",
        CLOUD, "Create an EC2 credential.";
    "identity:ec2_delete_credential",
        "rule:admin_required or (role:member and user_id:%(target.credential.user_id)s)",
        CLOUD, "Delete an EC2 credential.";
    // access rule
    "identity:get_access_rule",
        "(role:reader and system_scope:all) or user_id:%(target.user.id)s",
        CLOUD, "Show an access rule.";
    "identity:list_access_rules",
        "(role:reader and system_scope:all) or user_id:%(target.user.id)s",
        CLOUD, "List access rules.";
    "identity:delete_access_rule",
        "(role:admin and system_scope:all) or user_id:%(target.user.id)s",
        CLOUD, "Delete an access rule.";
    // application credential
    "identity:get_application_credential",
        "rule:admin_required or (role:reader and system_scope:all) or rule:owner",
        CLOUD, "Show an application credential.";
    "identity:list_application_credentials",
        "rule:admin_required or (role:reader and system_scope:all) or rule:owner",
        CLOUD, "List application credentials.";
    "identity:create_application_credential",
        "user_id:%(user_id)s",
        PROJECT, "Create an application credential.";
    "identity:delete_application_credential",
        "rule:admin_or_owner",
        CLOUD, "Delete an application credential.";
    // trust
    "identity:create_trust",
        "user_id:%(target.trust.trustor_user_id)s",
        PROJECT, "Create a trust.";
    "identity:list_trusts",
        READ,
        CLOUD, "List trusts.";
    "identity:list_trusts_for_trustor",
        "rule:admin_required or (role:reader and system_scope:all or \
         user_id:%(target.trust.trustor_user_id)s)",
        CLOUD, "List trusts by trustor.";
    "identity:list_trusts_for_trustee",
        "rule:admin_required or (role:reader and system_scope:all or \
         user_id:%(target.trust.trustee_user_id)s)",
        CLOUD, "List trusts by trustee.";
    "identity:list_roles_for_trust",
        "rule:admin_required or (role:reader and system_scope:all or \
         user_id:%(target.trust.trustor_user_id)s or \
         user_id:%(target.trust.trustee_user_id)s)",
        CLOUD, "List roles of a trust.";
    "identity:get_role_for_trust",
        "rule:admin_required or (role:reader and system_scope:all or \
         user_id:%(target.trust.trustor_user_id)s or \
         user_id:%(target.trust.trustee_user_id)s)",
        CLOUD, "Show a role of a trust.";
    "identity:delete_trust",
        "rule:admin_required or user_id:%(target.trust.trustor_user_id)s",
        CLOUD, "Delete a trust.";
    "identity:get_trust",
        "rule:admin_required or (role:reader and system_scope:all or \
         user_id:%(target.trust.trustor_user_id)s or \
         user_id:%(target.trust.trustee_user_id)s)",
        CLOUD, "Show a trust.";
};
