//! Questions about the hub, and the small operations.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::children::Slot;
use super::io::PlanChange;
use super::local::Phase;
use super::membership::View;
use super::outgoing::Step;
use super::publish::row_of;
use super::requests::Request;
use super::{Engine, Outcome, TimerKey};
use crate::error::{Error, ErrorKind};
use crate::host::call::KindInfo;
use crate::ids::{ChildId, Incarnation, KindName, NodeName, NodeRef, RequestId};
use crate::spec::ChildSpec;
use crate::strategy::{Placements, weight_thousandths};
use crate::wire::{MemberInfo, Message};

/// One `sync`.
#[derive(Debug)]
pub(super) struct SyncRequest {
    seq: u64,
}

/// One `which_children(global)`.
#[derive(Debug)]
pub(super) struct WhichChildrenRequest {
    answers: BTreeMap<NodeName, Vec<ChildId>>,
    open: BTreeSet<NodeRef>,
}

impl Engine {
    pub(super) fn register(&mut self, request: RequestId, kinds: Vec<KindInfo>) {
        for kind in kinds {
            self.kinds.insert(kind.name.clone(), kind);
        }
        self.info.kinds = self.kinds.values().cloned().collect();
        self.info_changed();
        self.reply(request, Ok(Outcome::Done));
    }

    pub(super) fn sync_request(&mut self, request: RequestId, timeout: Duration) {
        self.requests.insert(request.0, Request::Sync(SyncRequest { seq: self.log.seq }));
        self.timers.arm(TimerKey::RequestEnd(request.0), self.now + timeout);
        self.syncs_progress();
    }

