//! Rare states, and whether a life of the simulator reached them: what was never reached was never tried.
//!
//! `mark!(Mark)` and `mark!(Mark, condition)` are nothing in every build but the simulator's own (feature `mutants`).

/// Notes that a rare state was reached: not in this build.
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! mark {
    ($mark:ident $(, $when:expr)?) => {
        ()
    };
}

/// Notes that a rare state was reached, if the condition holds.
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! mark {
    ($mark:ident) => {
        $crate::marks::reach($crate::marks::Mark::$mark)
    };
    ($mark:ident, $when:expr) => {
        if $when {
            $crate::marks::reach($crate::marks::Mark::$mark);
        }
    };
}

#[cfg(feature = "mutants")]
pub use list::{Mark, reach, take};

#[cfg(feature = "mutants")]
mod list {
    use std::cell::Cell;

    crate::planted::sentences! {
        /// A rare state: reached in fewer than one life in twenty, and never in none of them.
        Mark {
            CandidateFollows "a candidate that had lost two elections follows another in the same term",
            RefusedByMajority "a majority refused a candidate its votes",
            FiveRoundsLost "a node lost five elections in a row",
            StaleVoteCame "a vote of an older term came",
            SecondCandidateRefused "a second candidate of a term, with an older log, asked for a vote that was given",
            ElectionOverUnwrittenTerm "an election began while the last term was still being written",
            OlderCopiesDidNotCount "a majority held an entry nine terms old, which did not count (figure 3.8)",
            CommittedBeforeOwnDisk "ten entries were committed that were not on their leader's own disk",
            StaleReplyCame "an APPEND_REPLY of an older term came to a leader",
            LeadersDiskHung "a leader stepped down because its own sync hung",
            LeaderUnheard "a leader stepped down because no majority answered, with ten entries that were not committed",
            NobodyToHandTo "a leader that hands over found nobody who holds its whole log, to the end",
            SuccessorFailed "a leader went on because its successor was not elected",
            OldLeaderUnanswered "a deposed leader that said entries was not answered, because the new term was not on disk",
            OldEntriesCame "a deposed leader said entries that its hearer lacked",
            DurableTailCut "five entries that were on this node's disk were cut",
            ManyCut "more than five entries were cut at once",
            ResignOfOther "RESIGN of a former leader came to its successor when another led",
            LateTwice "a node that was late twice in a row drew a new timeout both times",
            LateThrice "a node that was late a third time campaigned",
            DeposedWithGap "a leader was deposed while five entries of its log were not on its disk",
            DeposedBeforeFirstCommit "a leader was deposed before it had committed anything",
            VoteNeverPaid "a vote was on its way to disk when a higher term came",
            LearnedInUnwrittenTerm "a term was left before it was on disk, and five entries were committed in it",
            CutWhileWriting "entries were cut that were on their way to disk",
            Behind "a node found that it had lost what it had promised to hold",
            MadeGood "a node that had lost entries was made good and votes again",
            LeaderFenced "a leader or candidate was fenced off, because another speaks with its identity",
            StartedUnfounded "a node started with the founding record before everybody was heard with it",
            ManyWritesWaited "fifty writes waited for one disk",
            HeldFull "more entries came out of order than are held back",
            MoreThanTrusted "CATCHUP brought five entries that could not be trusted",
            FiveGaps "a log had five gaps at once",
            PullStarted "a node was so far behind that it pulled from one source",
            TermFromCatchup "a node learned from CATCHUP of a term six ahead of its own",
            LeaderTaughtByCatchup "a leader learned from CATCHUP that it was deposed",
            OldCatchupCame "CATCHUP of an older term came with three entries that its hearer lacked",
            SuppressedTwoWays "two LAGGING suppressed each other: a node that had asked five times waits for the answer to another",
            SaidLessInUnwrittenTerm "CATCHUP was cut short, because the term was not on disk",
            LeadersDiffer "nodes that were asked who leads named different leaders",
            PullOvertaken "what a node pulled came by another way",
            SourceGivenUp "a source of a pull was given up",
            ReadsShareRound "thirty reads shared a round",
            ReadUnderWayLost "a leader was deposed while six reads waited for one round",
            ReadsLostUnasked "a leader was deposed while sixty reads waited for the end of another round",
            RefusedByFormer "REFUSED came from a node to which the request was not sent last",
            RefusedAfterRepeat "REFUSED came for a request that had been sent ten times",
            ProposalCut "three proposals of one node were cut away, and made again",
            SentAndProposed "a request was sent to other leaders eight times, and proposed by this node when it led",
            DoneUnapplied "a wait ended without an outcome, though DONE had come to a request that was sent four times",
            LateInWindow "a datagram was overtaken by 400 others and was opened",
            PromiseTorn "the power went while the promise file was written for the hundredth time",
            CutPromisedOnly "a process ended when the promise was lowered for a cut, and the cut not made",
            CommitLostWithPower "the power went when a commit was written and not synced, and took it along",
            VoteFromPromise "a start found a newer vote in the promise file than in the log",
            SubscriberAhead "a subscriber left a node that had not come to where it was",
            TailStaysBehindSnapshot "a log went on behind a snapshot that it held",
            SnapshotSourceGivenUp "a source of a snapshot was given up, and not the first one",
            ReadOfDropped "entries were to be read back that had been dropped meanwhile",
            EndedWhileInstalling "a process ended while a snapshot was put in force",
            LeadersDiskLost "the disk of a leader was lost",
        }
    }

    thread_local! {
        static REACHED: Cell<u128> = const { Cell::new(0) };
    }

    const _: () = assert!(Mark::ALL.len() <= 128, "one bit a mark");

    /// Notes that this thread's life reached it.
    pub fn reach(mark: Mark) {
        REACHED.set(REACHED.get() | 1 << mark as u32);
    }

    /// What was reached in this thread since the last time, and forgets it.
    #[must_use]
    pub fn take() -> Vec<Mark> {
        let reached = REACHED.take();
        Mark::ALL.iter().copied().filter(|mark| reached & 1 << *mark as u32 != 0).collect()
    }
}
