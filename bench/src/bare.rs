//! A guest without a cloud: QEMU with the arguments that the agent gave it, an empty disk on the
//! same image, and a network that only listens.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::UdpSocket;

/// Ethernet and IPv4 headers without options, as DHCP clients send them.
const UDP_DESTINATION: std::ops::Range<usize> = 36..38;
const DHCP_SERVER: [u8; 2] = 67u16.to_be_bytes();
/// The disk that the cloud's flavor has.
const DISK: &str = "1G";

/// Starts QEMU as the process with this command line (arguments end with NUL) was, and waits
/// until its guest asks for an address. Returns the time since the exec.
///
/// # Errors
/// When QEMU does not start, or the guest says nothing within `limit`.
pub async fn first_words(command: &str, directory: &Path, limit: Duration) -> Result<Duration> {
    let disk = directory.join("bare.qcow2");
    let made = Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2"])
        .arg(&disk)
        .arg(DISK)
        .output()
        .context("running qemu-img")?;
    ensure!(made.status.success(), "qemu-img: {}", String::from_utf8_lossy(&made.stderr));
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    // Any free port will do for the side that sends.
    let other = UdpSocket::bind("127.0.0.1:0").await?.local_addr()?;
    let network = format!("socket,id=net0,udp={},localaddr={other}", socket.local_addr()?);
    let mut arguments = command.trim_end_matches('\0').split('\0');
    let program = arguments.next().context("an empty command line")?;
    let arguments = bare_arguments(arguments, &disk.to_string_lossy(), &network)?;
    let mut qemu = tokio::process::Command::new(program);
    qemu.args(&arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    let mut qemu = qemu.stderr(Stdio::piped()).spawn().context("starting QEMU")?;
    let begun = Instant::now();
    let mut frame = [0; 2048];
    let heard = tokio::time::timeout(limit, async {
        loop {
            tokio::select! {
                length = socket.recv(&mut frame) => {
                    let frame = &frame[..length?];
                    if frame.get(UDP_DESTINATION) == Some(&DHCP_SERVER[..]) {
                        return Ok(begun.elapsed());
                    }
                }
                ended = qemu.wait() => bail!("bare QEMU ended: {}", ended?),
            }
        }
    })
    .await;
    let _ = qemu.kill().await;
    let _ = std::fs::remove_file(&disk);
    match heard {
        Ok(took) => took,
        Err(_) => bail!("the bare guest did not ask for an address within {limit:?}"),
    }
}

/// The agent's arguments without what it holds itself: its monitors, the console's socket, the
/// tap, and the server's own disk.
fn bare_arguments<'a>(
    arguments: impl Iterator<Item = &'a str>,
    disk: &str,
    network: &str,
) -> Result<Vec<String>> {
    let mut bare = Vec::new();
    let mut changed = (false, false);
    let mut arguments = arguments.peekable();
    while let Some(argument) = arguments.next() {
        let value = arguments.peek().copied().unwrap_or_default();
        let instead = match argument {
            "-mon" => {
                arguments.next();
                continue;
            }
            "-chardev" if value.starts_with("socket,id=qmp") => {
                arguments.next();
                continue;
            }
            "-chardev" => "null,id=serial0".to_owned(),
            "-netdev" => {
                changed.0 = true;
                network.to_owned()
            }
            "-blockdev" => match serde_json::from_str::<serde_json::Value>(value) {
                Ok(mut node) if node["node-name"] == "disk0-file" => {
                    changed.1 = true;
                    node["filename"] = disk.into();
                    node.to_string()
                }
                _ => value.to_owned(),
            },
            _ => {
                bare.push(argument.to_owned());
                continue;
            }
        };
        arguments.next();
        bare.push(argument.to_owned());
        bare.push(instead);
    }
    ensure!(changed == (true, true), "the guest has no network or no disk: {bare:?}");
    Ok(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_agent_holds_is_exchanged() {
        let disk = r#"{"driver":"file","filename":"/old","node-name":"disk0-file"}"#;
        let given = [
            "-nodefaults",
            "-m",
            "size=64M",
            "-chardev",
            "socket,id=qmp0,fd=3",
            "-mon",
            "chardev=qmp0",
            "-chardev",
            "socket,id=serial0,fd=4",
            "-device",
            "isa-serial,chardev=serial0",
            "-blockdev",
            disk,
            "-netdev",
            "tap,id=net0,fd=5",
        ];
        let bare = bare_arguments(given.into_iter(), "/new", "socket,id=net0").unwrap();
        assert_eq!(
            bare,
            [
                "-nodefaults",
                "-m",
                "size=64M",
                "-chardev",
                "null,id=serial0",
                "-device",
                "isa-serial,chardev=serial0",
                "-blockdev",
                r#"{"driver":"file","filename":"/new","node-name":"disk0-file"}"#,
                "-netdev",
                "socket,id=net0",
            ]
        );
        assert!(bare_arguments(["-nodefaults"].into_iter(), "/new", "x").is_err());
    }
}
