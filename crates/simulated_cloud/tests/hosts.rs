//! Simulated hosts under a real control plane, seen through the public API and through what
//! stands on their machines.

mod support;

use anyhow::Result;
use black_box::{Cloud, Database, until};
use simulated_cloud::Standing;

use support::Tenant;

/// The machine outlives the agent's process: a guest that ran still runs, and is not started anew.
#[tokio::test]
async fn a_guest_outlives_the_agents_process() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let mut hosts = cloud.simulated_hosts(2).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let server = tenant.boot("survivor").await?;
    let shown = tenant.active(&server).await?;
    assert!(shown["addresses"]["net"][0]["addr"].is_string(), "{shown}");
    let name = shown["OS-EXT-SRV-ATTR:hypervisor_hostname"].as_str().unwrap_or_default();
    let number: usize = name.trim_start_matches("sim-").parse()?;
    let before = Standing::read(&hosts.machine(number))?;
    assert_eq!(before.starts, [(server.clone(), 1)]);

    hosts.kill();
    hosts.restart(&cloud, &[])?;
    hosts.wait_until_up(&cloud).await?;
    let after = Standing::read(&hosts.machine(number))?;
    assert_eq!((after.guests, after.starts), (before.guests, before.starts));

    tenant.delete(&server).await?;
    until("nothing to be left on the machine", || async {
        Standing::read(&hosts.machine(number)).is_ok_and(|now| {
            now.guests.is_empty() && now.disks.is_empty() && now.devices.is_empty()
        })
    })
    .await;
    Ok(())
}
