//! A server's QEMU command line: a pure function of its spec and where its things are.
//!
//! What a guest may do is decided here: nothing that QEMU would add by itself (`-nodefaults`),
//! no format that is guessed, no child processes, and nothing in the text that a tenant has
//! written: names and metadata stay out, so no option can be smuggled in.
//!
//! ```text
//!   pcie.0   00.0 host bridge   01.0 virtio-rng   1f LPC
//!     02.x, 03.x   root ports: NICs in order, then spare ones for hot-plug
//!     04.x ...     root ports: disks in order, config drive, then spare ones
//! ```
//! NICs and disks have slots of their own, so that a disk more or less never renames a guest's
//! network interface.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use host_protocol::{ImageFormat, ServerSpec};
use serde_json::{Value, json};

use crate::config::Accelerator;
use crate::pool::DiskFile;

/// Root ports left free for NICs and for disks that are plugged in later.
const SPARE_NIC_PORTS: usize = 2;
const SPARE_DISK_PORTS: usize = 4;
const FIRST_NIC_SLOT: usize = 0x02;
const MAX_NICS: usize = 16;
const FIRST_DISK_SLOT: usize = 0x04;
/// Slots 0x04 to 0x1e hold disks, eight functions each; far fewer are of use to anybody.
const MAX_DISKS: usize = 64;

/// Files and descriptors that a guest is started with.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Which start this is; part of the process's name.
    pub incarnation: u64,
    /// Disks in the order of the spec.
    pub disks: Vec<DiskFile>,
    /// The config drive.
    pub config_drive: Option<PathBuf>,
    /// Everything that the guest writes on its serial port.
    pub console_log: PathBuf,
    /// Listening socket of the serial console, inherited.
    pub console_fd: RawFd,
    /// Listening socket of the agent's QMP connection, inherited.
    pub qmp_fd: RawFd,
    /// Listening socket of the spare QMP connection for operators, inherited.
    pub operator_fd: RawFd,
    /// Taps in the order of the spec's NICs, inherited; a NIC without one gets no backend.
    pub taps: Vec<Option<RawFd>>,
}

/// A server that no QEMU can be started for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(String);

/// QEMU's arguments, without its name.
pub fn command(
    spec: &ServerSpec,
    layout: &Layout,
    accelerator: Accelerator,
) -> Result<Vec<OsString>, CommandError> {
    if spec.nics.len() > MAX_NICS || layout.disks.len() >= MAX_DISKS {
        return Err(CommandError(format!(
            "a server may have {MAX_NICS} NICs and {} disks; this one has {} and {}",
            MAX_DISKS - 1,
            spec.nics.len(),
            layout.disks.len()
        )));
    }
    let mut arguments = Arguments::default();
    basics(&mut arguments, spec, layout, accelerator);
    monitors(&mut arguments, layout);
    let nic_ports = root_ports(
        &mut arguments,
        "nic",
        FIRST_NIC_SLOT,
        (spec.nics.len() + SPARE_NIC_PORTS).min(MAX_NICS),
    );
    let drives = layout.disks.len() + usize::from(layout.config_drive.is_some());
    let disk_ports = root_ports(
        &mut arguments,
        "disk",
        FIRST_DISK_SLOT,
        (drives + SPARE_DISK_PORTS).min(MAX_DISKS),
    );
    for (index, disk) in layout.disks.iter().enumerate() {
        add_disk(&mut arguments, index, disk, &disk_ports[index]);
    }
    if let Some(path) = &layout.config_drive {
        add_config_drive(&mut arguments, path, &disk_ports[layout.disks.len()]);
    }
    for (index, nic) in spec.nics.iter().enumerate() {
        let Some(tap) = layout.taps.get(index).copied().flatten() else {
            continue;
        };
        arguments.add("-netdev", format!("tap,id=net{index},fd={tap},vhost=off"));
        arguments.add(
            "-device",
            format!(
                "virtio-net-pci,id=nic{index},netdev=net{index},mac={},host_mtu={},bus={},romfile=",
                nic.mac, nic.mtu, nic_ports[index]
            ),
        );
    }
    Ok(arguments.0)
}