    /// Answers the syncs whose entries every member has.
    pub(super) fn syncs_progress(&mut self) {
        let me = &self.me;
        let members = self.membership.others(me).filter_map(|node| self.membership.peers.get(node));
        let everywhere = members.map(|peer| peer.acked_seq).min().unwrap_or(u64::MAX);
        let done: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| matches!(request, Request::Sync(sync) if sync.seq <= everywhere))
            .map(|(id, _)| *id)
            .collect();
        for id in done {
            self.close_request(id);
            self.reply(RequestId(id), Ok(Outcome::Done));
        }
    }

    fn local_children(&self) -> Vec<ChildId> {
        let mut children: Vec<ChildId> = self
            .children
            .locals()
            .filter(|(_, local)| match &local.phase {
                Phase::Active | Phase::Outgoing(_) | Phase::Resting { .. } => true,
                Phase::Starting { is_first, .. } => !is_first,
                Phase::Quarantined { .. } | Phase::Incoming(_) | Phase::Ending => false,
            })
            .map(|(child, _)| self.id(child))
            .collect();
        children.sort();
        children
    }

    pub(super) fn which_children_request(&mut self, request: RequestId, timeout: Duration) {
        let open: BTreeSet<NodeRef> = self.membership.others(&self.me).cloned().collect();
        for node in &open {
            self.send_ctl(node, &Message::WhichChildren(request.0));
        }
        let answers = BTreeMap::from([(self.me.name.clone(), self.local_children())]);
        self.requests.insert(request.0, Request::WhichChildren(WhichChildrenRequest { answers, open }));
        self.timers.arm(TimerKey::RequestEnd(request.0), self.now + timeout);
        self.which_children_progress(request.0);
    }

    pub(super) fn which_children_received(&mut self, from: &NodeRef, request: u64) {
        let children = self.local_children();
        self.send_ctl(from, &Message::Children(request, children));
    }

    pub(super) fn children_received(&mut self, from: &NodeRef, id: u64, children: Vec<ChildId>) {
        if let Some(Request::WhichChildren(request)) = self.requests.get_mut(&id)
            && request.open.remove(from)
        {
            request.answers.insert(from.name.clone(), children);
            self.which_children_progress(id);
        }
    }

    pub(super) fn which_children_lose(&mut self, id: u64, node: &NodeRef) {
        if let Some(Request::WhichChildren(request)) = self.requests.get_mut(&id) {
            request.open.remove(node);
        }
        self.which_children_progress(id);
    }

    fn which_children_progress(&mut self, id: u64) {
        let is_done =
            matches!(self.requests.get(&id), Some(Request::WhichChildren(request)) if request.open.is_empty());
        if is_done && let Some(Request::WhichChildren(request)) = self.close_request(id) {
            self.reply(RequestId(id), Ok(Outcome::Children(request.answers)));
        }
    }

    pub(super) fn acknowledge_loss_request(&mut self, request: RequestId, id: &ChildId) {
        let child = self.children.intern(id);
        let holder = self.children[child].entry.active_holder();
        let Some(node) = holder.map(|holder| holder.node.clone()) else {
            let error = Error::new(ErrorKind::NotFound, "acknowledge_loss", "no active instance is known")
                .with_child(id.as_str());
            self.reply(request, Err(error));
            return;
        };
        if node == self.me {
            self.clear_loss(child);
        } else {
            self.send_ctl(&node, &Message::AcknowledgeLoss(id.clone()));
        }
        self.reply(request, Ok(Outcome::Done));
    }

    pub(super) fn clear_loss(&mut self, child: Slot) {
        if let Some(local) = self.children.local_mut(child)
            && local.lost.take().is_some()
        {
            self.publish_local(child);
        }
    }

    pub(super) fn where_request(&mut self, request: RequestId, id: &ChildId) {
        let child = self.children.intern(id);
        let entry = &self.children[child].entry;
        if let Some(why) = self.unplaced_statics.get(id).filter(|_| !entry.is_wanted()) {
            let answer = json!({
                "id": id, "owner": null, "placement": [], "rows": null, "moving": null, "unplaced": why, "last_moves": [],
            });
            return self.reply(request, Ok(Outcome::Json(answer)));
        }
        if !entry.is_wanted() {
            let error = Error::new(ErrorKind::NotFound, "where", "no such child is wanted").with_child(id.as_str());
            self.reply(request, Err(error));
            return;
        }
        let spec = entry.wanted.as_ref().and_then(|wanted| wanted.spec.clone());
        let row = row_of(entry).map(|row| serde_json::to_value(&row).unwrap_or_default());
        let owner = self.owner_of(child).map(|owner| owner.name);
        let candidates = self.membership.view.candidates();
        let mut placements = Placements::new();
        let placement: Vec<NodeName> = spec
            .map(|spec| {
                let factor = self.strategies.redundancy.factor(candidates.len());
                let _ = self.strategies.place(&candidates, &[&spec], factor, &mut placements);
                let chosen = placements.get(0).iter();
                chosen.filter_map(|&index| candidates.get(index as usize)).map(|one| one.node.name.clone()).collect()
            })
            .unwrap_or_default();
        let unplaced = placement.is_empty().then(|| self.why_unplaced(child));
        let answer = json!({
            "id": id, "owner": owner, "placement": placement, "rows": row,
            "moving": self.moving(child), "unplaced": unplaced, "last_moves": self.last_moves(child),
        });
        self.reply(request, Ok(Outcome::Json(answer)));
    }

    fn moving(&self, child: Slot) -> Value {
        match self.children.local(child).map(|local| &local.phase) {
            Some(Phase::Outgoing(outgoing)) => {
                let step = match outgoing.step {
                    Step::Preparing => "preparing",
                    Step::Freezing => "freezing",
                    Step::Snapshotting => "snapshotting",
                    Step::ColdStopping => "stopping",
                    Step::Transferring => "transferring",
                    Step::Committed => "committed",
                    Step::Aborting { .. } => "aborting",
                };
                json!({"from": self.me.name, "to": outgoing.to.name, "step": step})
            }
            Some(Phase::Incoming(incoming)) => {
                json!({"from": incoming.from.name, "to": self.me.name, "step": "receiving"})
            }
            Some(
                Phase::Starting { .. }
                | Phase::Active
                | Phase::Resting { .. }
                | Phase::Quarantined { .. }
                | Phase::Ending,
            )
            | None => Value::Null,
        }
    }

    /// What would move if the members changed.
    pub(super) fn plan_request(&mut self, request: RequestId, change: PlanChange) {
        let mut infos: BTreeMap<NodeRef, MemberInfo> =
            self.membership.view.members.iter().map(|(node, member)| (node.clone(), member.info.clone())).collect();
        match change {
            PlanChange::Leave(names) => infos.retain(|node, _| !names.contains(&node.name)),
            PlanChange::Join(nodes) => {
                for (name, kinds, weight) in nodes {
                    let kinds = kinds
                        .iter()
                        .filter_map(|kind| KindName::new(kind.as_str()).ok())
                        .map(|name| KindInfo { name, has_state: false, has_run: false })
                        .collect();
                    let info = MemberInfo {
                        version: 0,
                        kinds,
                        weight: weight_thousandths(weight),
                        labels: BTreeMap::new(),
                        is_leaving: false,
                    };
                    infos.insert(NodeRef { name, incarnation: Incarnation(0) }, info);
                }
            }
        }
        let after = View::new(0, infos);
        let wanted: Vec<(ChildId, std::sync::Arc<ChildSpec>)> = self
            .children
            .iter()
            .filter_map(|(_, record)| Some((record.id.clone(), record.entry.wanted.as_ref()?.spec.clone()?)))
            .collect();
        let specs: Vec<&ChildSpec> = wanted.iter().map(|(_, spec)| spec.as_ref()).collect();
        let before_owners = self.owners_of(&specs);
        let candidates = after.candidates();
        let mut placements = Placements::new();
        let _ = self.strategies.place(
            &candidates,
            &specs,
            self.strategies.redundancy.factor(candidates.len()),
            &mut placements,
        );
        let mut moves = Vec::new();
        for (at, (child, _)) in wanted.iter().enumerate() {
            let chosen = placements.get(at).iter().filter_map(|index| candidates.get(*index as usize));
            let after: Vec<&NodeName> = chosen.map(|one| &one.node.name).collect();
            let before = before_owners.get(at).into_iter().chain(before_owners.others(at));
            let before: Vec<&NodeName> = before.map(|node| &node.name).collect();
            let changes = placement_changes(&before, &after);
            moves.extend(changes.into_iter().map(|(from, to)| json!({"id": child, "from": from, "to": to})));
        }
        self.reply(request, Ok(Outcome::Json(json!({ "moves": moves }))));
    }
}

