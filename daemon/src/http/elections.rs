//! Who led when, as this node saw it since it began: what the page shows as a line of time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use utoipa::ToSchema;

use super::clock::Moment;
use super::site::Shared;
use crate::node::ClusterView;

/// Changes that are remembered.
const REMEMBERED_MAX: usize = 24;

/// From this moment on, until the next one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Reign {
    /// Unix time in milliseconds, by this node's clock.
    at_ms: u64,
    /// The term.
    term: u64,
    /// Who leads; none while nobody does.
    leader: Option<String>,
}

/// The last changes, oldest first.
#[derive(Debug, Default)]
pub(super) struct Elections(Mutex<VecDeque<Reign>>);

impl Elections {
    /// What is remembered.
    pub(super) fn last(&self) -> Vec<Reign> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn note(&self, at_ms: u64, view: &ClusterView) {
        let mut reigns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let reign = Reign { at_ms, term: view.term, leader: view.leader.as_ref().map(ToString::to_string) };
        if reigns.back().is_some_and(|last| (last.term, &last.leader) == (reign.term, &reign.leader)) {
            return;
        }
        if reigns.len() == REMEMBERED_MAX {
            reigns.pop_front();
        }
        reigns.push_back(reign);
    }
}

/// Remembers each change until the server stops.
pub(super) async fn follow(site: Shared) {
    let mut view = site.handle.view.clone();
    let mut stopping = site.stopping.clone();
    loop {
        let now = view.borrow_and_update().clone();
        site.elections.note(Moment::now().0, &now);
        let over = tokio::select! {
            changed = view.changed() => changed.is_err(),
            _ = stopping.wait_for(|stopping| *stopping) => true,
        };
        if over {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_remembered_and_not_for_ever() {
        let elections = Elections::default();
        let view = |term, leader: Option<&str>| ClusterView {
            term,
            leader: leader.map(|name| name.parse().unwrap()),
            ..ClusterView::default()
        };
        for (at, leader) in [(1, None), (2, None), (3, Some("n1")), (4, Some("n1")), (5, None)] {
            elections.note(at, &view(7, leader));
        }
        let told: Vec<_> = elections.last().into_iter().map(|reign| (reign.at_ms, reign.leader)).collect();
        assert_eq!(told, [(1, None), (3, Some("n1".to_owned())), (5, None)]);
        (0..100).for_each(|term| elections.note(term, &view(term, None)));
        assert_eq!(elections.last().len(), REMEMBERED_MAX);
        assert_eq!(elections.last().last().map(|reign| reign.term), Some(99));
    }
}
