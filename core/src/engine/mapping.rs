//! Which nodes a start maps its children to, for the distributions that go by it; and why nobody can run a child.

use std::sync::Arc;

use super::Engine;
use super::io::StartOptions;
use crate::error::{Error, ErrorKind};
use crate::spec::ChildSpec;

const START: &str = "start_children";

fn refuse(kind: ErrorKind, message: String) -> Error {
    Error::new(kind, START, message)
}

impl Engine {
    /// Puts the mapping of a start into its specs.
    ///
    /// # Errors
    /// `missing_child_mapping`, `child_mapping_mismatch`, `child_replication_mismatch`, `invalid_child_mapping`, in this
    /// order; `invalid_argument` where the distribution goes by no mapping.
    pub(super) fn map_children(
        &self,
        specs: Vec<Arc<ChildSpec>>,
        options: &StartOptions,
    ) -> Result<Vec<Arc<ChildSpec>>, Error> {
        let distribution = &self.strategies.distribution;
        if !distribution.is_mapped() {
            if options.child_mapping.is_some() || specs.iter().any(|spec| !spec.mapping.is_empty()) {
                let name = distribution.name();
                let message = format!("the distribution of this hub is {name}, which goes by no `child_mapping`");
                return Err(refuse(ErrorKind::InvalidArgument, message));
            }
            return Ok(specs);
        }
        let mut mapped = Vec::with_capacity(specs.len());
        for spec in specs {
            let given = options.child_mapping.as_ref().and_then(|mapping| mapping.get(&spec.id));
            let spec = match given {
                Some(nodes) => {
                    let mut spec = Arc::unwrap_or_clone(spec);
                    spec.mapping.clone_from(nodes);
                    Arc::new(spec)
                }
                // Its spec may say so itself, as those of the configuration do.
                None if !spec.mapping.is_empty() => spec,
                None if options.child_mapping.is_none() => {
                    let message = format!("`guided` needs a `child_mapping` that says where {} goes", spec.id);
                    return Err(refuse(ErrorKind::MissingChildMapping, message).with_child(spec.id.as_str()));
                }
                None => {
                    let message = format!("`child_mapping` says nothing of {}", spec.id);
                    return Err(refuse(ErrorKind::ChildMappingMismatch, message).with_child(spec.id.as_str()));
                }
            };
            mapped.push(spec);
        }
        for spec in &mapped {
            self.check_mapping(spec)?;
        }
        Ok(mapped)
    }

    fn check_mapping(&self, spec: &ChildSpec) -> Result<(), Error> {
        let (nodes, factor) = (&spec.mapping, self.factor);
        if nodes.len() != factor {
            let message = format!("{} is mapped to {} nodes, and there are {factor} instances", spec.id, nodes.len());
            return Err(refuse(ErrorKind::ChildReplicationMismatch, message).with_child(spec.id.as_str()));
        }
        let mut places = nodes.iter().enumerate();
        if let Some((_, twice)) = places.find(|(place, node)| nodes[..*place].contains(node)) {
            let message = format!("{} is mapped to {twice} twice", spec.id);
            return Err(refuse(ErrorKind::InvalidChildMapping, message).with_child(spec.id.as_str()));
        }
        Ok(())
    }

    /// Why no member of the present view can run such a child.
    pub(super) fn why_nobody_runs(&self, spec: &ChildSpec) -> (ErrorKind, String) {
        let (view, kind) = (&self.membership.view, &spec.kind);
        if !view.offers(kind) {
            return (ErrorKind::UnknownKind, format!("no member of the hub registered the kind `{kind}`"));
        }
        if view.candidates().iter().any(|candidate| candidate.qualifies(spec)) {
            let nodes: Vec<&str> = spec.mapping.iter().map(|node| node.as_str()).collect();
            let message = format!("none of the nodes it is mapped to, {}, can run it now", nodes.join(", "));
            return (ErrorKind::Unreachable, message);
        }
        let labels = &spec.require;
        let message =
            format!("every member that registered the kind `{kind}` is leaving or lacks a label of {labels:?}");
        (ErrorKind::UnknownKind, message)
    }
}
