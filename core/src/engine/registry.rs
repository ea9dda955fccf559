//! The replicated map of children: what is wanted (R1) and who runs what (R2).
//!
//! Wanted entries are held by every node; the higher version wins. Rows are written by the node that runs the
//! instance only, in a numbered log. A row that was given away (`Gone … to`) counts as held until the receiver's log
//! is known up to the entry that says it has the child, so that no order of messages shows a moment at which
//! nobody holds it (R3).

use smallvec::SmallVec;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::children::Record;
use crate::ids::{Epoch, NodeName, NodeRef, Token};
use crate::wire::{InstanceRow, RequestKey, Stage, Version, Wanted};

/// Past starts of one child that are remembered.
const MAX_PAST_STARTS: usize = 8;
/// Losses of one child that are remembered as told.
const MAX_TOLD_LOSSES: usize = 16;
/// Number of buckets of the wanted digest.
pub(super) const BUCKETS: usize = 256;

/// What one node says, or said, about its instance of a child.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) node: NodeRef,
    pub(super) row: InstanceRow,
    /// The node is no member any more; its last word is kept until the child is adopted.
    pub(super) is_departed: bool,
    /// The instance was given to this node, whose log says so at this entry.
    pub(super) gone_after: Option<Box<(NodeRef, u64)>>,
}

impl Holder {
    /// Whether this is what its node says now.
    pub(super) fn is_told(&self, row: &InstanceRow) -> bool {
        !self.is_departed && self.gone_after.is_none() && self.row == *row
    }

    /// Whether the instance was given to this node, at this entry of its log if one is named.
    pub(super) fn is_given(&self, to: &NodeRef, seq: Option<u64>) -> bool {
        let given = self.gone_after.as_deref().filter(|(node, _)| node == to);
        given.is_some_and(|(_, at)| seq.is_none_or(|seq| seq == *at))
    }
}

/// What was, as far as it matters still.
#[derive(Clone, Debug, Default)]
struct Past {
    /// The requests of the latest starts before the present version, oldest first: one that is repeated has been done.
    starts: Vec<RequestKey>,
    /// The losses that were told here, oldest first.
    told_losses: Vec<Epoch>,
}

/// What is wanted of one child, and who runs it.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    pub(super) wanted: Option<Wanted>,
    /// Who wrote `wanted`.
    pub(super) author: Option<NodeRef>,
    /// Most children have one for good.
    pub(super) holders: SmallVec<[Holder; 1]>,
    /// The owner in the view with this number.
    pub(super) owner: Option<NodeRef>,
    /// The rest of the placement, in order. Most children have none.
    pub(super) others: Option<Box<SmallVec<[NodeRef; 1]>>>,
    pub(super) placed_in: u64,
    /// That nobody can run it was told.
    pub(super) is_unplaced_told: bool,
    /// Most children have none.
    past: Option<Box<Past>>,
    /// The highest epoch of any row seen, its holder gone or not.
    pub(super) seen_epoch: Epoch,
    /// The highest epoch that the hooks of the registry told here.
    pub(super) told_epoch: Epoch,
    /// Our log's entries about it; 0 for none.
    pub(super) own_row_seq: u64,
    pub(super) own_wanted_seq: u64,
    /// Whom our instance was given to, and which entry of that log says so: what a `Gone` of our log tells.
    pub(super) given: Option<Box<(NodeRef, u64)>>,
    /// The tombstone was written or learnt at this time, in microseconds.
    pub(super) stopped_at: u64,
}

