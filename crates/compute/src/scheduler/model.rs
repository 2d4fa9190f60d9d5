//! The filters, the weigher and the words of a refusal.

use std::collections::BTreeSet;
use std::fmt;

use cloud_types::HostId;
use planted_bugs::planted;
use serde::{Deserialize, Serialize};

/// Amounts of what a server takes from its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Virtual processors.
    pub vcpus: u64,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Local disk in GiB: root, ephemeral and swap together.
    pub disk_gib: u64,
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} vCPU, {} MiB of memory, {} GiB of disk",
            self.vcpus, self.memory_mib, self.disk_gib
        )
    }
}

/// What a host has, as it reported.
pub type Capacity = Resources;

/// How far a resource may be promised beyond what is there, in percent of the capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ratios {
    /// Processors are shared in time, so several times what is there is usual.
    pub vcpu_percent: u64,
    /// Memory that is not there ends guests, so no more than what is there.
    pub memory_percent: u64,
    /// A full pool pauses guests, so no more than what is there.
    pub disk_percent: u64,
}

impl Default for Ratios {
    fn default() -> Self {
        Ratios { vcpu_percent: 1600, memory_percent: 100, disk_percent: 100 }
    }
}

impl Ratios {
    /// What may be promised in all on a host with `capacity`.
    pub fn allowed(self, capacity: Capacity) -> Resources {
        if planted("claim_without_room") {
            return Resources { vcpus: 1 << 30, memory_mib: 1 << 40, disk_gib: 1 << 30 };
        }
        let scaled = |amount: u64, percent: u64| {
            u64::try_from(u128::from(amount) * u128::from(percent) / 100).unwrap_or(u64::MAX)
        };
        Resources {
            vcpus: scaled(capacity.vcpus, self.vcpu_percent),
            memory_mib: scaled(capacity.memory_mib, self.memory_percent),
            disk_gib: scaled(capacity.disk_gib, self.disk_percent),
        }
    }
}

/// What is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What the server takes. At least one processor; disk may be 0.
    pub resources: Resources,
    /// Only hosts of this availability zone.
    pub zone: Option<String>,
    /// Only the host of this name.
    pub host: Option<String>,
    /// Only hosts of these L2 domains, when the server's networks already live in some.
    pub l2_domains: Option<BTreeSet<String>>,
    /// Only hosts whose processors are of this architecture, when the image names one.
    pub architecture: Option<String>,
    /// Hosts that were tried for this server and failed.
    pub tried: BTreeSet<HostId>,
    /// Breaks ties between equal hosts differently for each server.
    pub tie_breaker: u64,
}

/// A host as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// The host.
    pub id: HostId,
    /// Its name, for requests that name one and for the explanation.
    pub name: String,
    /// Its availability zone.
    pub zone: String,
    /// Its L2 domain.
    pub l2_domain: String,
    /// Its processors' architecture; `x86_64` unless it says otherwise.
    pub architecture: String,
    /// Whether an operator allows new servers on it.
    pub enabled: bool,
    /// Whether its agent is heard of.
    pub alive: bool,
    /// What it has; `None` until it reported.
    pub capacity: Option<Capacity>,
    /// What is claimed on it.
    pub used: Resources,
    /// Servers on it.
    pub servers: u64,
}

/// A reason to turn a host away, in the order of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// An operator disabled it.
    Enabled,
    /// Its agent is not heard of, or never reported what the host has.
    Alive,
    /// It stands in another availability zone.
    Zone,
    /// Another host was asked for by name.
    RequestedHost,
    /// It failed to build this very server.
    NotTried,
    /// The server's networks live in another L2 domain.
    L2Domain,
    /// Its processors are of another architecture.
    Architecture,
    /// Too few processors are left.
    Vcpu,
    /// Too little memory is left.
    Memory,
    /// Too little disk is left.
    Disk,
}

impl Filter {
    /// Every filter, in the order of asking.
    pub const ALL: [Filter; 10] = [
        Filter::Enabled,
        Filter::Alive,
        Filter::Zone,
        Filter::RequestedHost,
        Filter::NotTried,
        Filter::L2Domain,
        Filter::Architecture,
        Filter::Vcpu,
        Filter::Memory,
        Filter::Disk,
    ];

