//! This machine as a host of a throw-away cloud: a network namespace with Open vSwitch in it, the
//! real agent, real QEMU.
//!
//! ```text
//!   machine                    │ namespace PREFIX-host
//!   control plane ── PREFIX-up ╪══ PREFIX-dn ── agent, QEMU, Open vSwitch
//! ```

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use black_box::{Cloud, Process};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long Open vSwitch may take to answer.
const START: Duration = Duration::from_secs(20);
/// The schema of Debian's openvswitch-switch.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// Says when a guest asked for its address.
const LOG: &str = "info,host_agent::responders::dhcp=debug";

/// A namespace and the cable to it. Gone with its handle, with everything in it.
pub struct Namespace {
    prefix: String,
    state: PathBuf,
}

impl Namespace {
    /// Makes the namespace of this prefix for the cloud whose files are below `state`.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn make(prefix: &str, state: &Path) -> Result<Self> {
        let made = Namespace { prefix: prefix.to_owned(), state: state.to_owned() };
        run("ip", &["netns", "add", &made.name()])?;
        made.run("ip", &["link", "set", "lo", "up"])?;
        let (up, down) = (format!("{prefix}-up"), format!("{prefix}-dn"));
        let cable = ["type", "veth", "peer", "name", &down, "netns", &made.name()];
        run("ip", &[&["link", "add", &up][..], &cable].concat())?;
        let (outside, inside) = made.addresses();
        run("ip", &["address", "add", &format!("{outside}/30"), "dev", &up])?;
        run("ip", &["link", "set", &up, "up"])?;
        made.run("ip", &["address", "add", &format!("{inside}/30"), "dev", &down])?;
        made.run("ip", &["link", "set", &down, "up"])?;
        Ok(made)
    }

    fn name(&self) -> String {
        format!("{}-host", self.prefix)
    }

    /// The machine's address on the cable and the namespace's, out of the networks that are set
    /// aside for measurements (RFC 2544); the process decides which.
    pub fn addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        let base = u32::from(Ipv4Addr::new(198, 19, 0, 0)) + std::process::id() % 0x3fff * 4;
        (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2))
    }

    /// A command that runs inside. Not `ip netns exec`, which gives it mounts of its own.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name())).arg("--").arg(program);
        command
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        finish(self.command(program).args(arguments), program)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What the agent started outlives the agent on purpose.
        let state = self.state.to_string_lossy().into_owned();
        for (process, command) in commands() {
            if command.contains("qemu-system") && command.contains(&state) {
                let _ = kill(process, Signal::SIGKILL);
            }
        }
        for name in [self.name(), format!("{}-resp", self.prefix)] {
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
        let up = format!("{}-up", self.prefix);
        let _ = Command::new("ip").args(["link", "delete", &up]).output();
        remove_groups(Path::new("/sys/fs/cgroup"), &self.prefix);
    }
}

/// The guests' control groups, which an agent that was killed leaves behind. They are empty by
/// now, or stay.
fn remove_groups(root: &Path, prefix: &str) {
    let roots = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for owner in std::iter::once(root.to_owned()).chain(roots).map(|path| path.join(prefix)) {
        for entry in fs::read_dir(&owner).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(&owner);
    }
}

/// Open vSwitch and the agent, which end with their handle.
pub struct Host {
    agent: Process,
    log: PathBuf,
    _switch: Vec<Process>,
}

impl Host {
    /// Starts this machine as a host of the cloud, and waits until it is up.
    ///
    /// # Errors
    /// When a part does not start.
    pub async fn start(cloud: &Cloud, namespace: &Namespace) -> Result<Self> {
        let run_directory = cloud.state().join("run/ovs");
        fs::create_dir_all(&run_directory)?;
        let database = run_directory.join("conf.db");
        finish(Command::new("ovsdb-tool").arg("create").arg(&database).arg(SCHEMA), "ovsdb-tool")?;
        let socket = run_directory.join("db.sock");
        let daemon = |name: &str| {
            let mut command = namespace.command(name);
            for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
                command.env(variable, &run_directory);
            }
            command
                .arg(format!("--pidfile={}", run_directory.join(format!("{name}.pid")).display()))
                .arg(format!("--unixctl={}", run_directory.join(format!("{name}.ctl")).display()))
                .arg("--no-chdir");
            command
        };
        let log = run_directory.join("log");
        let mut server = daemon("ovsdb-server");
        server.arg(&database).arg(format!("--remote=punix:{}", socket.display()));
        let server = Process::start("ovsdb-server", &mut server, &log)?;
        wait_for(&socket)?;
        let remote = format!("unix:{}", socket.display());
        let init = ["--timeout=10", &format!("--db={remote}"), "--no-wait", "init"];
        finish(Command::new("ovs-vsctl").args(init), "ovs-vsctl")?;
        let mut switch = daemon("ovs-vswitchd");
        switch.arg("--disable-system").arg(&remote);
        let switch = Process::start("ovs-vswitchd", &mut switch, &log)?;
        wait_for(&run_directory.join("ovs-vswitchd.ctl"))?;

        // Guests' processes, which are users of their own, pass through here to their disks.
        pass_through(cloud.state())?;
        let log = cloud.state().join("host.log");
        let mut agent = namespace.command(cloud.binary("meridian"));
        agent.args(["host", "run", "--state"]).arg(cloud.state()).env("MERIDIAN_LOG", LOG);
        let agent = Process::start("host", &mut agent, &log)?;
        Ok(Host { agent, log, _switch: vec![server, switch] })
    }

    /// The agent's process.
    pub fn agent(&self) -> &Process {
        &self.agent
    }

    /// What the agent has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Lets everyone walk through the state directory without looking around.
fn pass_through(state: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::create_dir_all(state.join("host"))?;
    for directory in [state.to_owned(), state.join("host")] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o711))?;
    }
    Ok(())
}

/// Every process with its command line.
pub fn commands() -> Vec<(Pid, String)> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let process = entry.file_name().to_str()?.parse().ok()?;
            let command = fs::read(entry.path().join("cmdline")).ok()?;
            Some((Pid::from_raw(process), String::from_utf8_lossy(&command).into_owned()))
        })
        .collect()
}

fn wait_for(path: &Path) -> Result<()> {
    let begun = Instant::now();
    while !path.exists() {
        if begun.elapsed() > START {
            bail!("{} did not appear", path.display());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    finish(Command::new(program).args(arguments), program)
}

fn finish(command: &mut Command, name: &str) -> Result<()> {
    let done = command.output().with_context(|| format!("running {name}"))?;
    ensure!(done.status.success(), "{name}: {}", String::from_utf8_lossy(&done.stderr).trim());
    Ok(())
}
