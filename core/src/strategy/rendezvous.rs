//! Weighted rendezvous hashing (A10).

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::distribution::{Candidate, Distribution, Placements, ZONE_LABEL};
use super::log2::negative_log2;
use crate::ids::KindName;
use crate::spec::ChildSpec;

/// Weighted rendezvous hashing: a child goes to the nodes that score highest for it.
///
/// The rule, the same in every build and for ever (`tests/vectors/placement.json` holds it):
///
/// 1. `seed = xxh3_64(node name)`, `key = xxh3_64(child id)`, both over the UTF-8 bytes with seed 0. The incarnation
///    has no part in it: a restarted node gets its children back.
/// 2. `hash = mix(key ^ seed)` with the finisher of splitmix64:
///    `z += 0x9e3779b97f4a7c15; z = (z ^ z >> 30) · 0xbf58476d1ce4e5b9; z = (z ^ z >> 27) · 0x94d049bb133111eb; z ^ z >> 31`.
/// 3. The score is `weight / -log2(hash / 2^64)`, with an integer logarithm: `-log2` of a hash of 0 is that of 1, in
///    units of 2^-56, and between multiples of 1/256 of the mantissa it runs straight, rounded down. Scores are
///    compared as fractions, by multiplication. A higher score wins, and of equal ones the smaller (name, incarnation).
/// 4. Of the nodes that qualify, those of one `zone` label are ranked by score. All first ones come before all second
///    ones and so on; within one rank the score decides. The first `factor` of that order are the placement. The
///    owner therefore does not depend on zones or `factor`.
///
/// Shares are proportional to weights, and a node that comes or goes moves only children that come to it or were
/// its own: with zones, too, a placement never changes by more than that one node. The cost is one hash and one
/// logarithm for each child and qualifying node, and nothing is allocated per child.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ConsistentHashing;

impl Distribution for ConsistentHashing {
    fn name(&self) -> &'static str {
        "consistent_hashing"
    }

    fn place(&self, candidates: &[Candidate<'_>], children: &[&ChildSpec], factor: usize, placements: &mut Placements) {
        let bidders = bidders(candidates);
        let mut groups = Groups::new(candidates, &bidders);
        let mut ranking = Ranking::new(factor);
        for child in children {
            let group = groups.of(child);
            let key = xxh3_64(child.id.as_str().as_bytes());
            ranking.restart(group.zone_count);
            for bidder in &group.bidders {
                ranking.add(Bid::new(*bidder, key));
            }
            ranking.order();
            placements.push(ranking.bids.iter().map(|bid| bid.bidder.index));
        }
    }
}

/// What the rule needs to know of a candidate.
#[derive(Clone, Copy, Debug)]
struct Bidder {
    seed: u64,
    weight: u32,
    /// Its place among the candidates.
    index: u32,
    /// Its zone, as a number from 0.
    zone: u32,
}

/// The candidates by (name, incarnation), so that whoever comes first wins a tie.
fn bidders(candidates: &[Candidate<'_>]) -> Vec<Bidder> {
    let mut sorted: Vec<(u32, &Candidate<'_>)> = (0..).zip(candidates).collect();
    sorted.sort_by_key(|(_, candidate)| candidate.node);
    let mut zones = BTreeMap::new();
    sorted
        .into_iter()
        .map(|(index, candidate)| {
            let name = candidate.labels.get(ZONE_LABEL);
            let next_zone = zones.len() as u32;
            Bidder {
                seed: xxh3_64(candidate.node.name.as_str().as_bytes()),
                weight: candidate.weight,
                index,
                zone: *zones.entry(name).or_insert(next_zone),
            }
        })
        .collect()
}

/// The nodes that qualify, for each kind and requirement in the batch.
struct Groups<'a> {
    candidates: &'a [Candidate<'a>],
    bidders: &'a [Bidder],
    known: BTreeMap<Wish<'a>, usize>,
    groups: Vec<Group>,
    last: Option<(Wish<'a>, usize)>,
}

type Wish<'a> = (&'a KindName, &'a BTreeMap<String, String>);

struct Group {
    bidders: Vec<Bidder>,
    zone_count: usize,
}

impl<'a> Groups<'a> {
    fn new(candidates: &'a [Candidate<'a>], bidders: &'a [Bidder]) -> Self {
        Self { candidates, bidders, known: BTreeMap::new(), groups: Vec::new(), last: None }
    }

    fn of(&mut self, child: &'a ChildSpec) -> &Group {
        let wish = (&child.kind, &child.require);
        let number = match self.last {
            // Batches tend to be of one kind.
            Some((last, number)) if last == wish => number,
            Some(_) | None => match self.known.get(&wish) {
                Some(&number) => number,
                None => {
                    self.groups.push(self.group(child));
                    self.known.insert(wish, self.groups.len() - 1);
                    self.groups.len() - 1
                }
            },
        };
        self.last = Some((wish, number));
        &self.groups[number]
    }

    fn group(&self, child: &ChildSpec) -> Group {
        let mut bidders: Vec<Bidder> = self
            .bidders
            .iter()
            .filter(|bidder| self.candidates[bidder.index as usize].qualifies(child))
            .copied()
            .collect();
        let mut zones = BTreeMap::new();
        for bidder in &mut bidders {
            let next_zone = zones.len() as u32;
            bidder.zone = *zones.entry(bidder.zone).or_insert(next_zone);
        }
        Group { bidders, zone_count: zones.len() }
    }
}

