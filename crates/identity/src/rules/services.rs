//! Personas, tokens, the catalogue, federation. See [`super`].

use service_kit::PolicyRule;

use super::{ADMIN, ALL, ANY, ANYBODY, CLOUD, PROJECT, READ, rules};

/// The rules.
pub(super) const RULES: &[PolicyRule] = rules! {
    // base
    "admin_required",
        "role:admin",
        ANY, "Runs the cloud.";
    "service_role",
        "role:service",
        ANY, "Is another service of the cloud.";
    "service_or_admin",
        "rule:admin_required or rule:service_role",
        ANY, "Is a service, or runs the cloud.";
    "owner",
        "user_id:%(user_id)s",
        ANY, "Asks about themselves.";
    "admin_or_owner",
        "rule:admin_required or rule:owner",
        ANY, "Asks about themselves, or runs the cloud.";
    "token_subject",
        "user_id:%(target.token.user_id)s",
        ANY, "Asks about a token of their own.";
    "admin_or_token_subject",
        "rule:admin_required or rule:token_subject",
        ANY, "Asks about a token of their own, or runs the cloud.";
    "service_admin_or_token_subject",
        "rule:service_or_admin or rule:token_subject",
        ANY, "Asks about a token of their own, is a service, or runs the cloud.";
    "domain_managed_target_role",
        "'manager':%(target.role.name)s or 'member':%(target.role.name)s or \
         'reader':%(target.role.name)s",
        ANY, "The roles that a domain's manager may hand on.";
    // auth
    "identity:get_auth_catalog",
        ANYBODY,
        ANY, "See the token's own catalogue.";
    "identity:get_auth_projects",
        ANYBODY,
        ANY, "List the projects for which one can get a token.";
    "identity:get_auth_domains",
        ANYBODY,
        ANY, "List the domains for which one can get a token.";
    "identity:get_auth_system",
        ANYBODY,
        ANY, "See whether one can get a token for the system.";
    // token
    "identity:check_token",
        "rule:admin_required or (role:reader and system_scope:all) or rule:token_subject",
        ALL, "Ask whether a token is good.";
    "identity:validate_token",
        "rule:admin_required or (role:reader and system_scope:all) or rule:service_role \
         or rule:token_subject",
        ALL, "Look at a token.";
    "identity:revoke_token",
        "rule:admin_required or rule:token_subject",
        ALL, "Revoke a token.";
    // token revocation
    "identity:revocation_list",
        "rule:service_or_admin",
        CLOUD, "See the list of revoked tokens.";
    // revoke event
    "identity:list_revoke_events",
        "rule:service_or_admin",
        CLOUD, "See which tokens were revoked.";
    // ec2tokens
    "identity:ec2tokens_validate",
        "rule:service_or_admin",
        ALL, "Exchange a signed EC2 request for a token.";
    // s3tokens
    "identity:s3tokens_validate",
        "rule:service_or_admin",
        ALL, "Exchange a signed S3 request for a token.";
    // consumer
    "identity:get_consumer",
        READ,
        CLOUD, "Show a consumer.";
    "identity:list_consumers",
        READ,
        CLOUD, "List consumers.";
    "identity:create_consumer",
        ADMIN,
        CLOUD, "Create a consumer.";
    "identity:update_consumer",
        ADMIN,
        CLOUD, "Change a consumer.";
    "identity:delete_consumer",
        ADMIN,
        CLOUD, "Delete a consumer.";
    // access token
    "identity:authorize_request_token",
        ADMIN,
        PROJECT, "Let a consumer act for oneself.";
    "identity:get_access_token",
        ADMIN,
        PROJECT, "Show an access token.";
    "identity:get_access_token_role",
        ADMIN,
        PROJECT, "Show an access token role.";
    "identity:list_access_tokens",
        ADMIN,
        PROJECT, "List access tokens.";
    "identity:list_access_token_roles",
        ADMIN,
        PROJECT, "List access token roles.";
    "identity:delete_access_token",
        ADMIN,
        PROJECT, "Delete an access token.";
    // region
    "identity:get_region",
        ANYBODY,
        ALL, "Show a region.";
    "identity:list_regions",
        ANYBODY,
        ALL, "List regions.";
    "identity:create_region",
        ADMIN,
        CLOUD, "Create a region.";
    "identity:update_region",
        ADMIN,
        CLOUD, "Change a region.";
    "identity:delete_region",
        ADMIN,
        CLOUD, "Delete a region.";
    // service
    "identity:get_service",
        READ,
        CLOUD, "Show a service.";
    "identity:list_services",
        READ,
        CLOUD, "List services.";
    "identity:create_service",
        ADMIN,
        CLOUD, "Create a service.";
    "identity:update_service",
        ADMIN,
        CLOUD, "Change a service.";
    "identity:delete_service",
        ADMIN,
        CLOUD, "Delete a service.";
    // endpoint
    "identity:get_endpoint",
        READ,
        CLOUD, "Show an endpoint.";
    "identity:list_endpoints",
        READ,
        CLOUD, "List endpoints.";
    "identity:create_endpoint",
        ADMIN,
        CLOUD, "Create an endpoint.";
    "identity:update_endpoint",
        ADMIN,
        CLOUD, "Change an endpoint.";
    "identity:delete_endpoint",
        ADMIN,
        CLOUD, "Delete an endpoint.";
    // endpoint group
    "identity:create_endpoint_group",
        ADMIN,
        CLOUD, "Create an endpoint group.";
    "identity:list_endpoint_groups",
        READ,
        CLOUD, "List endpoint groups.";
    "identity:get_endpoint_group",
        READ,
        CLOUD, "Show an endpoint group.";
    "identity:update_endpoint_group",
        ADMIN,
        CLOUD, "Change an endpoint group.";
    "identity:delete_endpoint_group",
        ADMIN,
        CLOUD, "Delete an endpoint group.";
    "identity:list_projects_associated_with_endpoint_group",
        READ,
        CLOUD, "List projects of an endpoint group.";
    "identity:list_endpoints_associated_with_endpoint_group",
        READ,
        CLOUD, "List endpoints of an endpoint group.";
    "identity:get_endpoint_group_in_project",
        READ,
        CLOUD, "Show an endpoint group of a project.";
    "identity:list_endpoint_groups_for_project",
        READ,
        CLOUD, "List endpoint groups of a project.";
    "identity:add_endpoint_group_to_project",
        ADMIN,
        CLOUD, "Add an endpoint group to a project.";
    "identity:remove_endpoint_group_from_project",
        ADMIN,
        CLOUD, "Remove an endpoint group from a project.";
    // project endpoint
    "identity:list_projects_for_endpoint",
        READ,
        CLOUD, "List projects for an endpoint.";
    "identity:add_endpoint_to_project",
        ADMIN,
        CLOUD, "Add an endpoint to a project.";
    "identity:check_endpoint_in_project",
        READ,
        CLOUD, "Look at an endpoint of a project.";
    "identity:list_endpoints_for_project",
        READ,
        CLOUD, "List endpoints of a project.";
    "identity:remove_endpoint_from_project",
        ADMIN,
        CLOUD, "Remove an endpoint from a project.";
    // policy
    "identity:get_policy",
        READ,
        CLOUD, "Show a policy.";
    "identity:list_policies",
        READ,
        CLOUD, "List policies.";
    "identity:create_policy",
        ADMIN,
        CLOUD, "Create a policy.";
    "identity:update_policy",
        ADMIN,
        CLOUD, "Change a policy.";
    "identity:delete_policy",
        ADMIN,
        CLOUD, "Delete a policy.";
    // policy association
    "identity:create_policy_association_for_endpoint",
        ADMIN,
        CLOUD, "Create a policy association for an endpoint.";
    "identity:check_policy_association_for_endpoint",
        READ,
        CLOUD, "Look at a policy association for an endpoint.";
    "identity:delete_policy_association_for_endpoint",
        ADMIN,
        CLOUD, "Delete a policy association for an endpoint.";
    "identity:create_policy_association_for_service",
        ADMIN,
        CLOUD, "Create a policy association for a service.";
    "identity:check_policy_association_for_service",
        READ,
        CLOUD, "Look at a policy association for a service.";
    "identity:delete_policy_association_for_service",
        ADMIN,
        CLOUD, "Delete a policy association for a service.";
    "identity:create_policy_association_for_region_and_service",
        ADMIN,
        CLOUD, "Create a policy association for a service in a region.";
    "identity:check_policy_association_for_region_and_service",
        READ,
        CLOUD, "Look at a policy association for a service in a region.";
    "identity:delete_policy_association_for_region_and_service",
        ADMIN,
        CLOUD, "Delete a policy association for a service in a region.";
    "identity:get_policy_for_endpoint",
        READ,
        CLOUD, "Show the policy that an endpoint should follow.";
    "identity:list_endpoints_for_policy",
        READ,
        CLOUD, "List the endpoints that should follow a policy.";
    // identity provider
    "identity:create_identity_provider",
        ADMIN,
        CLOUD, "Create an identity provider.";
    "identity:list_identity_providers",
        READ,
        CLOUD, "List identity providers.";
    "identity:get_identity_provider",
        READ,
        CLOUD, "Show an identity provider.";
    "identity:update_identity_provider",
        ADMIN,
        CLOUD, "Change an identity provider.";
    "identity:delete_identity_provider",
        ADMIN,
        CLOUD, "Delete an identity provider.";
    // mapping
    "identity:create_mapping",
        ADMIN,
        CLOUD, "Create a mapping.";
    "identity:get_mapping",
        READ,
        CLOUD, "Show a mapping.";
    "identity:list_mappings",
        READ,
        CLOUD, "List mappings.";
    "identity:delete_mapping",
        ADMIN,
        CLOUD, "Delete a mapping.";
    "identity:update_mapping",
        ADMIN,
        CLOUD, "Change a mapping.";
    // protocol
    "identity:create_protocol",
        ADMIN,
        CLOUD, "Create a protocol.";
    "identity:update_protocol",
        ADMIN,
        CLOUD, "Change a protocol.";
    "identity:get_protocol",
        READ,
        CLOUD, "Show a protocol.";
    "identity:list_protocols",
        READ,
        CLOUD, "List protocols.";
    "identity:delete_protocol",
        ADMIN,
        CLOUD, "Delete a protocol.";
    // service provider
    "identity:create_service_provider",
        ADMIN,
        CLOUD, "Create a service provider.";
    "identity:list_service_providers",
        READ,
        CLOUD, "List service providers.";
    "identity:get_service_provider",
        READ,
        CLOUD, "Show a service provider.";
    "identity:update_service_provider",
        ADMIN,
        CLOUD, "Change a service provider.";
    "identity:delete_service_provider",
        ADMIN,
        CLOUD, "Delete a service provider.";
};
