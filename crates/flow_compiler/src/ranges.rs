//! A range of transport ports as the fewest bit patterns that cover exactly it.

/// Splits `low..=high` into (value, mask) pairs; empty when `low > high`.
pub(crate) fn masks(low: u16, high: u16) -> Vec<(u16, u16)> {
    let mut out = Vec::new();
    let (mut next, end) = (u32::from(low), u32::from(high) + 1);
    while next < end {
        // The largest aligned block that starts here and does not pass the end.
        let aligned = if next == 0 { 16 } else { next.trailing_zeros().min(16) };
        let mut bits = aligned;
        while next + (1 << bits) > end {
            bits -= 1;
        }
        out.push((next as u16, (0xffff_u32 << bits) as u16));
        next += 1 << bits;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::masks;

    #[test]
    fn edges() {
        assert_eq!(masks(22, 22), [(22, 0xffff)]);
        assert_eq!(masks(0, 65535), [(0, 0)]);
        assert_eq!(masks(1, 65535).len(), 16);
        assert_eq!(masks(5, 4), []);
        assert_eq!(masks(80, 83), [(80, 0xfffc)]);
    }

    proptest::proptest! {
        #[test]
        fn a_port_is_covered_once_or_not_at_all(low: u16, high: u16, probe: u16) {
            for port in [probe, low, high, low.wrapping_sub(1), high.wrapping_add(1)] {
                let hits = masks(low, high).iter().filter(|(v, m)| port & m == *v).count();
                proptest::prop_assert_eq!(hits, usize::from(low <= port && port <= high));
            }
        }
    }
}
