//! What is to be changed in the configuration: one step at a time (R10).

use std::collections::BTreeMap;

use super::{Around, Quorum};
use crate::ids::NodeName;
use crate::strategy::QuorumRule;
use crate::wire::{ConfigId, Configuration, QuorumSlot, Seat};

/// A member that is here.
struct Present {
    seat: Seat,
    config: Option<ConfigId>,
    is_idle: bool,
    is_leaving: bool,
}

impl Quorum {
    /// The next configuration, if the present one does not fit who is here.
    pub(super) fn next_step(&mut self, around: &Around) -> Option<Configuration> {
        let known = self.known.as_ref()?;
        let mut next = known.config.clone();
        next.version += 1;
        let present = self.present(around);
        let is_here = |name: &NodeName| *name == self.me.name || around.member(name).is_some();
        let is_changed = vacate_leaver(&mut next, &present)
            || vacate_restarted(&mut next, &present)
            || fence_absent(&mut next, is_here)
            || readmit(&mut next, &present, known.id)
            || seat_unproven(&mut next, &present)
            || self.add_newcomer(&mut next, &present)
            || self.forget_lost(&mut next)
            || self.shrink(&mut next, is_here);
        if !is_changed && self.reset.is_some() {
            self.reset = None;
        }
        is_changed.then_some(next)
    }

    fn present(&self, around: &Around) -> BTreeMap<NodeName, Present> {
        let config = self.known.as_ref().map(|known| known.id);
        let own = Present { seat: self.seat(), config, is_idle: around.is_idle, is_leaving: around.is_leaving };
        let others = around.members.iter().filter_map(|node| {
            let beat = self.beats.get(node)?;
            let present = Present {
                seat: beat.seat(node),
                config: beat.config,
                is_idle: beat.is_idle,
                is_leaving: beat.is_leaving,
            };
            Some((node.name.clone(), present))
        });
        others.chain([(self.me.name.clone(), own)]).collect()
    }

    fn add_newcomer(&self, next: &mut Configuration, present: &BTreeMap<NodeName, Present>) -> bool {
        let newcomer = present.iter().find(|(name, member)| !next.slots.contains_key(*name) && member.is_unproven());
        let Some((name, member)) = newcomer else {
            return false;
        };
        next.slots.insert(name.clone(), QuorumSlot { seat: Some(member.seat), is_fenced: false });
        next.peak = self.options.rule.peak(next.slots.len(), next.peak);
        next.seated = next.version;
        true
    }

    /// Under DynamicQuorum a member that was lost for long counts no more.
    fn forget_lost(&self, next: &mut Configuration) -> bool {
        let QuorumRule::Dynamic { threshold, .. } = self.options.rule else {
            return false;
        };
        let is_forgotten = |name: &&NodeName| self.lost.get(*name).is_some_and(|lost| *lost >= threshold);
        let Some(name) = next.slots.keys().find(is_forgotten).cloned() else {
            return false;
        };
        remove(next, &name);
        true
    }

    /// A user asked for a smaller cluster.
    fn shrink(&self, next: &mut Configuration, is_here: impl Fn(&NodeName) -> bool) -> bool {
        let Some(size) = self.reset else {
            return false;
        };
        if next.slots.len() > size as usize
            && let Some(name) = next.slots.keys().find(|name| !is_here(name)).cloned()
        {
            remove(next, &name);
            return true;
        }
        let names = u32::try_from(next.slots.len()).unwrap_or(u32::MAX);
        let peak = size.max(names);
        std::mem::replace(&mut next.peak, peak) != peak
    }
}

impl Present {
    /// It may be given a seat.
    fn is_unproven(&self) -> bool {
        self.config.is_none() && self.is_idle && !self.is_leaving
    }
}

fn remove(next: &mut Configuration, name: &NodeName) {
    next.slots.remove(name);
    next.seated = next.version;
    next.revoked = next.version;
}

/// Somebody who leaves runs nothing any more: its slot goes, the peak stays.
fn vacate_leaver(next: &mut Configuration, present: &BTreeMap<NodeName, Present>) -> bool {
    let leaver = next.slots.iter().find(|(name, slot)| {
        let member = present.get(*name);
        member.is_some_and(|member| member.is_leaving && member.is_idle && slot.seat == Some(member.seat))
    });
    let Some(name) = leaver.map(|(name, _)| name.clone()).filter(|_| next.slots.len() > 1) else {
        return false;
    };
    remove(next, &name);
    true
}

/// Somebody is back and has forgotten what it agreed to.
fn vacate_restarted(next: &mut Configuration, present: &BTreeMap<NodeName, Present>) -> bool {
    let version = next.version;
    let restarted = next.slots.iter_mut().find(|(name, slot)| {
        present.get(*name).is_some_and(|member| slot.seat.is_some_and(|seat| seat != member.seat))
    });
    let Some((_, slot)) = restarted else {
        return false;
    };
    let was_entitled = !std::mem::replace(&mut slot.is_fenced, true);
    slot.seat = None;
    if was_entitled {
        next.revoked = version;
    }
    true
}

/// Nobody knows what those who are not here do.
fn fence_absent(next: &mut Configuration, is_here: impl Fn(&NodeName) -> bool) -> bool {
    let mut is_changed = false;
    for (name, slot) in &mut next.slots {
        if slot.seat.is_some() && !is_here(name) {
            is_changed |= !std::mem::replace(&mut slot.is_fenced, true);
        }
    }
    if is_changed {
        next.revoked = next.version;
    }
    is_changed
}

/// Somebody who was fenced knows it and runs nothing.
fn readmit(next: &mut Configuration, present: &BTreeMap<NodeName, Present>, id: ConfigId) -> bool {
    let mut is_changed = false;
    for (name, slot) in &mut next.slots {
        let is_ready = present.get(name).is_some_and(|member| {
            slot.seat == Some(member.seat) && member.config == Some(id) && member.is_idle && !member.is_leaving
        });
        if is_ready {
            is_changed |= std::mem::replace(&mut slot.is_fenced, false);
        }
    }
    is_changed
}

/// A slot whose node is back gets it.
fn seat_unproven(next: &mut Configuration, present: &BTreeMap<NodeName, Present>) -> bool {
    let version = next.version;
    let back = next.slots.iter_mut().find_map(|(name, slot)| {
        let member = present.get(name).filter(|member| slot.seat.is_none() && member.is_unproven())?;
        Some((slot, member.seat))
    });
    let Some((slot, seat)) = back else {
        return false;
    };
    slot.seat = Some(seat);
    slot.is_fenced = false;
    next.seated = version;
    true
}
