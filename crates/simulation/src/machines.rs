//! What stands on the machines, compared with what their hosts were told: the part of the audit
//! that only a simulation can do, because it sees the machines and not what is said of them.

use std::collections::{BTreeMap, BTreeSet};

use auditor::{Finding, Kind};
use host_protocol::PowerState;

/// A machine, seen from outside.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// The host's name.
    pub name: String,
    /// Servers whose guests are there, and whether they run.
    pub guests: BTreeMap<String, bool>,
    /// Servers that have disks there.
    pub disks: BTreeSet<String>,
    /// Ports on the bridge.
    pub ports: BTreeSet<String>,
}

/// What a host was told.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// Servers, and whether their guests should run; `None` where the host has given up.
    pub servers: BTreeMap<String, Option<bool>>,
    /// Ports.
    pub ports: BTreeSet<String>,
    /// Servers that must go, and have not yet been said to be gone.
    pub going: BTreeSet<String>,
}

fn say(kind: Kind, object_kind: &'static str, object: &str, message: String) -> Finding {
    Finding { kind, object_kind, object: object.to_owned(), message, repair: None }
}

/// Guests of one server on two machines: wrong at any instant.
pub fn doubles(machines: &[Machine]) -> Vec<Finding> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for machine in machines {
        for (server, _) in machine.guests.iter().filter(|(_, runs)| **runs) {
            places.entry(server).or_default().push(&machine.name);
        }
    }
    places
        .into_iter()
        .filter(|(_, machines)| machines.len() > 1)
        .map(|(server, machines)| {
            let message = format!("its guest runs on machines {}", machines.join(" and "));
            say(Kind::DoublePlacement, "server", server, message)
        })
        .collect()
}

/// A machine that has come to rest, against what its host was told.
pub fn at_rest(machine: &Machine, told: &Told) -> Vec<Finding> {
    let mut found = Vec::new();
    let name = &machine.name;
    for (server, runs) in &machine.guests {
        match told.servers.get(server) {
            None if !told.going.contains(server) => found.push(say(
                Kind::Machine,
                "server",
                server,
                format!("its guest is on {name}, which was not told of it"),
            )),
            Some(Some(wanted)) if wanted != runs => found.push(say(
                Kind::Machine,
                "server",
                server,
                format!("its guest on {name} runs: {runs}; it should: {wanted}"),
            )),
            _ => {}
        }
    }
    for (server, wanted) in &told.servers {
        if *wanted == Some(true) && !machine.guests.contains_key(server) {
            let message = format!("its guest should run on {name}, and is not there");
            found.push(say(Kind::Machine, "server", server, message));
        }
    }
    for server in &machine.disks {
        if !told.servers.contains_key(server) && !told.going.contains(server) {
            let message = format!("its disks are left on {name}");
            found.push(say(Kind::Machine, "server", server, message));
        }
    }
    for port in machine.ports.difference(&told.ports) {
        let message = format!("it is plugged in on {name}, which is not told to have it");
        found.push(say(Kind::Machine, "port", port, message));
    }
    for port in told.ports.difference(&machine.ports) {
        let message = format!("it should be plugged in on {name}, and is not");
        found.push(say(Kind::Machine, "port", port, message));
    }
    found
}

/// Whether a guest in this state runs.
pub fn runs(power: PowerState) -> bool {
    matches!(power, PowerState::Running | PowerState::Paused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(name: &str) -> Machine {
        Machine {
            name: name.into(),
            guests: [("s1".to_owned(), true)].into(),
            disks: ["s1".to_owned()].into(),
            ports: ["p1".to_owned()].into(),
        }
    }

    fn told() -> Told {
        Told {
            servers: [("s1".to_owned(), Some(true))].into(),
            ports: ["p1".to_owned()].into(),
            going: BTreeSet::new(),
        }
    }

    #[test]
    fn a_guest_on_two_machines_is_found() {
        assert_eq!(doubles(&[machine("a")]), []);
        assert_eq!(doubles(&[machine("a"), machine("b")]).len(), 1);
    }

    #[test]
    fn a_machine_that_is_not_as_told_is_found() {
        assert_eq!(at_rest(&machine("a"), &told()), []);
        assert_eq!(at_rest(&machine("a"), &Told::default()).len(), 3);
        assert_eq!(at_rest(&Machine::default(), &told()).len(), 2);
        let stopped = Told { servers: [("s1".to_owned(), Some(false))].into(), ..told() };
        assert_eq!(at_rest(&machine("a"), &stopped).len(), 1);
    }
}
