//! How soon a revocation is in force in other processes: three replicas over one PostgreSQL, a token
//! revoked at the first, and the others asked until they refuse it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use black_box::{Client, Cloud, Database, Replica, Setup};
use serde_json::json;

use crate::cloud::{Access, binaries};
use crate::table::{Samples, Table};

/// Replicas besides the one that revokes.
const OTHERS: usize = 2;
/// A revocation that has not arrived by then never will.
const DEADLINE: Duration = Duration::from_secs(30);

/// Measures a throw-away cloud on a PostgreSQL `database`: `times` revocations.
///
/// # Errors
/// When the cloud does not do what it should.
pub async fn measure(
    table: &mut Table,
    database: Database,
    parent: &Path,
    times: usize,
) -> Result<()> {
    let setup =
        Setup { parent: parent.to_owned(), binaries: Some(binaries()?), ..Setup::new(database) };
    let cloud = Cloud::start_with(setup).await?;
    let access = Access::of(cloud.state())?;
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        let mut replica = Replica::join(&cloud, None)?;
        replica.start().await?;
        others.push(replica);
    }
    let admin = access.admin().await?;
    let mut arrived = Vec::new();
    for _ in 0..times {
        let token = another_token(&admin).await?;
        let revoker = admin.clone().with_header("x-subject-token", &token);
        // Every replica has accepted the token, and has its connection, before the clock starts.
        let mut asked = Vec::new();
        for replica in &others {
            let asker = replica.anonymous()?.with_token(Some(token.clone()));
            asker.get("/identity/v3/auth/projects").await?.expect(200)?;
            asked.push(asker);
        }
        revoker.delete("/identity/v3/auth/tokens").await?.expect(204)?;
        let revoked = Instant::now();
        let waits = asked.iter().map(|asker| refused(asker, revoked));
        arrived.extend(futures::future::try_join_all(waits).await?);
    }
    table.times(
        "token revoked → refused by other replicas",
        "postgresql",
        None,
        &Samples::new(arrived),
        "< 1000 ms",
    );
    Ok(())
}

async fn another_token(admin: &Client) -> Result<String> {
    let own = admin.token().context("no token")?;
    let body = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": own}}}});
    let answer = admin.post("/identity/v3/auth/tokens", &body).await?.expect(201)?;
    let token = answer.headers.get("x-subject-token").context("no token in the answer")?;
    Ok(token.to_str()?.to_owned())
}

/// How long after `since` the token is refused.
async fn refused(asker: &Client, since: Instant) -> Result<Duration> {
    loop {
        match asker.get("/identity/v3/auth/projects").await?.status {
            401 => return Ok(since.elapsed()),
            200 => {}
            other => anyhow::bail!("the replica answers {other}"),
        }
        anyhow::ensure!(since.elapsed() < DEADLINE, "the token is still accepted");
    }
}