/// From where to where instances go: first the one that is the child, then the replicas, of which one may come or go.
fn placement_changes<'a>(
    before: &[&'a NodeName],
    after: &[&'a NodeName],
) -> Vec<(Option<&'a NodeName>, Option<&'a NodeName>)> {
    let (from, to) = (before.first().copied(), after.first().copied());
    let mut changes = Vec::new();
    if from != to {
        changes.push((from, to));
    }
    let gone = before.iter().skip(1).filter(|node| !after.contains(node)).copied();
    let came = after.iter().skip(1).filter(|node| !before.contains(node)).copied();
    let (mut gone, mut came) = (gone, came);
    loop {
        match (gone.next(), came.next()) {
            (None, None) => return changes,
            change => changes.push(change),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placement_changes_then_each_instance_that_comes_or_goes_is_told() {
        let [a, b, c] = &["a", "b", "c"].map(|name| NodeName::new(name).unwrap());
        assert_eq!(placement_changes(&[a, b], &[a, b]), []);
        assert_eq!(placement_changes(&[a], &[b]), [(Some(a), Some(b))]);
        assert_eq!(placement_changes(&[a, b], &[b, a]), [(Some(a), Some(b))], "they change roles");
        assert_eq!(placement_changes(&[a, b], &[a, c]), [(Some(b), Some(c))]);
        assert_eq!(placement_changes(&[a], &[a, c]), [(None, Some(c))]);
        assert_eq!(placement_changes(&[a, b], &[]), [(Some(a), None), (Some(b), None)]);
    }
}