/// One node's score for one child, as `weight / cost`.
#[derive(Clone, Copy, Debug)]
struct Bid {
    cost: u64,
    bidder: Bidder,
    /// (rank in the zone, rank overall), once all bids are in.
    order: (u32, u32),
}

impl Bid {
    fn new(bidder: Bidder, key: u64) -> Self {
        Self { cost: negative_log2(mix(key ^ bidder.seed)), bidder, order: (0, 0) }
    }

    fn beats(&self, other: &Self) -> bool {
        u128::from(self.cost) * u128::from(other.bidder.weight)
            < u128::from(other.cost) * u128::from(self.bidder.weight)
    }
}

/// The best bids for one child, the highest score first.
///
/// Bids that were dropped never come back: one more node changes a placement by at most itself (see
/// [`ConsistentHashing`]), so what is kept of a zone is always its best part.
struct Ranking {
    factor: usize,
    bids: Vec<Bid>,
    /// How many bids of each zone were counted so far; the length is the number of zones.
    seen: Vec<u32>,
}

impl Ranking {
    fn new(factor: usize) -> Self {
        Self { factor, bids: Vec::new(), seen: Vec::new() }
    }

    fn restart(&mut self, zone_count: usize) {
        self.bids.clear();
        self.seen.resize(zone_count, 0);
    }

    /// Whether zones have a say: the owner is the highest score anyway.
    fn is_zoned(&self) -> bool {
        self.factor > 1 && self.seen.len() > 1
    }

    fn add(&mut self, bid: Bid) {
        let is_full = self.bids.len() >= self.factor;
        if is_full && !self.is_zoned() && self.bids.last().is_none_or(|last| !bid.beats(last)) {
            return;
        }
        let position = self.bids.partition_point(|better| !bid.beats(better));
        self.bids.insert(position, bid);
        if is_full {
            self.drop_worst();
        }
    }

    /// Drops the last by (rank in the zone, rank overall).
    fn drop_worst(&mut self) {
        if !self.is_zoned() {
            self.bids.pop();
            return;
        }
        self.seen.fill(0);
        let (mut worst, mut worst_rank) = (0, 0);
        for (position, bid) in self.bids.iter().enumerate() {
            let rank = &mut self.seen[bid.bidder.zone as usize];
            if *rank >= worst_rank {
                (worst, worst_rank) = (position, *rank);
            }
            *rank += 1;
        }
        self.bids.remove(worst);
    }

    /// Brings the bids into their final order.
    fn order(&mut self) {
        if !self.is_zoned() {
            return;
        }
        self.seen.fill(0);
        for (position, bid) in (0..).zip(&mut self.bids) {
            let rank = &mut self.seen[bid.bidder.zone as usize];
            bid.order = (*rank, position);
            *rank += 1;
        }
        self.bids.sort_unstable_by_key(|bid| bid.order);
    }
}

/// The finisher of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014, with
/// the constants of Stafford's variant 13).
const fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source: `XXH3_64bits` of no bytes in the self-test of the xxHash reference implementation.
    #[test]
    fn no_bytes_then_the_hash_is_the_published_one() {
        assert_eq!(xxh3_64(b""), 0x2d06_8005_38d3_94c2);
    }

    /// Source: the first two numbers of splitmix64 seeded with 0, as published with xoshiro (prng.di.unimi.it).
    #[test]
    fn splitmix64_seeded_with_zero_then_the_finisher_gives_its_numbers() {
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }
}
