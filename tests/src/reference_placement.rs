//! The placement rule a second time, written from its description (the doc of `ConsistentHashing`) as plainly as it
//! goes: floats, full sorts, allocations. It is the oracle for the real one, which it must not share code with.

use std::collections::{BTreeMap, BTreeSet};

use process_hub::ids::{KindName, NodeRef};
use process_hub::spec::ChildSpec;
use xxhash_rust::xxh3::xxh3_64;

/// A node that may be given children.
#[derive(Clone, Debug)]
pub struct ReferenceNode {
    /// The node.
    pub node: NodeRef,
    /// Its weight in thousandths.
    pub weight: u32,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The kinds it registered.
    pub kinds: BTreeSet<KindName>,
}

/// The nodes of a child, the owner first: up to `factor`, none when nobody qualifies.
#[must_use]
pub fn place<'a>(nodes: &'a [ReferenceNode], child: &ChildSpec, factor: usize) -> Vec<&'a NodeRef> {
    let mut ranking: Vec<(f64, &ReferenceNode)> = nodes
        .iter()
        .filter(|it| it.weight > 0 && it.kinds.contains(&child.kind))
        .filter(|it| child.require.iter().all(|(k, v)| it.labels.get(k) == Some(v)))
        .map(|it| (score(it, child), it))
        .collect();
    ranking.sort_by(|(a_score, a), (b_score, b)| b_score.total_cmp(a_score).then_with(|| a.node.cmp(&b.node)));
    let mut seen = BTreeMap::new();
    let mut spread: Vec<(u32, &NodeRef)> = ranking
        .iter()
        .map(|(_, it)| {
            let rank_in_zone = seen.entry(it.labels.get("zone")).or_insert(0);
            *rank_in_zone += 1;
            (*rank_in_zone, &it.node)
        })
        .collect();
    spread.sort_by_key(|&(rank_in_zone, _)| rank_in_zone);
    spread.truncate(factor);
    spread.into_iter().map(|(_, node)| node).collect()
}

fn score(node: &ReferenceNode, child: &ChildSpec) -> f64 {
    let mut z = xxh3_64(child.id.as_str().as_bytes()) ^ xxh3_64(node.node.name.as_str().as_bytes());
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    f64::from(node.weight) / negative_log2((z ^ (z >> 31)).max(1))
}

/// `-log2(hash / 2^64)`, straight between multiples of 1/256 of the mantissa.
fn negative_log2(hash: u64) -> f64 {
    let exponent = hash.ilog2();
    let segments = (hash as f64 / 2f64.powi(exponent as i32) - 1.0) * 256.0;
    let (segment, rest) = (segments.floor(), segments.fract());
    let log = |segment: f64| (1.0 + segment / 256.0).log2();
    let mantissa = log(segment) + (log(segment + 1.0) - log(segment)) * rest;
    64.0 - f64::from(exponent) - mantissa
}
