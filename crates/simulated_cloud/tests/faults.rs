//! What goes wrong on hosts and in the control plane, end to end: each fault is either waited out
//! or said in words that its caller can use, nothing is lost by it, and nobody has to help.

mod support;

use anyhow::{Context, Result, ensure};
use black_box::{Cloud, Database, Hosts, until};
use serde_json::{Value, json};
use simulated_cloud::Standing;

use support::{Tenant, path, text};

/// How many guests a machine runs.
fn guests(hosts: &Hosts, number: usize) -> usize {
    Standing::read(&hosts.machine(number)).map_or(usize::MAX, |now| now.guests.len())
}

fn fault(shown: &Value) -> String {
    shown["fault"]["message"].as_str().unwrap_or_default().to_owned()
}

/// A QEMU that dies at once on one host is tried on another; when it dies everywhere, its last
/// words are the server's fault.
#[tokio::test]
async fn a_qemu_that_dies_at_once() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(2).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let words = "qemu-system-x86_64: could not allocate the guest's memory";
    // Whichever is tried first.
    let lucky = tenant.boot("lucky").await?;
    let first = tenant.active(&lucky).await?;
    let first = text(&first["OS-EXT-SRV-ATTR:hypervisor_hostname"])?;
    tenant.delete(&lucky).await?;
    let (broken, whole) = if first == "sim-1" { (1, 2) } else { (2, 1) };
    hosts.break_machine(broken, "qemu_dies", words)?;
    for name in ["moved-1", "moved-2"] {
        let id = tenant.boot(name).await?;
        tenant.active(&id).await?;
    }
    ensure!((guests(&hosts, broken), guests(&hosts, whole)) == (0, 2), "not where it works");

    hosts.break_machine(whole, "qemu_dies", words)?;
    let id = tenant.boot("hopeless").await?;
    let shown = tenant.settled(&id).await;
    ensure!(shown["status"] == "ERROR", "{shown}");
    ensure!(fault(&shown).contains(words), "{}", fault(&shown));
    tenant.delete(&id).await?;
    until("nothing to be left of it", || async {
        [1, 2].iter().all(|number| {
            Standing::read(&hosts.machine(*number)).is_ok_and(|now| {
                !now.disks.contains_key(&id) && now.disks.len() == now.devices.len()
            })
        })
    })
    .await;

    hosts.mend_machine(broken, "qemu_dies")?;
    let id = tenant.boot("mended").await?;
    tenant.active(&id).await?;
    Ok(())
}

/// A host without space keeps the server waiting, and starts it once there is some.
#[tokio::test]
async fn a_host_whose_disk_is_full() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let before = tenant.boot("before").await?;
    tenant.active(&before).await?;
    hosts.break_machine(1, "disk_full", "no space left on device")?;
    let id = tenant.boot("waiting").await?;
    until("the host to find its disk full", || async { hosts.log().contains("disk_full") }).await;
    ensure!(tenant.show(&id).await?["status"] == "BUILD");
    hosts.mend_machine(1, "disk_full")?;
    tenant.active(&id).await?;
    ensure!(tenant.show(&before).await?["status"] == "ACTIVE");
    ensure!(Standing::read(&hosts.machine(1))?.starts.len() == 2, "a guest was started twice");
    Ok(())
}

/// While the switch is away guests go on, what is new waits, and everything is made up for.
#[tokio::test]
async fn a_switch_that_is_away() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let before = tenant.boot("before").await?;
    tenant.active(&before).await?;
    hosts.break_machine(1, "switch_down", "")?;
    let id = tenant.boot("waiting").await?;
    let away = || async { hosts.log().contains("the network is not as wanted yet") };
    until("the host to miss its switch", away).await;
    ensure!(tenant.show(&id).await?["status"] == "BUILD");
    ensure!(guests(&hosts, 1) == 1, "a guest was started without its port, or one has ended");
    hosts.mend_machine(1, "switch_down")?;
    tenant.active(&id).await?;
    ensure!(Standing::read(&hosts.machine(1))?.ports.len() == 2);
    tenant.delete(&id).await?;
    tenant.delete(&before).await?;
    until("the host to be empty", || async {
        Standing::read(&hosts.machine(1)).is_ok_and(|now| now.ports.is_empty())
    })
    .await;
    Ok(())
}