#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn add(&mut self, option: &str, value: impl Into<OsString>) {
        self.0.push(option.into());
        self.0.push(value.into());
    }

    fn flag(&mut self, option: &str) {
        self.0.push(option.into());
    }

    fn json(&mut self, option: &str, value: &Value) {
        self.add(option, value.to_string());
    }
}

fn basics(arguments: &mut Arguments, spec: &ServerSpec, layout: &Layout, accelerator: Accelerator) {
    let id = &spec.server_id;
    arguments.add("-name", format!("{},debug-threads=on", process_name(id, layout.incarnation)));
    arguments.flag("-nodefaults");
    arguments.flag("-no-user-config");
    arguments
        .add("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    arguments.add(
        "-machine",
        "q35,usb=off,vmport=off,sata=off,hpet=off,smm=off,dump-guest-core=off,mem-merge=off",
    );
    match accelerator {
        Accelerator::Kvm => {
            arguments.add("-accel", "kvm");
            arguments.add("-cpu", "host");
        }
        Accelerator::Tcg => {
            // A translation buffer of 32 MiB instead of a gigabyte keeps small guests small. The
            // processor is x86-64-v2, which current distributions ask for; more features would
            // make guests choose instructions that are slow to translate.
            arguments.add("-accel", "tcg,thread=multi,tb-size=32");
            arguments.add("-cpu", "qemu64,-svm,+ssse3,+sse4.1,+sse4.2,+popcnt,+rdrand,+rdseed");
        }
    }
    arguments.add("-m", format!("size={}M", spec.memory_mib));
    arguments.add("-smp", format!("cpus={0},sockets=1,cores={0},threads=1", spec.vcpus.max(1)));
    arguments.add("-uuid", id.clone());
    // Guests recognise the cloud, and hence its metadata service, by this product name.
    arguments.add(
        "-smbios",
        format!(
            "type=1,manufacturer=Meridian,product=OpenStack Compute,version=1,serial={id},uuid={id},family=Virtual Machine"
        ),
    );
    arguments.add("-rtc", "base=utc");
    arguments.add("-boot", "strict=on,menu=off");
    // A guest that switches itself off stays as a process until the agent has seen it.
    arguments.add("-action", "reboot=reset,shutdown=pause");
    arguments.add("-global", "ICH9-LPC.disable_s3=1");
    arguments.add("-global", "ICH9-LPC.disable_s4=1");
    arguments.add("-display", "none");
    arguments.add("-msg", "timestamp=on");
    arguments.add("-object", "rng-random,id=rng0,filename=/dev/urandom");
    arguments.add("-device", "virtio-rng-pci,rng=rng0,bus=pcie.0,addr=0x1");
}

fn monitors(arguments: &mut Arguments, layout: &Layout) {
    for (id, fd) in [("qmp0", layout.qmp_fd), ("qmp1", layout.operator_fd)] {
        arguments.add("-chardev", format!("socket,id={id},fd={fd},server=on,wait=off"));
        arguments.add("-mon", format!("chardev={id},mode=control"));
    }
    let mut console = OsString::from(format!(
        "socket,id=serial0,fd={},server=on,wait=off,logappend=on,logfile=",
        layout.console_fd
    ));
    console.push(escape_commas(&layout.console_log));
    arguments.add("-chardev", console);
    arguments.add("-device", "isa-serial,chardev=serial0");
}

/// Adds `count` root ports from `first_slot` on, eight to a slot, and returns their names.
fn root_ports(
    arguments: &mut Arguments,
    kind: &str,
    first_slot: usize,
    count: usize,
) -> Vec<String> {
    (0..count)
        .map(|index| {
            let name = format!("{kind}-port{index}");
            let (slot, function) = (first_slot + index / 8, index % 8);
            let multifunction = if function == 0 { ",multifunction=on" } else { "" };
            let chassis = slot * 8 + function;
            arguments.add(
                "-device",
                format!(
                    "pcie-root-port,id={name},bus=pcie.0,addr=0x{slot:x}.0x{function:x}{multifunction},chassis={chassis},port={chassis},slot={chassis}"
                ),
            );
            name
        })
        .collect()
}

