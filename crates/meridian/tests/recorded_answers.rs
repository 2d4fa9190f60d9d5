//! This cloud's answers beside those of the services whose API it speaks: the same requests, and
//! whatever a client would notice (see `black_box::recorded`).

use anyhow::Result;
use black_box::recorded::{
    Account, Answers, Difference, Differences, Talk, compare, directory, read_requests,
};
use black_box::{Cloud, Database};

/// Sends the group's requests to `cloud` and fails with everything that differs and should not.
async fn check(cloud: &Cloud, group: &str, hosts: &[&str]) -> Result<()> {
    let accounts = [
        Account { name: "admin".into(), password: cloud.password("meridian-admin")? },
        Account { name: "demo".into(), password: cloud.password("meridian")? },
    ];
    let identity = format!("{}/identity/v3", cloud.base());
    let authority = std::fs::read(cloud.state().join("pki/ca.pem"))?;
    let mut talk = Talk::begin(&identity, Some(&authority), &accounts).await?.with_hosts(hosts);
    let requests = read_requests(group)?;
    let answers = talk.all(&requests).await?;
    let text = std::fs::read_to_string(directory().join(format!("answers/{group}.json")))?;
    let recorded: Answers = serde_json::from_str(&text)?;
    let mut found: Vec<Difference> = Vec::new();
    for request in requests.iter().filter(|request| request.record) {
        let name = format!("{group}: {}", request.name);
        match recorded.get(&request.name) {
            Some(old) => {
                found.extend(compare(&name, old, &answers[&request.name], request.shapes));
            }
            None => anyhow::bail!("{name}: no answer is recorded; run the recorder again"),
        }
    }
    let table = Differences::read()?;
    found.retain(|difference| !table.allow(difference));
    let mut complaints: Vec<String> = found.iter().map(ToString::to_string).collect();
    complaints.extend(
        table.stale(group).into_iter().map(|entry| format!("allowed, but not so: {entry}")),
    );
    assert!(
        complaints.is_empty(),
        "{} differences that tests/recorded/differences.toml does not explain:\n{}",
        complaints.len(),
        complaints.join("\n")
    );
    Ok(())
}

#[tokio::test]
async fn discovery() -> Result<()> {
    check(&Cloud::start(&Database::Sqlite).await?, "discovery", &[]).await
}

#[tokio::test]
async fn identity() -> Result<()> {
    check(&Cloud::start(&Database::Sqlite).await?, "identity", &[]).await
}

#[tokio::test]
async fn image() -> Result<()> {
    check(&Cloud::start(&Database::Sqlite).await?, "image", &[]).await
}

#[tokio::test]
async fn network() -> Result<()> {
    check(&Cloud::start(&Database::Sqlite).await?, "network", &[]).await
}

#[tokio::test]
async fn compute() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let _hosts = cloud.simulated_hosts(1).await?;
    check(&cloud, "compute", &["sim-1"]).await
}