/// The image that a request names, its file in the store, and what is in the file: each may be
/// missing or wrong, and the owner reads which.
#[tokio::test]
async fn images_that_are_missing_or_not_what_they_say() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = Hosts::start_with(&cloud, 1, &["--fetch-images"]).await?;
    let tenant = Tenant::prepare(&cloud).await?;

    let mut wish = tenant.wish("nothing");
    let nobody = "5f1c8d6e-3b0a-4c7a-9a53-6f4f3a1f0e11";
    wish["server"]["imageRef"] = json!(nobody);
    let refused = tenant.user.post("/compute/v2.1/servers", &wish).await?.expect(400)?;
    ensure!(refused.text.contains(nobody), "{}", refused.text);

    // Declared qcow2, and no such thing: refused at the upload, which can be made again.
    let image = json!({"name": "liar", "disk_format": "qcow2", "container_format": "bare"});
    let image = tenant.user.post("/image/v2/images", &image).await?.expect(201)?;
    let image = text(&image.json["id"])?;
    let file = format!("/image/v2/images/{image}/file");
    let refused = tenant.user.upload(&file, vec![0; 4096]).await?;
    ensure!((400..500).contains(&refused.status), "{}: {}", refused.status, refused.text);
    ensure!(refused.text.contains("qcow2"), "{}", refused.text);
    let shown = tenant.user.get(&format!("/image/v2/images/{image}")).await?.expect(200)?;
    ensure!(shown.json["status"] == "queued", "{}", shown.text);
    let early = tenant.user.post("/compute/v2.1/servers", &tenant.wish_of("early", &image)).await?;
    ensure!((400..500).contains(&early.status), "{}: {}", early.status, early.text);

    // The file in the store is not what was uploaded: the host finds out.
    let bytes = vec![7; 8192];
    let image = tenant.upload("spoilt", bytes.clone()).await?;
    let stored = stored_file(&cloud, &bytes)?;
    std::fs::write(&stored, vec![8; 8192])?;
    let id = tenant.boot_of("spoilt", &image).await?;
    let shown = tenant.settled(&id).await;
    ensure!(shown["status"] == "ERROR" && fault(&shown).contains(&image), "{}", fault(&shown));
    tenant.delete(&id).await?;

    // It is not there at all.
    std::fs::remove_file(&stored)?;
    let id = tenant.boot_of("lost", &image).await?;
    let shown = tenant.settled(&id).await;
    ensure!(shown["status"] == "ERROR" && fault(&shown).contains(&image), "{}", fault(&shown));
    tenant.delete(&id).await?;

    // It is put back, and nobody has to do anything else.
    std::fs::write(&stored, &bytes)?;
    let id = tenant.boot_of("well", &image).await?;
    tenant.active(&id).await?;
    ensure!(guests(&hosts, 1) == 1);
    Ok(())
}

/// The file below the zone's store with these contents.
fn stored_file(cloud: &Cloud, bytes: &[u8]) -> Result<std::path::PathBuf> {
    for entry in std::fs::read_dir(cloud.state().join("zone/images/images"))? {
        let path = entry?.path();
        if std::fs::read(&path).is_ok_and(|found| found == bytes) {
            return Ok(path);
        }
    }
    anyhow::bail!("the uploaded file is not in the store")
}

/// The same key is the same request, one after the other or all at once.
#[tokio::test]
async fn two_creates_with_one_idempotency_key() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let user = tenant.user.clone().with_header("Idempotency-Key", "one");
    let body = tenant.wish("one");
    let first = user.post("/compute/v2.1/servers", &body).await?.expect(202)?;
    let again = user.post("/compute/v2.1/servers", &body).await?.expect(202)?;
    ensure!(first.json == again.json, "{} and {}", first.text, again.text);

    let user = tenant.user.clone().with_header("Idempotency-Key", "many");
    let body = tenant.wish("many");
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (user, body) = (user.clone(), body.clone());
        requests.spawn(async move { user.post("/compute/v2.1/servers", &body).await });
    }
    let mut answers = Vec::new();
    for answer in requests.join_all().await {
        answers.push(answer?.expect(202)?.json);
    }
    ensure!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");

    for answer in [&first.json, &answers[0]] {
        tenant.active(&text(&answer["server"]["id"])?).await?;
    }
    let listed = tenant.user.get("/compute/v2.1/servers").await?.expect(200)?;
    ensure!(listed.json["servers"].as_array().map(Vec::len) == Some(2), "{}", listed.text);
    ensure!(Standing::read(&hosts.machine(1))?.starts.len() == 2);
    let usage = tenant.user.get("/compute/v2.1/limits").await?.expect(200)?;
    ensure!(usage.json["limits"]["absolute"]["totalInstancesUsed"] == 2, "{}", usage.text);
    Ok(())
}