impl Entry {
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.spec.is_some())
    }

    /// Whether this start was carried out and its child has ended since, stopped by somebody or by itself.
    pub(super) fn is_start_over(&self, start: RequestKey) -> bool {
        self.past.as_ref().is_some_and(|past| past.starts.contains(&start))
            || self.wanted.as_ref().is_some_and(|wanted| wanted.ended.as_deref() == Some(&start))
    }

    /// The request of the start that `wanted` tells of: the one under way, or the one a tombstone ended.
    pub(super) fn told_start(&self) -> Option<RequestKey> {
        let wanted = self.wanted.as_ref()?;
        if wanted.spec.is_some() { Some(wanted.request) } else { wanted.ended.as_deref().copied() }
    }

    /// Notes that a loss is told; says whether it was told before.
    pub(super) fn note_told_loss(&mut self, epoch: Epoch) -> bool {
        let told = &mut self.past.get_or_insert_default().told_losses;
        let is_told = told.contains(&epoch);
        if !is_told {
            if told.len() >= MAX_TOLD_LOSSES {
                told.remove(0);
            }
            told.push(epoch);
        }
        is_told
    }

    /// Where it is mapped to, if it is wanted.
    pub(super) fn mapping(&self) -> Option<&[NodeName]> {
        let spec = self.wanted.as_ref()?.spec.as_ref()?;
        Some(&spec.mapping)
    }

    pub(super) fn version(&self) -> Version {
        self.wanted.as_ref().map(|wanted| wanted.version).unwrap_or_default()
    }

    /// The highest epoch that anybody is known to have used.
    pub(super) fn highest_epoch(&self) -> Epoch {
        let rows = self.holders.iter().map(|holder| holder.row.token.epoch);
        let wanted = self.wanted.as_ref().map(|wanted| wanted.epoch);
        rows.chain(wanted).max().unwrap_or_default().max(self.seen_epoch)
    }

    /// A member that has the child in any form, other than `me`.
    pub(super) fn living_holder(&self, me: &NodeRef) -> Option<&Holder> {
        self.holders.iter().find(|holder| !holder.is_departed && holder.node != *me)
    }

    /// The member whose instance is the child: the active row with the highest token.
    pub(super) fn active_holder(&self) -> Option<&Holder> {
        self.holders
            .iter()
            .filter(|holder| !holder.is_departed && holder.gone_after.is_none() && holder.row.stage == Stage::Active)
            .max_by_key(|holder| holder.row.token)
    }

    /// Whether another member also tells that its instance is the child.
    pub(super) fn has_other_active(&self, me: &NodeRef) -> bool {
        self.holders.iter().any(|holder| {
            holder.node != *me
                && !holder.is_departed
                && holder.gone_after.is_none()
                && holder.row.stage == Stage::Active
        })
    }

    /// The last word of the gone node that had the child last.
    pub(super) fn departed_holder(&self) -> Option<&Holder> {
        self.holders
            .iter()
            .filter(|holder| holder.is_departed)
            .max_by_key(|holder| (holder.row.stage >= Stage::Active, holder.row.token))
    }

    /// A gone node that was the child under a higher token than this, and that nobody took over from.
    pub(super) fn departed_active_above(&self, token: Token) -> Option<&Holder> {
        self.departed_holder().filter(|holder| holder.row.stage == Stage::Active && holder.row.token > token)
    }

    /// What a node says of the instance it has, apart from one that it gave away.
    pub(super) fn holder(&self, node: &NodeRef) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.node == *node && holder.gone_after.is_none())
    }

    /// What a node says or said of an instance that was the child.
    pub(super) fn lead_of_mut(&mut self, node: &NodeRef) -> Option<&mut Holder> {
        self.holders.iter_mut().find(|holder| holder.node == *node && !holder.row.stage.is_replica())
    }

    /// Takes in what a node says of its instance, and answers what it said before. A replica's row leaves the one of
    /// the child that the node gave away: it counts until the receiver is heard.
    pub(super) fn write_row(&mut self, node: &NodeRef, row: &InstanceRow) -> Option<InstanceRow> {
        let is_replica = row.stage.is_replica();
        let is_it = |holder: &Holder| holder.node == *node && !(is_replica && holder.gone_after.is_some());
        let Some(at) = self.holders.iter().position(is_it) else {
            let (node, row) = (node.clone(), row.clone());
            self.holders.push(Holder { node, row, is_departed: false, gone_after: None });
            return None;
        };
        let holder = &mut self.holders[at];
        holder.is_departed = false;
        holder.gone_after = None;
        let before = std::mem::replace(&mut holder.row, row.clone());
        if !is_replica && self.holders.len() > 1 {
            let mut is_first = true;
            self.holders.retain(|holder| holder.node != *node || std::mem::take(&mut is_first));
        }
        Some(before)
    }

    /// The place of a node in the placement, the owner's being 0.
    pub(super) fn place_of(&self, node: &NodeRef) -> Option<usize> {
        if self.owner.as_ref() == Some(node) {
            return Some(0);
        }
        let others = self.others.as_deref()?;
        others.iter().position(|other| other == node).map(|at| at + 1)
    }

    /// The living instance that is the child, becomes it, or was it until the receiver is heard. One that starts under
    /// a higher token goes before one that was stopped, as far as that is known.
    pub(super) fn lead(&self) -> Option<&Holder> {
        self.holders
            .iter()
            .filter(|holder| !holder.is_departed && !holder.row.stage.is_replica())
            .max_by_key(|holder| (holder.row.stage != Stage::Incoming && holder.gone_after.is_none(), holder.row.token))
    }

    /// The replica that becomes the child when nobody is it any more: every member that knows the same finds the same.
    pub(super) fn successor(&self) -> Option<&NodeRef> {
        let replicas = self.holders.iter().filter(|holder| !holder.is_departed && holder.row.stage.is_replica());
        let rank = |holder: &&Holder| {
            let place = self.place_of(&holder.node).unwrap_or(usize::MAX);
            (holder.row.stage == Stage::QuarantinedReplica, place, holder.node.clone())
        };
        replicas.min_by_key(rank).map(|holder| &holder.node)
    }

    /// Whether somebody starts it and nobody runs it yet: readers are told of it once somebody does.
    pub(super) fn is_starting(&self) -> bool {
        let mut living = self.holders.iter().filter(|holder| !holder.is_departed);
        let is_starting = living.clone().any(|holder| holder.row.stage == Stage::Starting);
        is_starting && !living.any(|holder| holder.row.stage == Stage::Active && holder.gone_after.is_none())
    }

    /// Whether the entry says nothing any more.
    pub(super) fn is_empty(&self) -> bool {
        self.wanted.is_none() && self.holders.is_empty()
    }
}

