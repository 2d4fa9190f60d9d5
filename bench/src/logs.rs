//! Reads the moments of a server's start from the log lines of control plane and host.
//!
//! Both write one line an event, with its time to the microsecond; client, control plane and host
//! are on one machine here, so their clocks are the same.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::Timestamp;

/// When things happened to one server, in microseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Moments {
    /// The workflow chose a host.
    pub scheduled: i64,
    /// Its documents for the host were stored in the database.
    pub written: i64,
    /// The host had stored them.
    pub received: i64,
    /// Its disks were made on the cached image.
    pub disks: i64,
    /// Its ports were on the switch, with their flows.
    pub ports: i64,
    /// QEMU was executed.
    pub executed: i64,
    /// Its monitor answered.
    pub running: i64,
}

/// The time at the beginning of a line.
fn time_of(line: &str) -> Option<i64> {
    let word = line.split_whitespace().next()?;
    word.parse::<Timestamp>().ok().map(Timestamp::as_microsecond)
}

/// The first line that holds all `words`, and its time.
pub fn find<'a>(log: &'a str, words: &[&str]) -> Option<(i64, &'a str)> {
    log.lines()
        .find(|line| words.iter().all(|word| line.contains(word)))
        .and_then(|line| Some((time_of(line)?, line)))
}

/// The moments of the server's start; `None` while the host has not said that the guest runs.
///
/// # Errors
/// When a line is not as it should be.
pub fn moments(control_plane: &str, host: &str, server: &str) -> Result<Option<Moments>> {
    let own = format!("server{{id={server}}}");
    let Some((running, line)) = find(host, &[&own, "the guest runs"]) else { return Ok(None) };
    let owner = format!("owner=\"{server}\"");
    let step = |name: &str, outcome: &str| {
        let (step, outcome) = (format!("step=\"{name}\""), format!("outcome=\"{outcome}\""));
        find(control_plane, &[&owner, "kind=\"server_create\"", &step, &outcome])
            .map(|(time, _)| time)
            .with_context(|| format!("the control plane's log has no step {name} of {server}"))
    };
    let stages = line.split_once("stages=").context("no stages in the host's log")?.1;
    let mut took = BTreeMap::new();
    let words: Vec<&str> = stages.split_whitespace().collect();
    for pair in words.chunks_exact(2) {
        took.insert(pair[0], pair[1].parse::<f64>().context("a stage without a number")?);
    }
    // Milliseconds to whole microseconds.
    #[allow(clippy::cast_possible_truncation)]
    let micros = |names: &[&str]| -> i64 {
        let sum: f64 = names.iter().filter_map(|name| took.get(name)).sum();
        (sum * 1000.0).round() as i64
    };
    let executed = running - micros(&["monitor"]);
    let ports = executed - micros(&["config_drive", "record", "exec"]);
    let disks = ports - micros(&["ports"]);
    Ok(Some(Moments {
        scheduled: step("schedule", "done")?,
        written: step("place", "waits")?,
        received: disks - micros(&["queued", "image", "disks"]),
        disks,
        ports,
        executed,
        running,
    }))
}

/// Now, as the logs have it.
pub fn now() -> i64 {
    Timestamp::now().as_microsecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_from_both_logs() {
        let control_plane = "\
2026-01-01T00:00:01.000500Z  INFO workflow: step workflow=w kind=\"server_create\" owner=\"s1\" step=\"schedule\" direction=\"forward\" outcome=\"done\" micros=9
2026-01-01T00:00:01.000600Z  INFO workflow: step workflow=w kind=\"server_create\" owner=\"s2\" step=\"place\" direction=\"forward\" outcome=\"waits\" micros=9
2026-01-01T00:00:01.000900Z  INFO workflow: step workflow=w kind=\"server_create\" owner=\"s1\" step=\"place\" direction=\"forward\" outcome=\"waits\" micros=9
";
        let host = "\
2026-01-01T00:00:01.100000Z  INFO server{id=s1}: host_agent::agent::start: the guest runs incarnation=1 request_id=r stages=queued 1.000 image 2.000 disks 3.000 ports 4.000 record 5.000 exec 6.000 monitor 7.500
";
        let seen = moments(control_plane, host, "s1").unwrap().unwrap();
        let second = "2026-01-01T00:00:01Z".parse::<Timestamp>().unwrap().as_microsecond();
        assert_eq!(
            seen,
            Moments {
                scheduled: second + 500,
                written: second + 900,
                received: second + 71_500,
                disks: second + 77_500,
                ports: second + 81_500,
                executed: second + 92_500,
                running: second + 100_000,
            }
        );
        assert_eq!(moments(control_plane, host, "s2").unwrap(), None);
        assert!(moments("", host, "s1").is_err(), "a log that says nothing is no measurement");
    }
}
