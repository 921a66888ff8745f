//! Random numbers that are a function of the seed alone (SplitMix64), so that every story can be told again.

/// The generator. Two with the same seed give the same numbers for ever.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `min` to `max`, both included; `min` when `max` is smaller.
    pub(crate) fn between(&mut self, min: i64, max: i64) -> i64 {
        let width = max.saturating_sub(min).saturating_add(1);
        match u64::try_from(width) {
            Ok(width) if width > 1 => min.saturating_add(i64::try_from(self.next() % width).unwrap_or(0)),
            _ => min,
        }
    }

    /// True with this probability, 0 to 1.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        let parts = u32::try_from(self.next() >> 32).unwrap_or(0);
        f64::from(parts) / 4_294_967_296.0 < probability
    }

    /// 32 lowercase hexadecimal digits.
    pub(crate) fn hex32(&mut self) -> String {
        format!("{:016x}{:016x}", self.next(), self.next())
    }

    /// Reads like a random UUID (version 4).
    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xFFFF,
            a & 0xFFF,
            0x8000 | ((b >> 48) & 0x3FFF),
            b & 0xFFFF_FFFF_FFFF
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_in_their_bounds_and_repeat() {
        let (mut a, mut b) = (Rng::new(7), Rng::new(7));
        for _ in 0..1000 {
            let n = a.between(-3, 3);
            assert!((-3..=3).contains(&n));
            assert_eq!(n, b.between(-3, 3));
        }
        assert_eq!(a.between(5, 5), 5);
        assert_eq!(a.between(5, 1), 5);
        assert!(a.chance(1.0));
        assert!(!a.chance(0.0));
        let id = a.uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
