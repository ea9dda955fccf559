//! The children this engine knows, each under a number of its own.
//!
//! An id is looked up once, where it enters: in a command, a message or a log entry. From there on a child is its
//! [`Slot`], and all that is known of it is one [`Record`]. Each concern owns a part of the record, in a file of its
//! own: `registry` the entry, `local` the instance of this node, `stops` those who wait for the end.
//!
//! A record goes when every part of it is empty, at the end of the turn that emptied it, and its slot is given to
//! another child. Lists and queues may still name the slot: whatever acts on such a name compares the instance, the
//! log entry or the deadline it came with, or only has the child looked at once more.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::KEPT_CAPACITY;
use super::local::Local;
use super::registry::Entry;
use super::stops::StopWaiters;
use crate::ids::ChildId;
use crate::wire::Wanted;

/// The number of a child in this engine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Slot(u32);

/// All that is known of one child.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) id: ChildId,
    /// XXH3-64 of the id.
    pub(super) hash: u64,
    /// What is wanted, and who runs it.
    pub(super) entry: Entry,
    /// The instance of this node.
    local: Option<Box<Local>>,
    /// Who waits for its end.
    pub(super) stop_waiters: Option<Box<StopWaiters>>,
    /// Earlier instances of it that end here and are not retained.
    pub(super) ending_count: u32,
    /// Readers have a row of it.
    pub(super) is_listed: bool,
    is_dirty: bool,
    is_changed: bool,
    is_free: bool,
}

impl Record {
    fn new(id: ChildId, hash: u64) -> Self {
        Self {
            id,
            hash,
            entry: Entry::default(),
            local: None,
            stop_waiters: None,
            ending_count: 0,
            is_listed: false,
            is_dirty: false,
            is_changed: false,
            is_free: false,
        }
    }

    /// The instance of this node.
    pub(super) fn local(&self) -> Option<&Local> {
        self.local.as_deref()
    }

    /// The instance of this node.
    pub(super) fn local_mut(&mut self) -> Option<&mut Local> {
        self.local.as_deref_mut()
    }

    /// The instance here goes on under the same start, which is mapped to other nodes now.
    pub(super) fn remap_local(&mut self, wanted: &Wanted) {
        if let (Some(local), Some(known)) = (self.local.as_deref_mut(), &self.entry.wanted)
            && let (Some(before), Some(spec)) = (&known.spec, &wanted.spec)
            && known.version < wanted.version
            && known.version.is_of(wanted.version)
            && Arc::ptr_eq(before, &local.spec)
        {
            local.spec = Arc::clone(spec);
        }
    }

    fn is_vacant(&self) -> bool {
        self.entry.is_empty()
            && self.entry.own_row_seq == 0
            && self.local.is_none()
            && self.stop_waiters.is_none()
            && self.ending_count == 0
            && !self.is_listed
    }
}

/// The table of the records.
#[derive(Debug, Default)]
pub(super) struct Children {
    records: Vec<Record>,
    by_id: HashTable<Slot>,
    free: Vec<Slot>,
    local_count: usize,
    /// Children to reconcile; each once.
    dirty: Vec<Slot>,
    /// Children whose rows may differ from what readers have, and records that may be empty; each once.
    changed: Vec<Slot>,
}

impl Index<Slot> for Children {
    type Output = Record;

    fn index(&self, slot: Slot) -> &Record {
        &self.records[slot.0 as usize]
    }
}

impl IndexMut<Slot> for Children {
    fn index_mut(&mut self, slot: Slot) -> &mut Record {
        &mut self.records[slot.0 as usize]
    }
}

impl Children {
    /// The slot of a child that is known.
    pub(super) fn find(&self, id: &str) -> Option<Slot> {
        let is_it = |slot: &Slot| self[*slot].id.as_str() == id;
        self.by_id.find(xxh3_64(id.as_bytes()), is_it).copied()
    }

    /// The slot of a child. The record of one that was not known goes again at the end of the turn, unless something
    /// is written into it.
    pub(super) fn intern(&mut self, id: &ChildId) -> Slot {
        let hash = xxh3_64(id.as_str().as_bytes());
        let records = &self.records;
        let is_it = |slot: &Slot| {
            let record = &records[slot.0 as usize];
            record.hash == hash && record.id == *id
        };
        if let Some(&slot) = self.by_id.find(hash, is_it) {
            return slot;
        }
        let mut record = Record::new(id.clone(), hash);
        let slot = match self.free.pop() {
            Some(slot) => {
                // The lists may name the slot still.
                (record.is_dirty, record.is_changed) = (self[slot].is_dirty, self[slot].is_changed);
                self[slot] = record;
                slot
            }
            None => {
                // More records than this do not fit into the memory of any machine.
                let slot = Slot(u32::try_from(self.records.len()).unwrap_or(u32::MAX));
                self.records.push(record);
                slot
            }
        };
        let records = &self.records;
        self.by_id.insert_unique(hash, slot, |slot| records[slot.0 as usize].hash);
        self.mark_changed(slot);
        slot
    }

    /// Makes room for more children at once: growing step by step copies the records again and again.
    pub(super) fn reserve(&mut self, additional: usize) {
        let records = &self.records;
        self.by_id.reserve(additional, |slot| records[slot.0 as usize].hash);
        self.records.reserve(additional.saturating_sub(self.free.len()));
    }