fn add_disk(arguments: &mut Arguments, index: usize, disk: &DiskFile, port: &str) {
    let node = format!("disk{index}");
    let backing = disk.backing.as_ref().map(|image| {
        let (file, base) = (format!("{node}-base-file"), format!("{node}-base"));
        arguments.json(
            "-blockdev",
            &json!({
                "driver": "file", "node-name": file, "filename": image.path,
                "read-only": true, "auto-read-only": false,
            }),
        );
        let mut format = json!({
            "driver": driver(image.format), "node-name": base, "file": file, "read-only": true,
        });
        if image.format == ImageFormat::Qcow2 {
            // An image stands on nothing, whatever its header says.
            format["backing"] = Value::Null;
        }
        arguments.json("-blockdev", &format);
        base
    });
    let file = format!("{node}-file");
    arguments.json(
        "-blockdev",
        &json!({
            "driver": "file", "node-name": file, "filename": disk.path, "discard": "unmap",
            "read-only": false, "auto-read-only": false,
        }),
    );
    let mut format = json!({
        "driver": driver(disk.format), "node-name": node, "file": file, "discard": "unmap",
        "read-only": false,
    });
    if disk.format == ImageFormat::Qcow2 {
        format["backing"] = backing.map_or(Value::Null, Value::String);
    }
    arguments.json("-blockdev", &format);
    let boot = if index == 0 { ",bootindex=0" } else { "" };
    arguments.add(
        "-device",
        format!(
            "virtio-blk-pci,id=disk-{index},drive={node},bus={port},serial={}{boot}",
            serial(&disk.name)
        ),
    );
}

fn add_config_drive(arguments: &mut Arguments, path: &Path, port: &str) {
    arguments.json(
        "-blockdev",
        &json!({
            "driver": "file", "node-name": "config-file", "filename": path,
            "read-only": true, "auto-read-only": false,
        }),
    );
    arguments.json(
        "-blockdev",
        &json!({ "driver": "raw", "node-name": "config", "file": "config-file", "read-only": true }),
    );
    arguments.add(
        "-device",
        format!("virtio-blk-pci,id=config-drive,drive=config,bus={port},serial=config-2"),
    );
}

fn driver(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Raw => "raw",
        ImageFormat::Qcow2 => "qcow2",
    }
}

/// virtio-blk's serial has 20 bytes; a disk's name may be longer.
fn serial(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '_').take(20).collect()
}

