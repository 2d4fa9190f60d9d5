//! A real vswitchd without devices: its test datapath, whose ports take frames by command and write
//! what leaves them to files. It needs no privileges.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use openflow::Flow;

use crate::bytes;
use crate::frame::Frame;
use crate::world::{HOSTS, RESPONDER, WIRE, ofport};

/// Ports of guests on each bridge: as many as a random cloud may have.
const GUESTS: usize = 15;
/// File header and record header of a capture.
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Three bridges, one for each host.
pub struct RealSwitch {
    directory: tempfile::TempDir,
    control: UnixStream,
    next_id: u64,
    /// How much of each port's capture has been read.
    read: BTreeMap<(usize, u32), usize>,
}

fn run(program: &str, arguments: &[&str], directory: &Path) -> String {
    let mut command = Command::new(program);
    for variable in ["OVS_RUNDIR", "OVS_DBDIR", "OVS_LOGDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, directory);
    }
    let output = command.args(arguments).output().unwrap_or_else(|error| {
        panic!("{program}: {error}; these tests need Debian's openvswitch-switch")
    });
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn name(host: usize, port: u32) -> String {
    format!("h{host}p{port}")
}

fn ports() -> impl Iterator<Item = u32> {
    [WIRE, RESPONDER].into_iter().chain((0..GUESTS).map(ofport))
}

impl RealSwitch {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let run = |program: &str, arguments: &[&str]| run(program, arguments, directory.path());
        run(
            "ovsdb-tool",
            &["create", &path("conf.db"), "/usr/share/openvswitch/vswitch.ovsschema"],
        );
        let daemon = |name: &str| {
            [
                format!("--pidfile={}", path(&format!("{name}.pid"))),
                format!("--unixctl={}", path(&format!("{name}.ctl"))),
                format!("--log-file={}", path(&format!("{name}.log"))),
                "--detach".to_owned(),
                "--no-chdir".to_owned(),
                "-vconsole:off".to_owned(),
            ]
        };
        let socket = path("db.sock");
        let own = daemon("ovsdb-server");
        let mut arguments = vec![path("conf.db"), format!("--remote=punix:{socket}")];
        arguments.extend(own);
        run("ovsdb-server", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        let database = format!("--db=unix:{socket}");
        run("ovs-vsctl", &[&database, "--no-wait", "init"]);
        let mut arguments = vec![format!("unix:{socket}"), "--enable-dummy".to_owned()];
        arguments.extend(daemon("ovs-vswitchd"));
        run("ovs-vswitchd", &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        for host in 0..HOSTS {
            let bridge = format!("br{host}");
            let mut words =
                vec![database.clone(), "--may-exist".into(), "add-br".into(), bridge.clone()];
            let set = ["--", "set", "bridge", &bridge, "datapath_type=dummy", "fail-mode=secure"];
            words.extend(set.map(str::to_owned));
            words.push("other-config:disable-in-band=true".to_owned());
            for port in ports() {
                let name = name(host, port);
                let capture = path(&format!("{name}.pcap"));
                words.extend(["--", "add-port", &bridge, &name].map(str::to_owned));
                words.extend(["--", "set", "interface", &name, "type=dummy"].map(str::to_owned));
                words.push(format!("ofport_request={port}"));
                words.push(format!("options:tx_pcap={capture}"));
            }
            run("ovs-vsctl", &words.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let control = UnixStream::connect(path("ovs-vswitchd.ctl")).unwrap();
        control.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        RealSwitch { directory, control, next_id: 1, read: BTreeMap::new() }
    }

    /// A command of `ovs-appctl`, over a connection that stays open.
    pub fn command(&mut self, method: &str, parameters: &[&str]) -> String {
        let id = self.next_id;
        self.next_id += 1;
        let parameters: Vec<String> = parameters.iter().map(|p| format!("\"{p}\"")).collect();
        let request = format!(
            "{{\"id\":{id},\"method\":\"{method}\",\"params\":[{}]}}",
            parameters.join(",")
        );
        self.control.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 65536];
        // A JSON object is whole when its braces are even outside of strings.
        while !is_whole(&answer) {
            let length = self.control.read(&mut buffer).unwrap();
            assert_ne!(length, 0, "vswitchd hung up on {method}");
            answer.extend_from_slice(&buffer[..length]);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("\"error\":null"), "{method}: {answer}");
        answer.replace("\\n", "\n")
    }

    /// Makes a host's table exactly this.
    pub fn replace(&self, host: usize, flows: &[Flow]) {
        let text: String = flows.iter().map(|flow| format!("{flow}\n")).collect();
        let path = |name: String| self.directory.path().join(name).to_string_lossy().into_owned();
        let file = path(format!("br{host}.flows"));
        std::fs::write(&file, text).unwrap();
        let bridge = format!("unix:{}", path(format!("br{host}.mgmt")));
        let arguments = ["-O", "OpenFlow14", "--bundle", "replace-flows", &bridge, &file];
        run("ovs-ofctl", &arguments, self.directory.path());
    }

    /// Forgets all connections and what is on its way.
    pub fn forget(&mut self) {
        self.command("dpctl/flush-conntrack", &[]);
    }

    /// Look-ups that the datapath has done so far.
    fn lookups(&mut self) -> u64 {
        let shown = self.command("dpctl/show", &["-s", "dummy@ovs-dummy"]);
        let line = shown.lines().find(|line| line.contains("lookups:")).unwrap_or_default();
        let numbers = line.split([' ', ':']).filter_map(|word| word.parse::<u64>().ok());
        numbers.take(2).sum()
    }

    /// A frame comes in by a port of a host; returns what leaves, by port.
    pub fn run(&mut self, host: usize, port: u32, frame: &Frame) -> Vec<(u32, Frame)> {
        let octets: String = bytes::encode(frame).iter().map(|b| format!("{b:02x}")).collect();
        let before = self.lookups();
        self.command("netdev-dummy/receive", &[&name(host, port), &octets]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.lookups() == before {
            assert!(Instant::now() < deadline, "the switch never looked at {frame:?}");
        }
        let mut out = Vec::new();
        for port in ports() {
            let path = self.directory.path().join(format!("{}.pcap", name(host, port)));
            let capture = std::fs::read(path).unwrap_or_default();
            let read = self.read.entry((host, port)).or_insert(FILE_HEADER);
            while let Some(head) = capture.get(*read..*read + RECORD_HEADER) {
                let length = u32::from_ne_bytes(head[8..12].try_into().unwrap()) as usize;
                let start = *read + RECORD_HEADER;
                out.push((port, bytes::decode(&capture[start..start + length])));
                *read = start + length;
            }
        }
        out
    }
}

/// Whether the braces of a JSON object are even.
fn is_whole(text: &[u8]) -> bool {
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' if !quoted => depth += 1,
            b'}' if !quoted => depth -= 1,
            _ => {}
        }
    }
    depth == 0 && !text.is_empty()
}

impl Drop for RealSwitch {
    fn drop(&mut self) {
        for name in ["ovs-vswitchd", "ovsdb-server"] {
            // By the number from its own pid file.
            let file = self.directory.path().join(format!("{name}.pid"));
            if let Ok(pid) = std::fs::read_to_string(file) {
                let _ = Command::new("kill").arg(pid.trim()).status();
            }
        }
    }
}
