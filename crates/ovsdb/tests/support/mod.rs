//! An Open vSwitch of its own for a test: ovsdb-server and ovs-vswitchd in a temporary directory,
//! with the userspace data path, ended by their process ids. They live in a network namespace of their
//! own, since the userspace data path takes the device name `ovs-netdev`. The machine's own
//! instance is not touched.

#![allow(dead_code)] // each test binary uses a part

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long daemons may take on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestSwitch {
    directory: tempfile::TempDir,
    namespace: String,
}

impl TestSwitch {
    /// Starts both daemons; `None`, with the reason printed, where that cannot work.
    pub fn start() -> Option<Self> {
        // SAFETY: geteuid has no preconditions and cannot fail.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: ovs-vswitchd needs root");
            return None;
        }
        if ["/usr/sbin/ovs-vswitchd", "/usr/sbin/ovsdb-server"]
            .iter()
            .any(|p| !Path::new(p).exists())
        {
            eprintln!("skipped: Open vSwitch is not installed (package openvswitch-switch)");
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let unique = directory.path().file_name().and_then(|n| n.to_str()).expect("a plain name");
        let namespace = format!("ovs-test{unique}");
        let switch = Self { directory, namespace };
        let status = Command::new("ip").args(["netns", "add", &switch.namespace]).status();
        if !status.is_ok_and(|s| s.success()) {
            eprintln!("skipped: cannot make a network namespace");
            return None;
        }
        switch.run("ip", &["link", "set", "lo", "up"]);
        let schema = "/usr/share/openvswitch/vswitch.ovsschema";
        switch.run("ovsdb-tool", &["create", &switch.text("conf.db"), schema]);
        switch.start_database();
        switch.start_vswitchd();
        Some(switch)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn database_socket(&self) -> PathBuf {
        self.path("db.sock")
    }

    pub fn start_database(&self) {
        self.run(
            "ovsdb-server",
            &[
                &self.text("conf.db"),
                &format!("--remote=punix:{}", self.text("db.sock")),
                "--no-chdir",
                "--detach",
                &format!("--pidfile={}", self.text("ovsdb-server.pid")),
                &format!("--log-file={}", self.text("ovsdb-server.log")),
                &format!("--unixctl={}", self.text("ovsdb-server.ctl")),
            ],
        );
    }

    pub fn start_vswitchd(&self) {
        self.run(
            "ovs-vswitchd",
            &[
                &format!("unix:{}", self.text("db.sock")),
                "--no-chdir",
                "--detach",
                &format!("--pidfile={}", self.text("ovs-vswitchd.pid")),
                &format!("--log-file={}", self.text("ovs-vswitchd.log")),
                &format!("--unixctl={}", self.text("ovs-vswitchd.ctl")),
            ],
        );
    }

    pub fn stop_database(&self) {
        self.stop("ovsdb-server.pid", libc::SIGTERM);
    }

    pub fn kill_vswitchd(&self) {
        self.stop("ovs-vswitchd.pid", libc::SIGKILL);
    }

    /// A program in this instance's network namespace; Open vSwitch's tools look at this instance.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).args(arguments);
        command.stdin(Stdio::null());
        for name in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
            command.env(name, self.directory.path());
        }
        command
    }

    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program, arguments).output().expect("the program starts");
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn add_bridge(&self, name: &str) {
        self.run(
            "ovs-vsctl",
            &[
                &format!("--db=unix:{}", self.text("db.sock")),
                "add-br",
                name,
                "--",
                "set",
                "bridge",
                name,
                "datapath_type=netdev",
                "fail_mode=secure",
                "other_config:disable-in-band=true",
                "protocols=OpenFlow14",
            ],
        );
    }

    pub fn management_socket(&self, bridge: &str) -> PathBuf {
        self.path(&format!("{bridge}.mgmt"))
    }

    fn stop(&self, pid_file: &str, signal: i32) {
        let Ok(text) = std::fs::read_to_string(self.path(pid_file)) else { return };
        let Ok(pid) = text.trim().parse::<i32>() else { return };
        // SAFETY: plain system call; the id is that of a daemon this test started, which is its
        // own session's leader and still holds its pid file.
        unsafe { libc::kill(pid, signal) };
        let deadline = Instant::now() + PATIENCE;
        while !is_gone(pid) {
            assert!(Instant::now() < deadline, "process {pid} does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = std::fs::remove_file(self.path(pid_file));
    }
}

/// No such process, or a zombie that nobody has collected.
fn is_gone(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
        Err(_) => true,
    }
}

impl Drop for TestSwitch {
    fn drop(&mut self) {
        self.stop("ovs-vswitchd.pid", libc::SIGTERM);
        self.stop("ovsdb-server.pid", libc::SIGTERM);
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}
