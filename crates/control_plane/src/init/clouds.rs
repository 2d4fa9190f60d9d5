//! The files that OpenStack clients read: `clouds.yaml` and openrc.

use std::path::Path;

/// A user as the files name it.
pub struct Account<'a> {
    /// Name of the cloud in `clouds.yaml`.
    pub cloud: &'a str,
    /// User name, in the domain `Default`.
    pub user: &'a str,
    /// Password; letters and digits, so that no quoting is needed anywhere.
    pub password: &'a str,
    /// Project name, in the domain `Default`.
    pub project: &'a str,
}

/// `clouds.yaml` for several accounts at one cloud.
pub fn clouds_yaml(accounts: &[Account<'_>], base: &str, region: &str, authority: &Path) -> String {
    let mut text = String::from("clouds:\n");
    for account in accounts {
        text.push_str(&format!(
            "  {cloud}:\n    auth:\n      auth_url: {base}/identity/v3\n      username: {user}\n      password: {password}\n      project_name: {project}\n      user_domain_name: Default\n      project_domain_name: Default\n    region_name: {region}\n    identity_api_version: 3\n    interface: public\n    cacert: {authority}\n",
            cloud = account.cloud,
            user = account.user,
            password = account.password,
            project = account.project,
            authority = authority.display(),
        ));
    }
    text
}

/// Shell variables for one account.
pub fn openrc(account: &Account<'_>, base: &str, region: &str, authority: &Path) -> String {
    let pairs = [
        ("OS_AUTH_URL", format!("{base}/identity/v3")),
        ("OS_USERNAME", account.user.to_owned()),
        ("OS_PASSWORD", account.password.to_owned()),
        ("OS_PROJECT_NAME", account.project.to_owned()),
        ("OS_USER_DOMAIN_NAME", "Default".to_owned()),
        ("OS_PROJECT_DOMAIN_NAME", "Default".to_owned()),
        ("OS_REGION_NAME", region.to_owned()),
        ("OS_IDENTITY_API_VERSION", "3".to_owned()),
        ("OS_CACERT", authority.display().to_string()),
    ];
    let mut text = String::from("unset OS_CLOUD\n");
    for (name, value) in pairs {
        text.push_str(&format!("export {name}='{}'\n", value.replace('\'', "'\\''")));
    }
    text
}

/// The password of a user in a `clouds.yaml` that we wrote, so that running `init` again keeps it.
pub fn password_in(text: &str, cloud: &str) -> Option<String> {
    let mut inside = false;
    for line in text.lines() {
        if line.starts_with("  ") && !line.starts_with("   ") {
            inside = line.trim() == format!("{cloud}:");
        } else if inside && let Some(password) = line.trim().strip_prefix("password: ") {
            return Some(password.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_found_again_by_its_cloud() {
        let account = |cloud, password| Account { cloud, user: "u", password, project: "p" };
        let text = clouds_yaml(
            &[account("meridian-admin", "first"), account("meridian", "second")],
            "https://127.0.0.1:5000",
            "region-1",
            Path::new("/ca.pem"),
        );
        assert_eq!(password_in(&text, "meridian-admin").as_deref(), Some("first"));
        assert_eq!(password_in(&text, "meridian").as_deref(), Some("second"));
        assert_eq!(password_in(&text, "other"), None);
    }

    #[test]
    fn openrc_quotes_what_a_shell_would_read() {
        let account = Account { cloud: "c", user: "u", password: "p", project: "it's" };
        let text = openrc(&account, "https://h:1", "region-1", Path::new("/ca.pem"));
        assert!(text.contains("export OS_PROJECT_NAME='it'\\''s'"), "{text}");
    }
}
