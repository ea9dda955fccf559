//! A logarithm in integers, the same on every platform.

/// Bits after the point of the answers of [`negative_log2`].
pub(crate) const FRACTION_BITS: u32 = 56;

/// The interval from 1 to 2 is cut into this many segments, as a power of two.
const SEGMENT_BITS: u32 = 8;
const SEGMENTS: usize = 1 << SEGMENT_BITS;

/// `log2(1 + i / 256)` for `i` in `0..=256`, in units of 2^-56, rounded down.
static LOG2: [u64; SEGMENTS + 1] = table();

/// `-log2(hash / 2^64)` in units of 2^-56: below 2^63, and the smaller the larger `hash` is. Zero counts as one.
///
/// The logarithm is exact (to 2^-56) where the mantissa is a multiple of 1/256, and runs straight between. The
/// absolute error is below 2.8e-6, and the relative one below 0.2 % but for the last 2^20 hashes.
pub(crate) fn negative_log2(hash: u64) -> u64 {
    let hash = hash.max(1);
    let zeros = hash.leading_zeros();
    // The mantissa in [1, 2), without its leading one: 8 bits choose the segment, 55 the place in it.
    let fraction = (hash << zeros) & (u64::MAX >> 1);
    let rest_bits = 63 - SEGMENT_BITS;
    let segment = (fraction >> rest_bits) as usize;
    let rest = fraction & ((1 << rest_bits) - 1);
    let (low, high) = (LOG2[segment], LOG2[segment + 1]);
    let part = ((u128::from(high - low) * u128::from(rest)) >> rest_bits) as u64;
    (u64::from(zeros + 1) << FRACTION_BITS) - (low + part)
}

const fn table() -> [u64; SEGMENTS + 1] {
    let mut table = [0; SEGMENTS + 1];
    let mut i = 0;
    while i < SEGMENTS {
        table[i] = log2_of_mantissa(((SEGMENTS + i) as u64) << (63 - SEGMENT_BITS));
        i += 1;
    }
    table[SEGMENTS] = 1 << FRACTION_BITS;
    table
}

/// The logarithm of a number in [1, 2), given in units of 2^-63, bit by bit: squaring doubles the logarithm, and its
/// next bit says whether the square reached 2.
const fn log2_of_mantissa(mut mantissa: u64) -> u64 {
    let mut log = 0;
    let mut bit = 0;
    while bit < FRACTION_BITS {
        let square = (mantissa as u128) * (mantissa as u128);
        let reached_two = square >> 127;
        log = log << 1 | reached_two as u64;
        mantissa = (square >> (63 + reached_two)) as u64;
        bit += 1;
    }
    log
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn exact(hash: u64) -> f64 {
        if hash < 1 << 63 {
            return 64.0 - (hash as f64).log2();
        }
        // Near 2^64 the plain logarithm cancels; ln_1p of the small distance does not.
        let missing = (u64::MAX - hash) as f64 + 1.0;
        -(-missing / 2f64.powi(64)).ln_1p() / std::f64::consts::LN_2
    }

    fn answer(hash: u64) -> f64 {
        negative_log2(hash) as f64 / 2f64.powi(56)
    }

    #[test]
    fn powers_of_two_then_the_answer_is_exact() {
        for exponent in 0..64 {
            assert_eq!(negative_log2(1 << exponent), (64 - exponent) << FRACTION_BITS);
        }
        assert_eq!(negative_log2(0), negative_log2(1));
    }

    #[test]
    fn segment_ends_then_the_table_matches_the_float_logarithm() {
        for (i, &entry) in LOG2.iter().enumerate() {
            let float = (1.0 + i as f64 / SEGMENTS as f64).log2();
            let difference = entry as f64 / 2f64.powi(56) - float;
            assert!(difference.abs() < 1e-15, "{i}: {difference:e}");
        }
    }

    #[test]
    fn largest_hash_then_the_cost_is_above_zero() {
        assert!(negative_log2(u64::MAX) > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn any_hash_then_the_error_is_small(hash in any::<u64>(), shift in 0u32..64) {
            // Shifted to reach the small ones, inverted to reach those near 2^64.
            for hash in [hash >> shift, !(hash >> shift)] {
                let hash = hash.clamp(1, u64::MAX - (1 << 20));
                let (answer, exact) = (answer(hash), exact(hash));
                prop_assert!((answer - exact).abs() < 2.8e-6, "{hash}: {answer} and {exact}");
                prop_assert!((answer - exact).abs() < 0.002 * exact, "{hash}: {answer} and {exact}");
            }
        }

        #[test]
        fn larger_hash_then_the_cost_is_not_higher(
            hash in any::<u64>(),
            shift in 0u32..64,
            step in 1u64..1 << 40,
        ) {
            let smaller = hash >> shift;
            for larger in [smaller.saturating_add(1), smaller.saturating_add(step)] {
                prop_assert!(negative_log2(larger) <= negative_log2(smaller));
            }
        }
    }
}