    /// Why the hosts were turned away, after a count.
    fn reason(self) -> &'static str {
        match self {
            Filter::Enabled => "disabled by an operator",
            Filter::Alive => "not in contact",
            Filter::Zone => "in another availability zone",
            Filter::RequestedHost => "not the one asked for",
            Filter::NotTried => "given up on for this server",
            Filter::L2Domain => "outside the L2 domain of the server's networks",
            Filter::Architecture => "of another processor architecture",
            Filter::Vcpu => "short of processors",
            Filter::Memory => "short of memory",
            Filter::Disk => "short of disk",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Filter::Enabled => "enabled",
            Filter::Alive => "alive",
            Filter::Zone => "availability_zone",
            Filter::RequestedHost => "requested_host",
            Filter::NotTried => "not_tried",
            Filter::L2Domain => "l2_domain",
            Filter::Architecture => "architecture",
            Filter::Vcpu => "vcpu",
            Filter::Memory => "memory",
            Filter::Disk => "disk",
        }
    }

    /// Whether the host passes; for the resource filters, how much is free decides.
    fn passes(self, request: &Request, host: &HostView, free: Resources) -> bool {
        match self {
            Filter::Enabled => host.enabled,
            Filter::Alive => host.alive && host.capacity.is_some(),
            Filter::Zone => request.zone.as_ref().is_none_or(|zone| *zone == host.zone),
            Filter::RequestedHost => request.host.as_ref().is_none_or(|name| *name == host.name),
            Filter::NotTried => !request.tried.contains(&host.id),
            Filter::L2Domain => {
                request.l2_domains.as_ref().is_none_or(|domains| domains.contains(&host.l2_domain))
            }
            Filter::Architecture => request
                .architecture
                .as_ref()
                .is_none_or(|wanted| canonical(wanted) == canonical(&host.architecture)),
            Filter::Vcpu => request.resources.vcpus <= free.vcpus,
            Filter::Memory => request.resources.memory_mib <= free.memory_mib,
            Filter::Disk => request.resources.disk_gib <= free.disk_gib,
        }
    }

    /// Whether a smaller server could have passed.
    fn is_about_size(self) -> bool {
        matches!(self, Filter::Vcpu | Filter::Memory | Filter::Disk)
    }
}

/// One spelling for each architecture; images say `amd64` where hosts say `x86_64`.
fn canonical(architecture: &str) -> &str {
    match architecture {
        "amd64" | "x86-64" | "x64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// Where the server goes, and why there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// For the action's record: what was weighed and what won.
    pub explanation: String,
}

/// The largest server of the shape that was asked for that some host could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestFit {
    /// Its size.
    pub resources: Resources,
}

/// No host fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for.
    pub wanted: Resources,
    /// Hosts that were looked at.
    pub hosts: usize,
    /// How many each filter turned away, in order; filters that turned none away are left out.
    pub refused: Vec<(Filter, usize)>,
    /// What would have fitted; `None` when no size would.
    pub largest: Option<LargestFit>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "No host fits {}. ", self.wanted)?;
        if self.hosts == 0 {
            return write!(f, "This cloud has no hosts yet: enrol one.");
        }
        let noun = if self.hosts == 1 { "host" } else { "hosts" };
        write!(f, "Of {} {noun}", self.hosts)?;
        for (filter, count) in &self.refused {
            let verb = if *count == 1 { "was" } else { "were" };
            write!(f, ", {count} {verb} {} ({})", filter.reason(), filter.name())?;
        }
        match &self.largest {
            Some(fit) => {
                write!(f, ". The largest server of this shape that fits now: {}.", fit.resources)
            }
            None => write!(f, ". No server of this shape fits now, whatever its size."),
        }
    }
}

