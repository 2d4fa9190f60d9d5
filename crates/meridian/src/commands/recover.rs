//! `meridian identity recover`: a way back in for whoever has the machine.

use anyhow::Result;
use control_plane::layout::Layout;

/// Makes an administrator for an hour and says how to log in. The cloud may run meanwhile.
pub async fn run(layout: &Layout) -> Result<()> {
    let (made, url) = control_plane::operator::recover(layout).await?;
    println!(
        "An administrator of the whole system, until {}. It is in the journal.\n\n\
         export OS_AUTH_URL={url}/identity/v3 OS_IDENTITY_API_VERSION=3 OS_SYSTEM_SCOPE=all\n\
         export OS_CACERT={} OS_USERNAME={} OS_USER_DOMAIN_ID={}\n\
         export OS_PASSWORD={}\n\n\
         Every rule allows this user everything, whatever the policy file says. Repair what keeps \
         the\nothers out; an hour from now the user is gone.",
        made.until.rfc3339_seconds(),
        layout.authority().display(),
        made.user,
        made.domain,
        made.password.as_str(),
    );
    Ok(())
}
