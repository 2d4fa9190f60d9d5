//! Groups (one packet to several buckets, or to one of them) and meters (rate limits).

use super::action::Action;

/// How a group picks buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// Every bucket gets a copy.
    All,
    /// One bucket, by a hash of the packet's addresses and ports and the weights.
    Select,
    /// The one bucket there is.
    Indirect,
    /// The first bucket whose watched port is up.
    FastFailover,
}

/// One branch of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// Share of the traffic, in [`GroupKind::Select`]; otherwise 0.
    pub weight: u16,
    /// Port that must be up, in [`GroupKind::FastFailover`].
    pub watch_port: Option<u32>,
    /// What to do.
    pub actions: Vec<Action>,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group {
    /// Identifier, below `0xffffff00`.
    pub id: u32,
    /// How it picks buckets.
    pub kind: GroupKind,
    /// Its branches.
    pub buckets: Vec<Bucket>,
}

/// What a meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MeterUnit {
    /// 1,000 bits a second.
    Kilobits,
    /// Packets a second.
    Packets,
}

/// A rate limit that drops what is over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meter {
    /// Identifier, from 1.
    pub id: u32,
    /// What is counted.
    pub unit: MeterUnit,
    /// Units a second.
    pub rate: u32,
    /// Units that may come at once.
    pub burst: u32,
}
