//! SIGKILL at every step of a server's creation and of its deletion: to the control plane, to the
//! host's agent, and to both. Whatever the instant, once the process is started again the server
//! ends ACTIVE with exactly one guest and an address, or in ERROR with a reason; and after its
//! deletion nothing is left of it anywhere.
//!
//! The instants are not listed here: one server is created and deleted while both processes write
//! down the points that they pass (see the crate `kill_points`), and each is then struck in turn.
//! A third of them is struck in one run, chosen by the commit; `MERIDIAN_KILL_MATRIX=all` strikes
//! every one.

mod support;

use std::collections::BTreeMap;

use anyhow::Result;

use support::strikes::{Part, Point, Strikes, Victims};

/// Which third of the points this run strikes.
fn part() -> Part {
    match std::env::var("MERIDIAN_KILL_MATRIX").as_deref() {
        Ok("all") => Part::All,
        Ok(number) => Part::Third(number.parse().unwrap_or_default()),
        Err(_) => Part::Third(support::commit_number()),
    }
}

async fn strike_all(victims: Victims) -> Result<()> {
    let mut strikes = Strikes::prepare(victims).await?;
    let (create, delete) = strikes.discover().await?;
    let (create, delete) = (part().of(create), part().of(delete));
    println!("{} points of create and {} of delete", create.len(), delete.len());
    let mut struck: BTreeMap<Point, bool> = BTreeMap::new();
    for round in 0..create.len().max(delete.len()) {
        let (at_create, at_delete) = (create.get(round), delete.get(round));
        let server = strikes.create(round, at_create, &mut struck).await?;
        strikes.delete(&server, at_delete, &mut struck).await?;
    }
    let missed: Vec<_> = struck.iter().filter(|(_, died)| !**died).map(|(at, _)| at).collect();
    println!("{} struck, not passed this time: {missed:?}", struck.len() - missed.len());
    // Points that are passed by chance (a second look, a repeated report) may be missed; most not.
    anyhow::ensure!(missed.len() * 5 <= struck.len(), "too many points were missed: {missed:?}");
    strikes.report_errors();
    Ok(())
}

#[tokio::test]
async fn a_control_plane_that_is_killed_at_any_step() -> Result<()> {
    strike_all(Victims::ControlPlane).await
}

#[tokio::test]
async fn an_agent_that_is_killed_at_any_step() -> Result<()> {
    strike_all(Victims::Agents).await
}

#[tokio::test]
async fn both_killed_at_any_step_of_either() -> Result<()> {
    strike_all(Victims::Both).await
}
