//! A control plane whose database cannot be written: the disk is full, or read-only. It says so,
//! goes on reading, loses nothing, and goes on writing when it can. Guests do not notice.

mod support;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use black_box::{Answer, Cloud, Database, Hosts, until};
use serde_json::json;
use simulated_cloud::Standing;

use support::Tenant;

/// A file system in memory of a size of its own.
struct Mount(tempfile::TempDir);

impl Mount {
    fn new() -> Result<Mount> {
        let directory = tempfile::Builder::new().prefix("meridian-test-disk-").tempdir()?;
        let mount = Mount(directory);
        mount.run(&["-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs"])?;
        Ok(mount)
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("mount").args(arguments).arg(self.0.path()).output()?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all space that is left.
    fn fill(&self) -> Result<()> {
        use std::io::Write;
        let mut file = std::fs::File::create(self.path().join("ballast"))?;
        for size in [1 << 16, 1 << 12, 1 << 8] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        Ok(())
    }

    fn empty(&self) -> Result<()> {
        Ok(std::fs::remove_file(self.path().join("ballast"))?)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// Refused for now, in words of the caller's, without ours.
fn refused(answer: &Answer, word: &str) -> Result<()> {
    ensure!(answer.status == 503, "{}: {}", answer.status, answer.text);
    ensure!(answer.text.contains(word), "{}", answer.text);
    ensure!(!answer.text.to_lowercase().contains("sqlite"), "{}", answer.text);
    Ok(())
}

async fn cannot_be_written(
    mount: &Mount,
    cloud: &mut Cloud,
    hosts: &Hosts,
    tenant: &Tenant,
    word: &str,
) -> Result<()> {
    let network = |name: &str| json!({"network": {"name": name}});
    // The last free page may still take a small change; soon nothing does.
    let mut made = Vec::new();
    let answer = loop {
        let name = format!("filler-{}", made.len());
        let answer = tenant.user.post("/network/v2.0/networks", &network(&name)).await?;
        if answer.status != 201 {
            break answer;
        }
        made.push(name);
        ensure!(made.len() < 5000, "the disk does not become full");
    };
    refused(&answer, word)?;
    refused(&tenant.user.post("/compute/v2.1/servers", &tenant.wish("refused")).await?, word)?;
    let listed = tenant.user.get("/network/v2.0/networks").await?.expect(200)?;
    let names = listed.text.clone();
    for name in &made {
        ensure!(names.contains(&format!("\"{name}\"")), "{name} was acknowledged and is lost");
    }
    ensure!(Standing::read(&hosts.machine(1))?.guests.len() == 1, "a guest has ended");
    // What is killed in this state comes back, and reads.
    cloud.kill_control_plane();
    let _ = mount;
    Ok(())
}

/// Everything works again, without anybody's help.
async fn has_healed(cloud: &Cloud, hosts: &Hosts, tenant: &Tenant, name: &str) -> Result<()> {
    until("the database to be written again", || async {
        let body = json!({"network": {"name": name}});
        tenant
            .user
            .post("/network/v2.0/networks", &body)
            .await
            .is_ok_and(|answer| answer.status == 201)
    })
    .await;
    hosts.wait_until_up(cloud).await?;
    let id = tenant.boot(name).await?;
    tenant.active(&id).await.context("a server after the fault")?;
    tenant.delete(&id).await
}

#[tokio::test]
async fn a_database_on_a_full_disk() -> Result<()> {
    let mount = Mount::new()?;
    let mut cloud = Cloud::start(&Database::File(mount.path().join("meridian.sqlite"))).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let steady = tenant.boot("steady").await?;
    tenant.active(&steady).await?;
    mount.fill()?;
    cannot_be_written(&mount, &mut cloud, &hosts, &tenant, "full").await?;
    mount.empty()?;
    cloud.start_control_plane().await?;
    has_healed(&cloud, &hosts, &tenant, "after").await?;
    // And without a restart.
    mount.fill()?;
    until("the disk to be full again", || async {
        let body = json!({"network": {"name": "again"}});
        tenant
            .user
            .post("/network/v2.0/networks", &body)
            .await
            .is_ok_and(|answer| answer.status == 503)
    })
    .await;
    mount.empty()?;
    has_healed(&cloud, &hosts, &tenant, "healed").await?;
    ensure!(tenant.show(&steady).await?["status"] == "ACTIVE");
    ensure!(Standing::read(&hosts.machine(1))?.guests.len() == 1);
    Ok(())
}

#[tokio::test]
async fn a_database_on_a_read_only_disk() -> Result<()> {
    let mount = Mount::new()?;
    let file = mount.path().join("meridian.sqlite");
    let mut cloud = Cloud::start(&Database::File(file.clone())).await?;
    let hosts = cloud.simulated_hosts(1).await?;
    let tenant = Tenant::prepare(&cloud).await?;
    let steady = tenant.boot("steady").await?;
    tenant.active(&steady).await?;
    // A file system with open files cannot become read-only: the process is killed, as the
    // machine is by the fault that makes its disk so.
    cloud.kill_control_plane();
    mount.run(&["-o", "remount,ro"])?;
    cloud.start_control_plane().await?;
    cannot_be_written(&mount, &mut cloud, &hosts, &tenant, "read-only").await?;
    mount.run(&["-o", "remount,rw"])?;
    cloud.start_control_plane().await?;
    has_healed(&cloud, &hosts, &tenant, "after").await?;
    ensure!(tenant.show(&steady).await?["status"] == "ACTIVE");
    Ok(())
}
