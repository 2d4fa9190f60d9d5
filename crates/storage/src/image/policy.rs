//! Who may do what with images.

use service_kit::PolicyRule;

const READ: &str = "role:reader or rule:admin or rule:service";
const WRITE: &str = "rule:project_member_or_admin or rule:service";

const fn rule(
    name: &'static str,
    expression: &'static str,
    description: &'static str,
) -> PolicyRule {
    PolicyRule::new(name, expression, description)
}

/// The rules of the image service.
pub const POLICY: &[PolicyRule] = &[
    rule("image:all_projects", "rule:admin or rule:service", "See every project's images."),
    rule("image:images:get", READ, "List and show images, and read their files."),
    rule("image:images:create", WRITE, "Create an image."),
    rule("image:images:update", WRITE, "Change an image."),
    rule("image:images:chown", "rule:admin", "Give an image to another project."),
    rule("image:usage:get", READ, "See one's own limits and usage."),
    rule("image:images:delete", WRITE, "Delete an image."),
    rule("image:images:upload", WRITE, "Upload an image's file."),
    rule("image:images:publicize", "rule:admin", "Make an image public."),
    rule("image:images:communitize", WRITE, "Make an image a community image."),
    rule(
        "image:images:deactivate",
        "rule:admin",
        "Keep an image's file from being read, or let it be read again.",
    ),
    rule("image:members:get", READ, "List and show an image's members."),
    rule("image:members:update", WRITE, "Add or remove members, accept or reject an image."),
    rule("image:schemas:get", READ, "Read the schemas."),
];
