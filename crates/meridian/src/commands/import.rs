//! `meridian identity import`: the people of a Keystone, from a dump of its database or its API.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use control_plane::layout::Layout;
use control_plane::operator::{self, ImportOptions, Lists, Snapshot};
use serde_json::Value;

/// Where the people come from, and what to do.
#[derive(Args)]
pub struct Import {
    /// State directory of this cloud.
    #[arg(long, env = "MERIDIAN_STATE", value_name = "DIR")]
    state: PathBuf,
    /// What `mysqldump keystone` or `mariadb-dump keystone` wrote: with the passwords' hashes.
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    dump: Option<PathBuf>,
    /// The other cloud's identity API, as in `https://keystone:5000/v3`: without passwords.
    #[arg(long, required_unless_present = "dump")]
    url: Option<String>,
    /// A token of an administrator of the other cloud.
    #[arg(long, env = "OS_TOKEN", hide_env_values = true, requires = "url")]
    token: Option<String>,
    /// The certificate authority of the other cloud (PEM).
    #[arg(long, env = "OS_CACERT", requires = "url")]
    authority: Option<PathBuf>,
    /// Only show what would be imported.
    #[arg(long)]
    dry_run: bool,
    /// Objects of the same name are the same, although their ids differ. What is here stays as it
    /// is; roles that were assigned there are assigned to what is here.
    #[arg(long)]
    same_names: bool,
}

/// Imports, or shows what would be imported. What is there already is left as it is.
pub async fn run(import: Import) -> Result<()> {
    let layout = Layout::new(std::path::absolute(&import.state)?);
    let snapshot = match (&import.dump, &import.url) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{}: it has to be text in UTF-8", path.display()))?;
            Snapshot::from_dump(&text).with_context(|| path.display().to_string())?
        }
        (None, Some(url)) => {
            let token = import.token.as_deref().context(
                "give a token of an administrator there: OS_TOKEN=$(openstack token issue -f \
                 value -c id)",
            )?;
            read_api(url, token, import.authority.as_deref()).await?.snapshot()?
        }
        (None, None) => bail!("give --dump or --url"),
    };
    let options = ImportOptions { same_names: import.same_names };
    let plan = operator::import(&layout, snapshot, options, import.dry_run).await?;
    print!("{plan}");
    if import.dry_run {
        if !plan.conflicts.is_empty() {
            bail!("{} conflict(s): nothing could be imported", plan.conflicts.len());
        }
        println!("Nothing was changed.");
    }
    Ok(())
}

struct Api {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Api {
    /// All pages of a list.
    async fn list(&self, path: &str, key: &str) -> Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut next = Some(format!("{}{path}", self.base));
        while let Some(url) = next {
            let answer = self.http.get(&url).header("x-auth-token", &self.token).send().await;
            let answer = answer.with_context(|| url.clone())?;
            let status = answer.status();
            if !status.is_success() {
                bail!("{url} answers {status}: an administrator's token is wanted");
            }
            let body: Value = answer.json().await.with_context(|| url.clone())?;
            let rows = body[key].as_array().with_context(|| format!("no {key} in {url}"))?;
            all.extend(rows.iter().cloned());
            next = body["links"]["next"].as_str().map(str::to_owned);
        }
        Ok(all)
    }
}

async fn read_api(url: &str, token: &str, authority: Option<&Path>) -> Result<Lists> {
    let mut builder = reqwest::Client::builder().timeout(std::time::Duration::from_secs(120));
    if let Some(path) = authority {
        let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
        builder = builder.tls_certs_merge([reqwest::Certificate::from_pem(&pem)?]);
    }
    let api = Api {
        http: builder.build()?,
        base: url.trim_end_matches('/').to_owned(),
        token: token.to_owned(),
    };
    let groups = api.list("/groups", "groups").await?;
    let mut members = Vec::with_capacity(groups.len());
    for group in &groups {
        let id = group["id"].as_str().context("a group without an id")?.to_owned();
        let users = api.list(&format!("/groups/{id}/users"), "users").await?;
        members.push((id, users));
    }
    Ok(Lists {
        domains: api.list("/domains", "domains").await?,
        projects: api.list("/projects", "projects").await?,
        users: api.list("/users", "users").await?,
        roles: api.list("/roles", "roles").await?,
        inferences: api.list("/role_inferences", "role_inferences").await?,
        assignments: api.list("/role_assignments", "role_assignments").await?,
        groups,
        members,
    })
}