    /// How many children are known.
    pub(super) fn len(&self) -> usize {
        self.records.len() - self.free.len()
    }

    /// How many slots there are, free ones included.
    pub(super) fn slot_count(&self) -> usize {
        self.records.len()
    }

    /// The child in the slot of this index.
    pub(super) fn at(&self, index: usize) -> Option<Slot> {
        let record = self.records.get(index)?;
        (!record.is_free).then_some(Slot(index as u32))
    }

    /// All children, in the order of their slots.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Record)> {
        (0..).map(Slot).zip(&self.records).filter(|(_, record)| !record.is_free)
    }

    /// The children with an instance here, in the order of their slots.
    pub(super) fn locals(&self) -> impl Iterator<Item = (Slot, &Local)> {
        self.iter().filter_map(|(slot, record)| Some((slot, record.local()?)))
    }

    /// How many children have an instance here.
    pub(super) fn local_count(&self) -> usize {
        self.local_count
    }

    /// The instance of this node.
    pub(super) fn local(&self, slot: Slot) -> Option<&Local> {
        self[slot].local()
    }

    /// The instance of this node.
    pub(super) fn local_mut(&mut self, slot: Slot) -> Option<&mut Local> {
        self[slot].local_mut()
    }

    pub(super) fn insert_local(&mut self, slot: Slot, local: Local) {
        if self[slot].local.replace(Box::new(local)).is_none() {
            self.local_count += 1;
        }
    }

    pub(super) fn take_local(&mut self, slot: Slot) -> Option<Box<Local>> {
        let local = self[slot].local.take()?;
        self.local_count -= 1;
        self.mark_changed(slot);
        Some(local)
    }

    /// Changes those who wait for ends.
    pub(super) fn for_each_stop_waiters(&mut self, change: impl FnMut(&mut StopWaiters)) {
        self.records.iter_mut().filter_map(|record| record.stop_waiters.as_deref_mut()).for_each(change);
    }

    /// Has the child reconciled.
    pub(super) fn mark_dirty(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self[slot].is_dirty, true) {
            self.dirty.push(slot);
        }
    }

    /// The next child to reconcile.
    pub(super) fn pop_dirty(&mut self) -> Option<Slot> {
        let slot = self.dirty.pop()?;
        self[slot].is_dirty = false;
        Some(slot)
    }

    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Has the child's row published, and the record freed if it is empty.
    pub(super) fn mark_changed(&mut self, slot: Slot) {
        if !std::mem::replace(&mut self[slot].is_changed, true) {
            self.changed.push(slot);
        }
    }

    /// Takes the children whose rows may have changed. Give the list back with [`Self::published`].
    pub(super) fn take_changed(&mut self) -> Vec<Slot> {
        let changed = std::mem::take(&mut self.changed);
        for &slot in &changed {
            self[slot].is_changed = false;
        }
        changed
    }

    /// The rows of these children are published: empty records go.
    pub(super) fn published(&mut self, mut changed: Vec<Slot>) {
        for slot in changed.drain(..) {
            self.free_if_vacant(slot);
        }
        if self.changed.is_empty() {
            changed.shrink_to(KEPT_CAPACITY);
            self.changed = changed;
        }
    }

    fn free_if_vacant(&mut self, slot: Slot) {
        let record = &mut self[slot];
        if record.is_free || !record.is_vacant() {
            return;
        }
        record.is_free = true;
        let hash = record.hash;
        if let Ok(found) = self.by_id.find_entry(hash, |other| *other == slot) {
            found.remove();
        }
        self.free.push(slot);
    }

    /// Gives back what a burst of changes needed.
    pub(super) fn shrink(&mut self) {
        if self.dirty.is_empty() && self.dirty.capacity() > KEPT_CAPACITY {
            self.dirty.shrink_to(KEPT_CAPACITY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ChildId {
        ChildId::new(text).unwrap()
    }

    fn turn(children: &mut Children) {
        let changed = children.take_changed();
        children.published(changed);
    }

    #[test]
    fn id_nothing_came_of_then_its_slot_is_free_after_the_turn() {
        let mut children = Children::default();
        let first = children.intern(&id("a"));
        assert_eq!(children.intern(&id("a")), first);
        assert_eq!(children.find("a"), Some(first));
        turn(&mut children);
        assert_eq!((children.find("a"), children.len()), (None, 0));
        assert_eq!(children.intern(&id("b")), first);
        assert_eq!((children.find("a"), children.find("b")), (None, Some(first)));
    }

    #[test]
    fn record_says_something_then_it_stays_until_it_does_not() {
        let mut children = Children::default();
        let slot = children.intern(&id("a"));
        children[slot].ending_count = 1;
        turn(&mut children);
        assert_eq!(children.find("a"), Some(slot));
        children[slot].ending_count = 0;
        children.mark_changed(slot);
        turn(&mut children);
        assert_eq!(children.find("a"), None);
    }

    #[test]
    fn slot_is_reused_while_a_list_names_it_then_it_is_listed_once() {
        let mut children = Children::default();
        let slot = children.intern(&id("a"));
        children.mark_dirty(slot);
        turn(&mut children);
        assert_eq!(children.intern(&id("b")), slot);
        children.mark_dirty(slot);
        assert_eq!((children.pop_dirty(), children.pop_dirty()), (Some(slot), None));
    }
}
