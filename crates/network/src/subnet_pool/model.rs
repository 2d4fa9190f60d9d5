//! Which prefixes a pool has and which range of them is given. Pure.

use cloud_types::{AddressScopeId, Fault, ProjectId, SubnetPoolId, Timestamp};
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use crate::attributes::{as_net, plain};
use crate::faults::invalid_attribute;
use crate::subnet::model::version_of;

/// Most prefixes of one pool.
pub const PREFIXES_MAX: usize = 256;

/// A pool as stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PoolRow {
    /// Its id.
    pub id: SubnetPoolId,
    /// The owner.
    pub project_id: ProjectId,
    /// Free text.
    pub name: String,
    /// Free text.
    pub description: String,
    /// 4 or 6.
    pub ip_version: u8,
    /// Its prefixes: merged, sorted, disjoint.
    pub prefixes: Vec<IpNet>,
    /// The lengths of prefixes that it gives.
    pub bounds: Bounds,
    /// How much each project may have, in addresses (IPv4) or networks of 64 bits (IPv6).
    pub default_quota: Option<i64>,
    /// Whether it is the cloud's pool for those who name none.
    pub is_default: bool,
    /// The scope in which it does not overlap with others.
    pub address_scope_id: Option<AddressScopeId>,
    /// Labels.
    pub tags: Vec<String>,
    /// Counts changes.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Lengths of prefixes, in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bounds {
    /// The shortest: the largest range.
    pub min: u8,
    /// The longest.
    pub max: u8,
    /// When nothing is asked.
    pub default: u8,
}

/// Lengths as a request names them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BoundsWish {
    /// The shortest.
    pub min: Option<i64>,
    /// The longest.
    pub max: Option<i64>,
    /// When nothing is asked.
    pub default: Option<i64>,
}

/// What is asked of a pool for a new subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeWish {
    /// Any range of this length; of the default length when none is named.
    Any(Option<i64>),
    /// This range.
    Exact(IpNet),
}

fn bits(version: u8) -> u8 {
    if version == 4 { 32 } else { 128 }
}

/// Settles the lengths: what is not named is as in `known`, or Neutron's default.
pub fn settle_bounds(
    version: u8,
    wish: BoundsWish,
    known: Option<Bounds>,
) -> Result<Bounds, Fault> {
    let most = i64::from(bits(version));
    let of = |named: Option<i64>, known: Option<u8>, other: i64| {
        named.or(known.map(i64::from)).unwrap_or(other)
    };
    let min = of(wish.min, known.map(|k| k.min), if version == 4 { 8 } else { 64 });
    let max = of(wish.max, known.map(|k| k.max), most);
    let default = of(wish.default, known.map(|k| k.default), min);
    let illegal = |kind: &str, length: i64, base: &str, other: i64| {
        Fault::bad_request(format!(
            "Illegal prefix bounds: {kind}_prefixlen={length}, {base}_prefixlen={other}."
        ))
        .named("IllegalSubnetPoolPrefixBounds")
    };
    if min > max {
        return Err(illegal("min", min, "max", max));
    }
    if max > most {
        return Err(illegal("max", max, "ip_version_max", most));
    }
    if default < min {
        return Err(illegal("default", default, "min", min));
    }
    if default > max {
        return Err(illegal("default", default, "max", max));
    }
    let narrow = |length: i64| u8::try_from(length).unwrap_or(u8::MAX);
    Ok(Bounds { min: narrow(min), max: narrow(max), default: narrow(default) })
}

/// Reads prefixes; host bits are cut off. Not merged yet.
pub fn read_prefixes(value: &Value) -> Result<Vec<IpNet>, Fault> {
    let name = "prefixes";
    let items = value.as_array().ok_or_else(|| {
        invalid_attribute(name, format!("Invalid data format for subnets: '{}'", plain(value)))
    })?;
    if items.len() > PREFIXES_MAX {
        return Err(invalid_attribute(name, format!("at most {PREFIXES_MAX} are allowed")));
    }
    let mut prefixes: Vec<IpNet> = Vec::with_capacity(items.len());
    for item in items {
        let net = as_net(name, item)?.trunc();
        if prefixes.contains(&net) {
            return Err(invalid_attribute(
                name,
                format!("Duplicate items in the list: '{}'", plain(item)),
            ));
        }
        prefixes.push(net);
    }
    Ok(prefixes)
}

/// Merges prefixes and says of which version they are.
pub fn merge(prefixes: &[IpNet]) -> Result<(u8, Vec<IpNet>), Fault> {
    let Some(version) = prefixes.first().map(version_of) else {
        return Err(
            Fault::bad_request("Empty subnet pool prefix list.").named("EmptySubnetPoolPrefixList")
        );
    };
    if prefixes.iter().any(|net| version_of(net) != version) {
        return Err(Fault::bad_request("Cannot mix IPv4 and IPv6 prefixes in a subnet pool.")
            .named("PrefixVersionMismatch"));
    }
    let mut merged = IpNet::aggregate(&prefixes.to_vec());
    merged.sort();
    Ok((version, merged))
}