/// In QEMU's `key=value` options a comma is written twice.
fn escape_commas(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::with_capacity(path.as_os_str().len());
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

/// `guest=SERVER:INCARNATION`, by which a process is recognised when its record was lost.
pub fn process_name(server_id: &str, incarnation: u64) -> String {
    format!("guest={server_id}:{incarnation}")
}

/// Reads [`process_name`] back from an argument of `-name`.
pub fn parse_process_name(argument: &str) -> Option<(&str, u64)> {
    let name = argument.strip_prefix("guest=")?.split(',').next()?;
    let (server_id, incarnation) = name.rsplit_once(':')?;
    Some((server_id, incarnation.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use cloud_types::MacAddress;
    use host_protocol::NicSpec;

    use super::*;
    use crate::pool::CachedImage;
    use crate::test_support::server_spec;

    fn spec(nics: usize) -> ServerSpec {
        let mut spec = server_spec("6f1c2d3e-4b5a-6978-8796-a5b4c3d2e1f0");
        spec.name = "evil,id=x -device".to_owned();
        spec.metadata.hostname = "evil,host".to_owned();
        spec.nics = (0..nics)
            .map(|n| NicSpec {
                port_id: format!("port{n}"),
                mac: MacAddress([0xfa, 0x16, 0x3e, 0, 0, n as u8]),
                mtu: 1500,
            })
            .collect();
        spec
    }

    fn disk(name: &str, backing: Option<ImageFormat>) -> DiskFile {
        DiskFile {
            name: name.to_owned(),
            path: PathBuf::from(format!("/pool/a,b/{name}")),
            format: if backing.is_some() { ImageFormat::Qcow2 } else { ImageFormat::Raw },
            size_bytes: 1 << 30,
            backing: backing.map(|format| CachedImage {
                image_id: "i".to_owned(),
                sha256: "00".to_owned(),
                format,
                path: PathBuf::from("/images/base"),
            }),
        }
    }

    fn layout(disks: Vec<DiskFile>, nics: usize) -> Layout {
        Layout {
            incarnation: 3,
            disks,
            config_drive: Some(PathBuf::from("/pool/config.iso")),
            console_log: PathBuf::from("/pool/a,b/console.log"),
            console_fd: 10,
            qmp_fd: 11,
            operator_fd: 12,
            taps: (0..nics).map(|n| Some(20 + n as RawFd)).collect(),
        }
    }

    fn text(spec: &ServerSpec, layout: &Layout, accelerator: Accelerator) -> Vec<String> {
        command(spec, layout, accelerator)
            .unwrap()
            .into_iter()
            .map(|argument| argument.into_string().unwrap())
            .collect()
    }

    fn values(arguments: &[String], option: &str) -> Vec<String> {
        arguments.windows(2).filter(|pair| pair[0] == option).map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn nothing_that_a_tenant_wrote_is_in_the_command() {
        let arguments = text(&spec(1), &layout(vec![], 1), Accelerator::Tcg).join(" ");
        assert!(!arguments.contains("evil"), "{arguments}");
    }

    #[test]
    fn formats_are_declared_and_images_stand_on_nothing() {
        let disks = vec![disk("root", Some(ImageFormat::Qcow2)), disk("ephemeral0", None)];
        let arguments = text(&spec(0), &layout(disks, 0), Accelerator::Tcg);
        let nodes: BTreeMap<String, Value> = values(&arguments, "-blockdev")
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap())
            .map(|node| (node["node-name"].as_str().unwrap().to_owned(), node))
            .collect();
        assert_eq!(nodes["disk0"]["driver"], "qcow2");
        assert_eq!(nodes["disk0"]["backing"], "disk0-base");
        assert_eq!(nodes["disk0-base"]["backing"], Value::Null);
        assert!(nodes["disk0-base"].as_object().unwrap().contains_key("backing"));
        assert_eq!(nodes["disk0-base"]["read-only"], true);
        assert_eq!(nodes["disk0-base-file"]["filename"], "/images/base");
        assert_eq!(nodes["disk1"]["driver"], "raw");
        assert_eq!(nodes["config"]["read-only"], true);
        for node in nodes.values() {
            assert!(node.get("driver").is_some());
        }
    }

    #[test]
    fn commas_in_paths_are_doubled_outside_json() {
        let arguments = text(&spec(0), &layout(vec![], 0), Accelerator::Tcg);
        assert!(
            values(&arguments, "-chardev")
                .iter()
                .any(|value| value.ends_with("logfile=/pool/a,,b/console.log"))
        );
    }

    #[test]
    fn nics_keep_their_addresses_when_disks_come_and_go() {
        let ports = |disks: Vec<DiskFile>| {
            let arguments = text(&spec(2), &layout(disks, 2), Accelerator::Kvm);
            values(&arguments, "-device")
                .into_iter()
                .filter(|value| value.contains("nic"))
                .collect::<Vec<_>>()
        };
        let one = ports(vec![disk("root", None)]);
        let nine = ports((0..9).map(|n| disk(&format!("d{n}"), None)).collect());
        assert_eq!(one, nine);
        assert!(one.iter().any(|value| {
            value.contains("netdev=net1,mac=fa:16:3e:00:00:01,host_mtu=1500,bus=nic-port1")
        }));
    }

    #[test]
    fn too_much_hardware_is_refused() {
        assert!(command(&spec(17), &layout(vec![], 17), Accelerator::Tcg).is_err());
    }

    #[test]
    fn a_process_is_known_by_its_name() {
        let name = format!("{},debug-threads=on", process_name("abc-1", 7));
        assert_eq!(parse_process_name(&name), Some(("abc-1", 7)));
        assert_eq!(parse_process_name("guest=abc"), None);
    }
}
