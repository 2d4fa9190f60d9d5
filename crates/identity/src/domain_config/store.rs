//! The SQL of `identity_domain_config`.

use cloud_types::Fault;
use database::{DatabaseError, Tx, params};
use serde_json::Value;

use super::model::{Config, is_secret};
use crate::vault::{Column, Plain, Vault};

const PREFIX: &str = "domain config ";

/// What is sealed here.
pub(crate) const SEALED: Column = Column {
    table: "identity_domain_config",
    prefix: PREFIX,
    key: "(domain_id || '/' || option_group || '/' || option_name)",
    sealed: "sealed",
    key_id: None,
    plain: Some(Plain {
        column: "option_value",
        empty: NOTHING,
        rows: "option_group = 'ldap' AND option_name = 'password'",
    }),
};

/// What stands for a value that is sealed.
const NOTHING: &str = "null";

fn sealed_under(domain: &str, group: &str, option: &str) -> String {
    format!("{PREFIX}{domain}/{group}/{option}")
}

/// Everything that a domain has set. Of secrets there is only that they are set: they are null.
pub(crate) async fn get(tx: &mut Tx, domain: &str) -> Result<Config, DatabaseError> {
    let rows = tx
        .query(
            "SELECT * FROM identity_domain_config
             WHERE domain_id = $1 ORDER BY option_group, option_name",
            &params![domain],
        )
        .await?;
    let mut config = Config::new();
    for row in rows {
        let (group, option) = (row.text("option_group")?, row.text("option_name")?);
        let value =
            if is_secret(&group, &option) { Value::Null } else { row.json("option_value")? };
        config.entry(group).or_default().insert(option, value);
    }
    Ok(config)
}

/// Everything that a domain has set, with its secrets.
pub(crate) async fn opened(tx: &mut Tx, vault: &Vault, domain: &str) -> Result<Config, Fault> {
    let mut config = get(tx, domain).await?;
    for (group, options) in &mut config {
        for (option, value) in options {
            if is_secret(group, option) {
                *value = secret(tx, vault, domain, group, option).await?;
            }
        }
    }
    Ok(config)
}

async fn secret(
    tx: &mut Tx,
    vault: &Vault,
    domain: &str,
    group: &str,
    option: &str,
) -> Result<Value, Fault> {
    let row = tx
        .query_one(
            "SELECT option_value, sealed FROM identity_domain_config
             WHERE domain_id = $1 AND option_group = $2 AND option_name = $3",
            &params![domain, group, option],
        )
        .await?;
    let Some(sealed) = row.opt_bytes("sealed")? else {
        return Ok(row.json("option_value")?);
    };
    let text = vault.open_sealed(&sealed_under(domain, group, option), &sealed)?;
    serde_json::from_str(&text)
        .map_err(|_| Fault::internal("A secret of the domain's configuration cannot be read."))
}

/// Sets options; others stay. Secrets are sealed.
pub(crate) async fn set(
    tx: &mut Tx,
    vault: &Vault,
    domain: &str,
    config: &Config,
) -> Result<(), Fault> {
    for (group, options) in config {
        for (option, value) in options {
            let text = zeroize::Zeroizing::new(value.to_string());
            let sealed = match is_secret(group, option) {
                true => Some(vault.seal(tx, &sealed_under(domain, group, option), &text)?.bytes),
                false => None,
            };
            let shown = if sealed.is_some() { NOTHING } else { text.as_str() };
            tx.execute(
                "INSERT INTO identity_domain_config
                     (domain_id, option_group, option_name, option_value, sealed)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (domain_id, option_group, option_name) DO UPDATE
                 SET option_value = excluded.option_value, sealed = excluded.sealed",
                &params![domain, group, option, shown, sealed],
            )
            .await?;
        }
    }
    Ok(())
}

/// Unsets all, a group, or an option.
pub(crate) async fn delete(
    tx: &mut Tx,
    domain: &str,
    group: Option<&str>,
    option: Option<&str>,
) -> Result<(), DatabaseError> {
    tx.execute(
        "DELETE FROM identity_domain_config
         WHERE domain_id = $1 AND ($2 = '' OR option_group = $2)
             AND ($3 = '' OR option_name = $3)",
        &params![domain, group.unwrap_or(""), option.unwrap_or("")],
    )
    .await?;
    Ok(())
}