/// Whether two ranges share an address.
pub fn overlaps(a: &IpNet, b: &IpNet) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// Whether every address of `part` lies in `whole`, which is merged.
pub fn covers(whole: &[IpNet], part: &IpNet) -> bool {
    whole.iter().any(|net| net.contains(part))
}

/// What is left of the prefixes without `taken`, as ranges.
pub fn without(prefixes: &[IpNet], taken: &[IpNet]) -> Vec<IpNet> {
    fn cut(net: IpNet, taken: &[IpNet], left: &mut Vec<IpNet>) {
        let here: Vec<IpNet> =
            taken.iter().copied().filter(|other| overlaps(&net, other)).collect();
        if here.is_empty() {
            left.push(net);
            return;
        }
        if here.iter().any(|other| other.contains(&net)) {
            return;
        }
        if let Ok(halves) = net.subnets(net.prefix_len() + 1) {
            for half in halves {
                cut(half, &here, left);
            }
        }
    }
    let mut left = Vec::new();
    for net in prefixes {
        cut(*net, taken, &mut left);
    }
    left
}

/// The units of a pool's quota in a range: addresses, or networks of 64 bits.
fn units(net: &IpNet) -> f64 {
    let unit = if version_of(net) == 4 { 32 } else { 64 };
    f64::powi(2.0, unit - i32::from(net.prefix_len()))
}

