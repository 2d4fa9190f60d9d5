//! Who may do what with servers and what surrounds them, in Nova's personas.

use service_kit::policy::PolicyRule;

const fn rule(
    name: &'static str,
    expression: &'static str,
    description: &'static str,
) -> PolicyRule {
    PolicyRule::new(name, expression, description)
}

const READER: &str = "rule:project_reader_or_admin";
const MEMBER: &str = "rule:project_member_or_admin";
const ADMIN: &str = "rule:admin";
const OWNER: &str = "rule:admin or user_id:%(user_id)s";
const ANYBODY: &str = "@";

/// The rules of compute.
pub const POLICY: &[PolicyRule] = &[
    rule("compute:servers:list", READER, "List servers of the project."),
    rule("compute:servers:list:all_projects", ADMIN, "List servers of every project."),
    rule(
        "compute:servers:list:all_filters",
        ADMIN,
        "Filter lists by host and whatever else operators need.",
    ),
    rule("compute:servers:list:deleted", ADMIN, "List servers that are gone."),
    rule("compute:servers:show", READER, "Show a server."),
    rule(
        "compute:servers:show:host",
        ADMIN,
        "See a server's host and the attributes of its placement.",
    ),
    rule(
        "compute:servers:show:flavor_extra_specs",
        READER,
        "See the extra specs of a server's flavor.",
    ),
    rule("compute:servers:create", MEMBER, "Create a server."),
    rule("compute:servers:create:forced_host", ADMIN, "Create a server on a named host."),
    rule(
        "compute:servers:create:zero_disk_flavor",
        ADMIN,
        "Create a server whose flavor has a root disk of size 0.",
    ),
    rule("compute:servers:update", MEMBER, "Change a server's name and what else is free text."),
    rule("compute:servers:delete", MEMBER, "Delete a server."),
    rule("compute:servers:start", MEMBER, "Start a server."),
    rule("compute:servers:stop", MEMBER, "Stop a server."),
    rule("compute:servers:reboot", MEMBER, "Restart a server."),
    rule("compute:servers:console_output", MEMBER, "Read a server's serial console."),
    rule("compute:servers:lock", MEMBER, "Lock and unlock a server."),
    rule("compute:servers:unlock_override", ADMIN, "Unlock a server that an administrator locked."),
    rule("compute:servers:locked_override", ADMIN, "Act on a locked server."),
    rule("compute:servers:metadata:show", READER, "Show a server's metadata."),
    rule("compute:servers:metadata:update", MEMBER, "Change a server's metadata."),
    rule("compute:servers:tags:show", READER, "Show a server's tags."),
    rule("compute:servers:tags:update", MEMBER, "Change a server's tags."),
    rule(
        "compute:servers:interfaces",
        READER,
        "List a server's ports, addresses and security groups.",
    ),
    rule("compute:servers:actions", READER, "List what was done to a server."),
    rule(
        "compute:servers:actions:events",
        ADMIN,
        "See the host and the details of what was done to a server.",
    ),
    rule(
        "compute:flavors:list",
        ANYBODY,
        "List flavors that are public or shared with the project.",
    ),
    rule(
        "compute:flavors:show",
        ANYBODY,
        "Show a flavor that is public or shared with the project.",
    ),
    rule("compute:flavors:all", ADMIN, "See and use every flavor."),
    rule("compute:flavors:create", ADMIN, "Create a flavor."),
    rule("compute:flavors:update", ADMIN, "Describe a flavor."),
    rule("compute:flavors:delete", ADMIN, "Delete a flavor."),
    rule("compute:flavors:extra_specs", "role:reader or rule:admin", "See a flavor's extra specs."),
    rule("compute:flavors:set_extra_specs", ADMIN, "Change a flavor's extra specs."),
    rule("compute:flavors:access", ADMIN, "See which projects a private flavor is shared with."),
    rule("compute:flavors:add_access", ADMIN, "Share a private flavor with a project."),
    rule(
        "compute:flavors:remove_access",
        ADMIN,
        "No longer share a private flavor with a project.",
    ),
    rule("compute:keypairs:list", OWNER, "List a user's key pairs."),
    rule("compute:keypairs:show", OWNER, "Show a user's key pair."),
    rule("compute:keypairs:create", OWNER, "Give a user a key pair."),
    rule("compute:keypairs:delete", OWNER, "Delete a user's key pair."),
    rule("compute:hypervisors:list", ADMIN, "List and show hypervisors."),
    rule("compute:services:list", ADMIN, "List the agents of hosts."),
    rule("compute:services:update", ADMIN, "Let a host be given new servers, or no more."),
    rule("compute:aggregates:list", ADMIN, "List and show aggregates."),
    rule("compute:zones:list", ANYBODY, "List availability zones."),
    rule("compute:zones:detail", ADMIN, "List availability zones with their hosts."),
    rule("compute:quotas:show", READER, "Show a project's quota."),
    rule("compute:quotas:defaults", ANYBODY, "Show the default quota."),
    rule("compute:quotas:update", ADMIN, "Change a project's quota."),
    rule("compute:limits:show", ANYBODY, "Show the own project's limits."),
    rule("compute:limits:other_project", ADMIN, "Show another project's limits."),
    rule("compute:server_groups:list", READER, "List server groups."),
    rule("compute:extensions:list", ANYBODY, "List what this compute service can do."),
];
