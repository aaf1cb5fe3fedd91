//! Whether what was acknowledged is there, exactly once.

use std::collections::HashMap;

use serde::Serialize;

/// Of what is wrong, so many are named.
const NAMED_MAX: usize = 5;

/// What nodes acknowledged: the id of each write, and the index of the entry that did it.
#[derive(Clone, Debug, Default)]
pub struct Acknowledged(HashMap<String, u64>);

/// One thing that a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: String,
    /// The entry that did it.
    pub index: u64,
    /// It is what was written, byte for byte.
    pub intact: bool,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Acknowledged and not there.
    pub missing: u64,
    /// There more than once, or done again by a later entry than the one that was acknowledged.
    pub doubled: u64,
    /// There, but not as it was written.
    pub altered: u64,
    /// There, and never asked for.
    pub unasked: u64,
    /// Nodes that were looked at.
    pub nodes: u64,
    /// Everything is there, exactly once, on each of them.
    pub passed: bool,
    /// Some of what is wrong.
    pub examples: Vec<String>,
}

impl Acknowledged {
    /// Takes in an acknowledgement.
    pub fn add(&mut self, id: String, index: u64) {
        self.0.insert(id, index);
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(id, index)| (id.as_str(), *index))
    }

    /// The last entry among them; 0 without one.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.0.values().copied().max().unwrap_or(0)
    }

    /// The first entry among them; 0 without one.
    #[must_use]
    pub fn first_index(&self) -> u64 {
        self.0.values().copied().min().unwrap_or(0)
    }

    /// Compares with what one node holds. `asked` tells of an id without acknowledgement whether it may be there:
    /// whoever asked does not know what became of it.
    #[must_use]
    pub fn compare(&self, node: &str, found: &[Found], asked: impl Fn(&str) -> bool) -> Verdict {
        let mut verdict =
            Verdict { acknowledged: self.0.len() as u64, nodes: 1, passed: true, ..Verdict::default() };
        let mut seen: HashMap<&str, u64> = HashMap::new();
        for one in found {
            let times = seen.entry(one.id.as_str()).or_default();
            *times += 1;
            match self.0.get(&one.id) {
                _ if *times > 1 => verdict.doubled_by(node, one),
                Some(index) if *index != one.index => verdict.doubled_by(node, one),
                None if !asked(&one.id) => {
                    verdict.unasked += 1;
                    verdict.name(format!("{node}: {} was never asked for", one.id));
                }
                _ => {}
            }
            if !one.intact {
                verdict.altered += 1;
                verdict.name(format!("{node}: {} is not as it was written", one.id));
            }
        }
        for (id, index) in self.iter().filter(|(id, _)| !seen.contains_key(id)) {
            verdict.missing += 1;
            verdict.name(format!("{node}: {id}, acknowledged with entry {index}, is missing"));
        }
        verdict
    }
}

impl Verdict {
    /// Adds what another node holds.
    pub fn add(&mut self, other: Self) {
        self.passed = if self.nodes == 0 { other.passed } else { self.passed && other.passed };
        self.acknowledged = self.acknowledged.max(other.acknowledged);
        self.missing += other.missing;
        self.doubled += other.doubled;
        self.altered += other.altered;
        self.unasked += other.unasked;
        self.nodes += other.nodes;
        self.examples.extend(other.examples);
        self.examples.truncate(NAMED_MAX);
    }

    fn doubled_by(&mut self, node: &str, found: &Found) {
        self.doubled += 1;
        self.name(format!("{node}: {} was done again by entry {}", found.id, found.index));
    }

    fn name(&mut self, what: String) {
        self.passed = false;
        if self.examples.len() < NAMED_MAX {
            self.examples.push(what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acknowledged(ids: &[(&str, u64)]) -> Acknowledged {
        let mut all = Acknowledged::default();
        ids.iter().for_each(|(id, index)| all.add((*id).to_owned(), *index));
        all
    }

    fn found(id: &str, index: u64) -> Found {
        Found { id: id.to_owned(), index, intact: true }
    }

    #[test]
    fn all_that_was_acknowledged_once_each_passes() {
        let all = acknowledged(&[("a", 1), ("b", 2)]);
        let verdict = all.compare("n1", &[found("b", 2), found("a", 1), found("c", 3)], |id| id == "c");
        assert!(verdict.passed, "{verdict:?}");
        assert_eq!((verdict.acknowledged, all.first_index(), all.last_index()), (2, 1, 2));
    }

    #[test]
    fn an_id_that_is_missing_fails() {
        let verdict = acknowledged(&[("a", 1), ("b", 2)]).compare("n1", &[found("a", 1)], |_| true);
        assert_eq!((verdict.missing, verdict.passed), (1, false));
        assert!(verdict.examples[0].contains('b'), "{verdict:?}");
    }

    #[test]
    fn what_was_done_twice_fails_whether_it_stands_there_twice_or_under_a_later_entry() {
        let all = acknowledged(&[("a", 1)]);
        for twice in [vec![found("a", 1), found("a", 1)], vec![found("a", 7)]] {
            let verdict = all.compare("n1", &twice, |_| true);
            assert_eq!((verdict.doubled, verdict.passed), (1, false), "{twice:?}");
        }
    }

    #[test]
    fn what_is_altered_or_was_never_asked_for_fails() {
        let all = acknowledged(&[("a", 1)]);
        let broken = Found { intact: false, ..found("a", 1) };
        let verdict = all.compare("n1", &[broken, found("x", 2)], |_| false);
        assert_eq!((verdict.altered, verdict.unasked, verdict.passed), (1, 1, false));
    }

    #[test]
    fn one_node_that_fails_fails_all() {
        let all = acknowledged(&[("a", 1)]);
        let mut verdict = Verdict::default();
        assert!(!verdict.passed, "nothing was looked at");
        verdict.add(all.compare("n1", &[found("a", 1)], |_| true));
        assert!(verdict.passed);
        verdict.add(all.compare("n2", &[], |_| true));
        verdict.add(all.compare("n3", &[found("a", 1)], |_| true));
        assert_eq!((verdict.nodes, verdict.missing, verdict.passed), (3, 1, false));
    }
}