/// Chooses the host that keeps the most room: the one whose scarcest resource, as a share of what
/// may be promised there, is largest after this server is on it.
pub fn schedule(
    request: &Request,
    hosts: &[HostView],
    ratios: Ratios,
) -> Result<Decision, Refusal> {
    let mut turned_away = [0usize; Filter::ALL.len()];
    let mut best: Option<(Weight, &HostView)> = None;
    let mut fitting = 0usize;
    let mut largest: Option<LargestFit> = None;
    for host in hosts {
        let allowed = ratios.allowed(host.capacity.unwrap_or_default());
        let free = Resources {
            vcpus: allowed.vcpus.saturating_sub(host.used.vcpus),
            memory_mib: allowed.memory_mib.saturating_sub(host.used.memory_mib),
            disk_gib: allowed.disk_gib.saturating_sub(host.used.disk_gib),
        };
        let failed = Filter::ALL.iter().position(|filter| !filter.passes(request, host, free));
        match failed {
            None => {
                fitting += 1;
                let weight = Weight::of(request, host, allowed, free);
                if best.as_ref().is_none_or(|(known, _)| weight > *known) {
                    best = Some((weight, host));
                }
            }
            Some(index) => {
                turned_away[index] += 1;
                if Filter::ALL[index].is_about_size() {
                    largest = larger(largest, largest_fit(request.resources, free));
                }
            }
        }
    }
    let Some((weight, host)) = best else {
        return Err(Refusal {
            wanted: request.resources,
            hosts: hosts.len(),
            refused: Filter::ALL
                .into_iter()
                .zip(turned_away)
                .filter(|(_, count)| *count > 0)
                .collect(),
            largest,
        });
    };
    let explanation = format!(
        "{} of {} hosts could take {}; {} keeps the most room: {}.{} % of its scarcest resource, {}",
        fitting,
        hosts.len(),
        request.resources,
        host.name,
        weight.left_permille / 10,
        weight.left_permille % 10,
        if host.servers == 1 { "1 server".to_owned() } else { format!("{} servers", host.servers) },
    );
    Ok(Decision { host: host.id, name: host.name.clone(), explanation })
}

/// Compared field by field: more room, then fewer servers, then a stable lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Weight {
    left_permille: u64,
    fewer_servers: std::cmp::Reverse<u64>,
    lot: u64,
    id: HostId,
}

impl Weight {
    fn of(request: &Request, host: &HostView, allowed: Resources, free: Resources) -> Self {
        let share = |free: u64, taken: u64, allowed: u64| {
            // A resource that the host has none of and nobody asks for does not make it scarce.
            if allowed == 0 { 1000 } else { permille(free.saturating_sub(taken), allowed) }
        };
        let wanted = request.resources;
        let left_permille = share(free.vcpus, wanted.vcpus, allowed.vcpus)
            .min(share(free.memory_mib, wanted.memory_mib, allowed.memory_mib))
            .min(share(free.disk_gib, wanted.disk_gib, allowed.disk_gib));
        let (high, low) = host.id.0.as_u64_pair();
        Weight {
            left_permille,
            fewer_servers: std::cmp::Reverse(host.servers),
            lot: (high ^ low ^ request.tie_breaker).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            id: host.id,
        }
    }
}

fn permille(part: u64, whole: u64) -> u64 {
    u64::try_from(u128::from(part) * 1000 / u128::from(whole.max(1))).unwrap_or(1000)
}

/// Scales what is wanted down by one factor until it fits: the smallest of `free / wanted`.
/// A server needs a processor and some memory, and a disk where the shape has one, so nothing fits
/// where one of them is used up; where the factor would leave less than one of each, one is kept.
fn largest_fit(wanted: Resources, free: Resources) -> Option<LargestFit> {
    if free.vcpus == 0 || free.memory_mib == 0 || wanted.vcpus == 0 {
        return None;
    }
    if wanted.disk_gib > 0 && free.disk_gib == 0 {
        return None;
    }
    let pairs = [
        (free.vcpus, wanted.vcpus),
        (free.memory_mib, wanted.memory_mib),
        (free.disk_gib, wanted.disk_gib),
    ];
    let (part, whole) = pairs
        .into_iter()
        .filter(|(_, wanted)| *wanted > 0)
        // a/b < c/d  ⇔  a·d < c·b, without rounding
        .min_by(|(a, b), (c, d)| {
            (u128::from(*a) * u128::from(*d)).cmp(&(u128::from(*c) * u128::from(*b)))
        })?;
    let scaled = |amount: u64| {
        u64::try_from(u128::from(amount) * u128::from(part) / u128::from(whole)).unwrap_or(u64::MAX)
    };
    let resources = Resources {
        vcpus: scaled(wanted.vcpus).max(1),
        memory_mib: scaled(wanted.memory_mib).max(1),
        disk_gib: scaled(wanted.disk_gib).max(u64::from(wanted.disk_gib > 0)),
    };
    Some(LargestFit { resources })
}

fn larger(known: Option<LargestFit>, found: Option<LargestFit>) -> Option<LargestFit> {
    let size =
        |fit: &LargestFit| (fit.resources.memory_mib, fit.resources.vcpus, fit.resources.disk_gib);
    match (known, found) {
        (Some(a), Some(b)) => Some(if size(&b) > size(&a) { b } else { a }),
        (a, b) => a.or(b),
    }
}