/// The digest of the wanted children of all records.
#[derive(Debug)]
pub(super) struct Registry {
    buckets: Vec<u64>,
    root: u64,
    /// Hash over the tombstones.
    stopped: u64,
    /// The highest counter of a wanted version seen anywhere. Writes count on from it, and never start below the
    /// wall clock in milliseconds: so a newcomer, which is not told old tombstones, writes above them, and where two
    /// sides wrote without each other the later write wins, as far as the clocks agree.
    clock: u64,
}

impl Default for Registry {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], root: 0, stopped: 0, clock: 0 }
    }
}

/// The bucket of a child in the wanted digest.
pub(super) fn bucket_of(record: &Record) -> usize {
    (record.hash >> 56) as usize
}

fn digest_of(hash: u64, version: Version) -> u64 {
    let Version { counter, author, revision, reviser } = version;
    let mut bytes = [0; 32];
    for (part, number) in bytes.chunks_exact_mut(8).zip([counter, author.0, revision, reviser.0]) {
        part.copy_from_slice(&number.to_le_bytes());
    }
    xxh3_64_with_seed(&bytes, hash)
}

impl Registry {
    /// Hash over the wanted children.
    pub(super) fn wanted_hash(&self) -> u64 {
        self.root
    }

    /// Hash over the tombstones.
    pub(super) fn stopped_hash(&self) -> u64 {
        self.stopped
    }

    pub(super) fn buckets(&self) -> &[u64] {
        &self.buckets
    }

    /// The highest counter seen.
    pub(super) fn clock(&self) -> u64 {
        self.clock
    }

    /// Goes on from a member's clock.
    pub(super) fn note_clock(&mut self, clock: u64) {
        self.clock = self.clock.max(clock);
    }