/// The clock jumps a day ahead and two days back, with a server being built each time. Guests do
/// not notice, what is under way ends, and what is new works.
#[tokio::test]
async fn a_clock_that_jumps() -> Result<()> {
    let mut cloud = Cloud::start(&Database::Sqlite).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let shift = cloud.state().join("clock-shift");
    cloud.kill_control_plane();
    cloud.set_environment("MERIDIAN_CLOCK_SHIFT", &shift.display().to_string());
    cloud.start_control_plane().await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let steady = tenant.boot("steady").await?;
    tenant.active(&steady).await?;
    let mut tenant = tenant;
    let day: i64 = 24 * 3600;
    for (round, seconds) in [day, -day, 0].into_iter().enumerate() {
        // Held up on its host, so that the jump finds it in the middle.
        hosts.break_machine(1, "disk_full", "no space left on device")?;
        let name = format!("round-{round}");
        let caught = tenant.boot(&name).await?;
        until("the server to be held up", || async {
            tenant
                .show(&caught)
                .await
                .is_ok_and(|shown| shown["OS-EXT-STS:task_state"] == "spawning")
        })
        .await;
        std::fs::write(&shift, seconds.to_string())?;
        hosts.mend_machine(1, "disk_full")?;
        tenant.renew(&cloud).await.context("logging in after the jump")?;
        hosts.wait_until_up(&cloud).await?;
        let shown = tenant.settled(&caught).await;
        let said = fault(&shown);
        ensure!(
            shown["status"] == "ACTIVE" || said.contains("was not finished within"),
            "{}: {said}",
            shown["status"]
        );
        tenant.delete(&caught).await?;
        let new = tenant.boot("new").await?;
        tenant.active(&new).await?;
        tenant.delete(&new).await?;
        ensure!(tenant.show(&steady).await?["status"] == "ACTIVE");
        let starts = Standing::read(&hosts.machine(1))?.starts;
        ensure!(starts.iter().filter(|(id, _)| *id == steady).count() == 1, "{starts:?}");
        until("only the steady guest to be there", || async { guests(&hosts, 1) == 1 }).await;
    }
    Ok(())
}

/// A stopped agent is noticed, its guests go on, what is new goes elsewhere, and what was asked
/// meanwhile is done when it goes on.
#[tokio::test]
async fn an_agent_that_stands_still() -> Result<()> {
    let cloud = Cloud::start(&Database::Sqlite).await?;
    let mut still = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let kept = tenant.boot("kept").await?;
    let doomed = tenant.boot("doomed").await?;
    for id in [&kept, &doomed] {
        tenant.active(id).await?;
    }
    still.process().context("no process")?.signal(nix::sys::signal::Signal::SIGSTOP);
    let down = || async {
        let listed = tenant.admin.get("/compute/v2.1/os-hypervisors/detail").await;
        listed.is_ok_and(|hosts| hosts.json["hypervisors"][0]["state"] == "down")
    };
    support::until_long("the host to be seen as down", down).await;
    // Nothing is torn down because somebody could not be reached.
    ensure!(tenant.show(&kept).await?["status"] == "ACTIVE");
    let id = tenant.boot("nowhere").await?;
    let shown = tenant.settled(&id).await;
    ensure!(shown["status"] == "ERROR" && fault(&shown).contains("host"), "{}", fault(&shown));
    tenant.delete(&id).await?;
    // For its owner a server is gone at once.
    tenant.delete(&doomed).await?;
    ensure!(guests(&still, 1) == 2, "somebody acted on a host that stood still");

    still.process().context("no process")?.signal(nix::sys::signal::Signal::SIGCONT);
    still.wait_until_up(&cloud).await?;
    until("the deleted server to be gone from the host", || async { guests(&still, 1) == 1 }).await;
    let now = Standing::read(&still.machine(1))?;
    ensure!(now.guests.contains_key(&kept) && now.starts.len() == 2, "{now:?}");
    ensure!(tenant.show(&kept).await?["status"] == "ACTIVE");
    let id = tenant.boot("after").await?;
    tenant.active(&id).await?;
    ensure!(tenant.user.get(&path(&doomed)).await?.status == 404);
    Ok(())
}