/// Finds the range for a subnet. `taken` are the ranges of all the pool's subnets, `own` those of the
/// project that asks.
pub fn give(
    pool: &PoolRow,
    wish: RangeWish,
    taken: &[IpNet],
    own: &[IpNet],
) -> Result<IpNet, Fault> {
    let bounds = pool.bounds;
    let length = match wish {
        RangeWish::Any(length) => length.unwrap_or_else(|| i64::from(bounds.default)),
        RangeWish::Exact(net) => i64::from(net.prefix_len()),
    };
    let refused = |word: &str, other: &str, bound: u8| {
        Fault::bad_request(format!(
            "Unable to allocate subnet with prefix length {length}, {word} allowed prefix is \
             {bound}."
        ))
        .named(format!("{other}PrefixSubnetAllocationError"))
    };
    if length > i64::from(bounds.max) {
        return Err(refused("maximum", "Max", bounds.max));
    }
    if length < i64::from(bounds.min) {
        return Err(refused("minimum", "Min", bounds.min));
    }
    let failed = |reason: String| {
        Fault::conflict(format!("Failed to allocate subnet: {reason}."))
            .named("SubnetAllocationError")
    };
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    let found = match wish {
        RangeWish::Exact(net) if version_of(&net) != pool.ip_version => {
            return Err(failed(format!("{net} is not of the pool's version {}", pool.ip_version)));
        }
        RangeWish::Exact(net) => {
            let free =
                covers(&pool.prefixes, &net) && !taken.iter().any(|other| overlaps(other, &net));
            free.then_some(net).ok_or_else(|| {
                failed("Cannot allocate requested subnet from the available set of prefixes".into())
            })?
        }
        RangeWish::Any(_) => {
            // The smallest piece that is large enough, so that large ones stay whole.
            let mut free = without(&pool.prefixes, taken);
            free.sort_by_key(|net| (std::cmp::Reverse(net.prefix_len()), *net));
            free.into_iter()
                .find(|net| net.prefix_len() <= length)
                .and_then(|net| net.subnets(length).ok()?.next())
                .ok_or_else(|| {
                    failed(format!("Insufficient prefix space to allocate subnet size /{length}"))
                })?
        }
    };
    // Neutron's zero is no quota.
    if let Some(quota) = pool.default_quota.filter(|quota| *quota > 0) {
        let used: f64 = own.iter().map(units).sum();
        #[allow(clippy::cast_precision_loss)]
        let quota = quota as f64;
        if used + units(&found) > quota {
            return Err(Fault::conflict("Per-tenant subnet pool prefix quota exceeded.")
                .named("SubnetPoolQuotaExceeded"));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn pool(prefixes: &[&str], quota: Option<i64>) -> PoolRow {
        let nets: Vec<IpNet> = prefixes.iter().map(|text| net(text)).collect();
        let (ip_version, prefixes) = merge(&nets).unwrap();
        let now = Timestamp(0);
        PoolRow {
            id: SubnetPoolId::random(),
            project_id: "p".parse().unwrap(),
            name: String::new(),
            description: String::new(),
            ip_version,
            prefixes,
            bounds: settle_bounds(ip_version, BoundsWish::default(), None).unwrap(),
            default_quota: quota,
            is_default: false,
            address_scope_id: None,
            tags: Vec::new(),
            revision: 0,
            created_at: now,
            updated_at: now,
        }
    }

    fn name(result: Result<impl std::fmt::Debug, Fault>) -> String {
        result.unwrap_err().name.unwrap()
    }

    #[test]
    fn prefixes_are_merged_and_of_one_version() {
        let merged = |texts: &[&str]| merge(&texts.iter().map(|t| net(t)).collect::<Vec<_>>());
        let (version, nets) = merged(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.128/25"]).unwrap();
        assert_eq!((version, nets), (4, vec![net("10.0.0.0/23")]));
        assert_eq!(name(merged(&["10.0.0.0/24", "fd00::/48"])), "PrefixVersionMismatch");
        assert_eq!(name(merged(&[])), "EmptySubnetPoolPrefixList");
        assert_eq!(read_prefixes(&json!(["10.0.0.9/24"])).unwrap(), [net("10.0.0.0/24")]);
        for bad in [json!("10.0.0.0/24"), json!([5]), json!(["x"]), json!(null)] {
            assert!(read_prefixes(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn lengths_have_defaults_and_an_order() {
        let settle = |version, min, max, default| {
            settle_bounds(version, BoundsWish { min, max, default }, None)
        };
        assert_eq!(settle(4, None, None, None).unwrap(), Bounds { min: 8, max: 32, default: 8 });
        assert_eq!(settle(6, None, None, None).unwrap(), Bounds { min: 64, max: 128, default: 64 });
        assert_eq!(settle(4, Some(29), None, None).unwrap().default, 29);
        for (min, max, default) in [
            (Some(30), Some(29), None),
            (None, Some(33), None),
            (Some(24), None, Some(23)),
            (None, Some(28), Some(29)),
        ] {
            assert_eq!(name(settle(4, min, max, default)), "IllegalSubnetPoolPrefixBounds");
        }
    }

    #[test]
    fn a_range_is_given_once_and_within_bounds_and_quota() {
        let pool = pool(&["10.0.0.0/24"], Some(192));
        let any = |length| RangeWish::Any(Some(length));
        assert_eq!(give(&pool, any(25), &[], &[]).unwrap(), net("10.0.0.0/25"));
        let taken = [net("10.0.0.0/25")];
        assert_eq!(give(&pool, any(26), &taken, &taken).unwrap(), net("10.0.0.128/26"));
        assert_eq!(name(give(&pool, any(25), &taken, &taken)), "SubnetPoolQuotaExceeded");
        assert_eq!(give(&pool, any(25), &taken, &[]).unwrap(), net("10.0.0.128/25"));
        assert_eq!(name(give(&pool, any(24), &taken, &[])), "SubnetAllocationError");
        assert_eq!(name(give(&pool, any(7), &[], &[])), "MinPrefixSubnetAllocationError");
        assert_eq!(name(give(&pool, any(33), &[], &[])), "MaxPrefixSubnetAllocationError");
        let exact = |text| RangeWish::Exact(net(text));
        assert!(give(&pool, exact("10.0.0.128/25"), &taken, &[]).is_ok());
        for other in ["10.0.0.0/26", "10.0.1.0/24", "fd00::/32"] {
            assert_eq!(
                name(give(&pool, exact(other), &taken, &[])),
                "SubnetAllocationError",
                "{other}"
            );
        }
    }

    proptest! {
        /// Whatever is asked in whatever order: no two ranges overlap, all lie in the pool, and a
        /// refusal means that no range of that length was free.
        #[test]
        fn ranges_never_overlap(lengths in proptest::collection::vec(24u8..=30, 1..40)) {
            let pool = pool(&["10.0.0.0/25", "10.9.0.0/26"], None);
            let mut taken: Vec<IpNet> = Vec::new();
            for length in lengths {
                match give(&pool, RangeWish::Any(Some(i64::from(length))), &taken, &[]) {
                    Ok(net) => {
                        prop_assert_eq!(net.prefix_len(), length);
                        prop_assert!(covers(&pool.prefixes, &net));
                        prop_assert!(!taken.iter().any(|other| overlaps(other, &net)));
                        taken.push(net);
                    }
                    Err(_) => {
                        let free = pool.prefixes.iter().any(|prefix| {
                            prefix.subnets(length).into_iter().flatten().any(|net| {
                                !taken.iter().any(|other| overlaps(other, &net))
                            })
                        });
                        prop_assert!(!free, "/{} was refused", length);
                    }
                }
            }
        }
    }
}