    /// Merges a wanted entry: keeps the higher version. Answers whether it changed anything.
    pub(super) fn merge_wanted(&mut self, record: &mut Record, author: &NodeRef, wanted: Wanted, now_us: u64) -> bool {
        self.clock = self.clock.max(wanted.version.written());
        let hash = record.hash;
        let bucket = bucket_of(record);
        record.remap_local(&wanted);
        let entry = &mut record.entry;
        if entry.wanted.as_ref().is_some_and(|known| known.version >= wanted.version) {
            return false;
        }
        if let Some(start) = entry.told_start()
            && wanted.request != start
            && wanted.ended.as_deref() != Some(&start)
        {
            let starts = &mut entry.past.get_or_insert_default().starts;
            if starts.len() >= MAX_PAST_STARTS {
                starts.remove(0);
            }
            starts.push(start);
        }
        let (mut change, mut stopped_change) = (0, 0);
        if let Some(known) = &entry.wanted {
            let digest = digest_of(hash, known.version);
            if known.spec.is_none() {
                stopped_change ^= digest;
            } else {
                change ^= digest;
            }
        }
        if let Some(spec) = &wanted.spec {
            change ^= digest_of(hash, wanted.version);
            // One text for the record and the spec: both came from the wire on their own.
            if spec.id == record.id {
                record.id = spec.id.clone();
            }
        } else {
            stopped_change ^= digest_of(hash, wanted.version);
            entry.stopped_at = now_us;
        }
        entry.wanted = Some(wanted);
        entry.author = Some(author.clone());
        entry.placed_in = 0;
        entry.is_unplaced_told = false;
        self.buckets[bucket] ^= change;
        self.root ^= change;
        self.stopped ^= stopped_change;
        true
    }

    /// Forgets a tombstone.
    pub(super) fn forget_tombstone(&mut self, record: &mut Record) {
        if let Some(tombstone) = record.entry.wanted.take_if(|wanted| wanted.spec.is_none()) {
            self.stopped ^= digest_of(record.hash, tombstone.version);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::children::Children;
    use crate::ids::{ChildId, Incarnation, NodeName};
    use crate::spec::ChildSpec;
    use crate::wire::RequestKey;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn node(number: u64) -> NodeRef {
        NodeRef { name: NodeName::new(format!("n{number}")).unwrap(), incarnation: Incarnation(number) }
    }

    fn wanted(counter: u64, author: u64, is_spec: bool) -> Wanted {
        Wanted {
            version: Version { counter, author: Incarnation(author), ..Version::default() },
            request: RequestKey::default(),
            spec: is_spec.then(|| Arc::new(ChildSpec::new("c", "k").unwrap())),
            ended: None,
            epoch: Epoch(0),
            seq: 0,
        }
    }

    fn digest(registry: &Registry, children: &Children) -> (u64, Vec<u64>, Vec<(ChildId, Version)>) {
        let records = children.iter().map(|(_, record)| record);
        let mut versions: Vec<_> = records.map(|record| (record.id.clone(), record.entry.version())).collect();
        versions.sort();
        (registry.wanted_hash(), registry.buckets().to_vec(), versions)
    }

    #[test]
    fn newcomer_hears_of_a_stop_then_the_start_it_ended_is_over() {
        let (mut registry, mut children) = (Registry::default(), Children::default());
        let child = children.intern(&ChildId::new("c").unwrap());
        let start = RequestKey { incarnation: Incarnation(1), request: 7 };
        let tombstone = Wanted { ended: Some(Box::new(start)), ..wanted(1, 1, false) };
        registry.merge_wanted(&mut children[child], &node(1), tombstone, 0);
        assert!(children[child].entry.is_start_over(start));
        registry.merge_wanted(&mut children[child], &node(1), wanted(2, 1, true), 0);
        assert!(children[child].entry.is_start_over(start), "a later start does not make it undone");
    }

    proptest! {
        /// S10: the merge is commutative, associative and idempotent, and the digest follows it.
        #[test]
        fn entries_merged_in_any_order_then_one_registry(
            writes in proptest::collection::vec((0u8..5, 1u64..6, 1u64..4), 1..40),
            seed in any::<u64>(),
        ) {
            let apply = |order: &[(u8, u64, u64)]| {
                let (mut registry, mut children) = (Registry::default(), Children::default());
                for &(child, counter, author) in order {
                    let child = children.intern(&ChildId::new(format!("c{child}")).unwrap());
                    // One version has one content: whether it is a tombstone follows from the version.
                    let write = wanted(counter, author, (counter + author) % 3 != 0);
                    registry.merge_wanted(&mut children[child], &node(author), write, 0);
                }
                digest(&registry, &children)
            };
            let mut shuffled = writes.clone();
            let count = shuffled.len();
            for at in 0..count {
                let other = (seed.rotate_left(at as u32) as usize) % count;
                shuffled.swap(at, other);
            }
            shuffled.extend_from_slice(&writes);
            prop_assert_eq!(apply(&writes), apply(&shuffled));
        }
    }
}
