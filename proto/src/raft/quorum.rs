//! Majorities, as pure functions of a configuration and what is known of each voter.

use crate::planted;
use crate::types::{Index, NodeId};

/// How many of `voters` are a majority.
#[must_use]
pub(super) fn majority(voters: usize) -> usize {
    if planted!(HalfIsMajority) { voters.div_ceil(2) } else { voters / 2 + 1 }
}

/// Whether the voters for which `holds` is true are a majority. Nobody is a majority of no voters.
#[must_use]
pub(super) fn is_majority(voters: &[NodeId], holds: impl Fn(NodeId) -> bool) -> bool {
    !voters.is_empty() && voters.iter().filter(|id| holds(**id)).count() >= majority(voters.len())
}

/// The highest index that a majority of the voters has reached (thesis 3.5: "stored on a majority").
#[must_use]
pub(super) fn reached(voters: &[NodeId], match_index: impl Fn(NodeId) -> Index) -> Index {
    let mut indexes: Vec<Index> = voters.iter().map(|id| match_index(*id)).collect();
    indexes.sort_unstable_by(|a, b| b.cmp(a));
    indexes.get(majority(indexes.len()).wrapping_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_majority_of_an_even_number_is_more_than_half() {
        assert_eq!([1, 2, 3, 4, 5].map(majority), [1, 2, 2, 3, 3]);
    }

    #[test]
    fn nobody_is_a_majority_of_no_voters() {
        assert!(!is_majority(&[], |_| true));
        assert_eq!(reached(&[], |_| Index(7)), Index(0));
    }

    #[test]
    fn an_index_is_reached_when_a_majority_holds_it() {
        let five = [9, 3, 7, 1, 5].map(NodeId);
        assert_eq!(reached(&five, |id| Index(id.0)), Index(5));
    }
}
