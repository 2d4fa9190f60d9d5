//! From the request for a server to its QEMU, and to the guest's first words, on a real host.

use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use black_box::{Client, Cloud, Database, Setup};
use serde_json::json;

use crate::bare;
use crate::cloud::{Access, binaries};
use crate::host::{Host, Namespace, commands};
use crate::logs::{self, Moments};
use crate::memory;
use crate::simulated::wait_until_up;
use crate::suites::{Disk, World};
use crate::table::{Row, Samples, Table};

/// How long a server may take to be executed, or to go.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a guest may take to ask for its address: it is translated, not run.
const BOOT: Duration = Duration::from_secs(180);
/// Between two looks at something.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// MiB of each guest.
const GUEST_MIB: u32 = 128;

/// How much is done.
#[derive(Clone, Copy)]
pub struct Amount {
    /// Servers that are followed until QEMU is executed.
    pub starts: usize,
    /// Servers that are followed until they ask for an address, and bare guests beside them.
    pub boots: usize,
}

/// One server's way, in microseconds since 1970.
struct Way {
    id: String,
    sent: i64,
    accepted: i64,
    moments: Moments,
}

/// Measures a throw-away cloud whose one host is this machine.
///
/// # Errors
/// When a part of it does not do what it should.
pub async fn measure(
    table: &mut Table,
    name: &str,
    database: Database,
    parent: &Path,
    image: &Path,
    amount: Amount,
) -> Result<()> {
    let prefix = format!("b{:04x}", std::process::id() & 0xffff);
    let namespace = Namespace::make(&prefix, parent)?;
    let setup = Setup {
        parent: parent.to_owned(),
        binaries: Some(binaries()?),
        gateway: IpAddr::V4(namespace.addresses().0),
        prefix,
        ..Setup::new(database)
    };
    let cloud = Cloud::start_with(setup).await?;
    let host = Host::start(&cloud, &namespace).await?;
    let bytes = std::fs::read(image).with_context(|| image.display().to_string())?;
    let disk = Disk { bytes, format: "qcow2" };
    let flavor = json!({"name": "bench", "ram": GUEST_MIB, "vcpus": 1, "disk": 1});
    let world = World::prepare(Access::of(cloud.state())?, disk, flavor).await?;
    let client = world.client()?;
    wait_until_up(&client, 1).await.with_context(|| last_lines(&host.log()))?;
    let scene = Scene { cloud: &cloud, host: &host, world: &world, client };

    // The first fetches the image to the host's cache.
    let first = scene.follow("first").await?;
    scene.remove(&first.id).await?;
    let mut ways = Vec::with_capacity(amount.starts);
    for number in 0..amount.starts {
        let way = scene.follow(&format!("start-{number}")).await?;
        scene.remove(&way.id).await?;
        ways.push(way);
    }
    stages(table, name, &ways);
    table.add(Row {
        what: format!("memory: agent of a real host, {} starts", amount.starts + 1),
        place: name.to_owned(),
        clients: None,
        count: (1, 0),
        elapsed: None,
        middle: memory::pss_mib(agent_process(&host)).context("no PSS of the agent")?,
        slowest: None,
        unit: "MiB",
        goal: "< 25 MB",
    });
    scene.first_words(table, name, parent, amount.boots).await
}

/// The agent itself, which `nsenter` became.
fn agent_process(host: &Host) -> u32 {
    host.agent().id()
}

struct Scene<'a> {
    cloud: &'a Cloud,
    host: &'a Host,
    world: &'a World,
    client: Client,
}

impl Scene<'_> {
    /// Asks for a server and waits until its QEMU runs.
    async fn follow(&self, name: &str) -> Result<Way> {
        let sent = logs::now();
        let id = self.world.create_server(&self.client, Some(name.to_owned())).await?;
        let accepted = logs::now();
        let begun = Instant::now();
        loop {
            let (control_plane, host) = (self.cloud.control_plane_log(), self.host.log());
            if let Some(moments) = logs::moments(&control_plane, &host, &id)? {
                return Ok(Way { id, sent, accepted, moments });
            }
            if begun.elapsed() > PATIENCE {
                bail!("server {name} was not started: {}", last_lines(&host));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Deletes a server and waits until nothing is left of it.
    async fn remove(&self, id: &str) -> Result<()> {
        let path = format!("/compute/v2.1/servers/{id}");
        self.client.delete(&path).await?.expect(204)?;
        let begun = Instant::now();
        while self.client.get(&path).await?.status != 404 {
            if begun.elapsed() > PATIENCE {
                bail!("server {id} does not go away: {}", last_lines(&self.host.log()));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Until guests ask for an address: under Meridian, and bare QEMU with the same arguments.
    async fn first_words(
        &self,
        table: &mut Table,
        name: &str,
        parent: &Path,
        boots: usize,
    ) -> Result<()> {
        let (mut whole, mut booted, mut alone) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..boots {
            let way = self.follow(&format!("boot-{number}")).await?;
            let asked = self.asked_for_address(&way.id).await?;
            let own = format!("guest={}:", way.id);
            let command = commands()
                .into_iter()
                .map(|(_, command)| command)
                .find(|command| command.contains(&own))
                .context("the guest's process is gone")?;
            self.remove(&way.id).await?;
            whole.push(between(way.accepted, asked));
            booted.push(between(way.moments.executed, asked));
            alone.push(bare::first_words(&command, parent, BOOT).await?);
        }
        let rows = [
            ("accepted → guest's first DHCP request", whole),
            ("  of it from QEMU's exec", booted),
            ("bare QEMU, exec → first DHCP request", alone),
        ];
        for (what, times) in rows {
            table.times(what, name, None, &Samples::new(times), "");
        }
        Ok(())
    }

    async fn asked_for_address(&self, server: &str) -> Result<i64> {
        let path = format!("/network/v2.0/ports?device_id={server}");
        let ports = self.client.get(&path).await?.expect(200)?;
        let port = ports.json["ports"][0]["id"].as_str().context("the server has no port")?;
        let own = format!("port={port}");
        let begun = Instant::now();
        loop {
            let log = self.host.log();
            if let Some((time, _)) = logs::find(&log, &["DHCP request", &own]) {
                return Ok(time);
            }
            if begun.elapsed() > BOOT {
                bail!("the guest did not ask for an address: {}", last_lines(&log));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Since the request was sent; and the one that has a goal, since it was accepted.
fn stages(table: &mut Table, name: &str, ways: &[Way]) {
    type Moment = fn(&Way) -> i64;
    let all: [(&str, Moment); 8] = [
        ("server start: accepted", |way| way.accepted),
        ("server start: scheduled", |way| way.moments.scheduled),
        ("server start: documents written", |way| way.moments.written),
        ("server start: documents stored on the host", |way| way.moments.received),
        ("server start: disk made", |way| way.moments.disks),
        ("server start: network ready", |way| way.moments.ports),
        ("server start: QEMU executed", |way| way.moments.executed),
        ("server start: monitor answers", |way| way.moments.running),
    ];
    for (what, moment) in all {
        let times = ways.iter().map(|way| between(way.sent, moment(way))).collect();
        table.times(what, name, None, &Samples::new(times), "");
    }
    let times = ways.iter().map(|way| between(way.accepted, way.moments.executed)).collect();
    let goal = "p50 < 150 ms, p99 < 400 ms";
    table.times("accepted → QEMU executed", name, None, &Samples::new(times), goal);
}

fn between(from: i64, to: i64) -> Duration {
    Duration::from_micros(u64::try_from(to - from).unwrap_or(0))
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(12).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
