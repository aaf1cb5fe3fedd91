//! The test of the simulator: bugs are planted one by one, and lives from seeds must find each.
//!
//! Nothing is set up for a bug: it is looked for under the same mix of faults as every life. Several bugs are looked for
//! at once, each in its own thread's lives, seed by seed from the first on, so that the count of seeds is the same at
//! every run.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::{Mutex, PoisonError};
use std::thread;

use chorus_proto::planted::{self, Bug};

use crate::invariant::Invariant;
use crate::world::{self, Failure};

/// Lives in which a bug must be found.
pub const SEEDS_MAX: u64 = 5_000;

/// Lives after which a thread looks for another bug, so that a hard one does not hold up the end.
const SEEDS_AT_ONCE: u64 = 25;

/// What became of the search for one bug.
#[derive(Clone, Debug)]
pub struct Hunt {
    /// The bug.
    pub bug: Bug,
    /// Lives that were lived with it.
    pub seeds: u64,
    /// How it showed, in the last of them; none when it did not.
    pub found: Option<Failure>,
}

impl Hunt {
    /// It was found, by one of the invariants that it breaks.
    #[must_use]
    pub fn is_found(&self) -> bool {
        self.found.as_ref().is_some_and(|failure| breaks(self.bug).contains(&failure.violation.invariant))
    }
}

/// The invariants of which each bug breaks one or more; a life that finds it by another is a failure of its own.
#[must_use]
pub fn breaks(bug: Bug) -> &'static [Invariant] {
    use Invariant as I;
    match bug {
        Bug::VoteBeforeDisk | Bug::TermForgotten => &[I::DurableBeforeSaid],
        Bug::OwnVoteBeforeDisk => &[I::DurableBeforeSaid, I::NoPanic],
        Bug::VoteForgotten | Bug::VoteForAnybody => &[I::OneVotePerTerm],
        Bug::StaleVoteCounted | Bug::VoteCountedTwice | Bug::RefusalTakenAsVote => &[I::ElectedByMajority],
        Bug::UpToDateByIndex => &[I::LeaderCompleteness, I::CommittedIsElected],
        Bug::HalfIsMajority => &[I::ElectedByMajority, I::CommittedOnMajority],
        Bug::HigherTermInReplyIgnored => &[I::HigherTermIsHeeded],
        Bug::WelcomeBeforeDisk => &[I::DurableBeforeSaid, I::OneFounding],
        Bug::PreviousByIndex => &[I::LogMatching, I::MatchIsHeld, I::StateMachineSafety],
        Bug::HeldWithoutPrevious => &[I::LogMatching, I::MatchIsHeld, I::StateMachineSafety, I::NoPanic],
        Bug::ConflictKept => &[I::CommittedOnMajority, I::MatchIsHeld, I::LogMatching, I::StateMachineSafety],
        Bug::DelayedAppendTruncates => &[I::MatchIsHeld, I::CommittedOnMajority, I::StateMachineSafety],
        Bug::MatchedKeptInNewTerm | Bug::UnmatchedTailAcked => {
            &[I::MatchIsHeld, I::CommittedOnMajority, I::StateMachineSafety]
        }
        Bug::NackTakenAsAck => &[I::MatchIsHeld, I::CommittedOnMajority],
        Bug::StaleReplyCounted => &[I::MatchIsHeld, I::CommittedOnMajority, I::NoFalseAlarm],
        Bug::OldHeartbeatTaken => &[I::LowerTermBringsNothing, I::MatchIsHeld, I::NoFalseAlarm],
        Bug::OldCatchupTaken => &[I::LowerTermBringsNothing, I::MatchIsHeld, I::LogMatching, I::NoFalseAlarm],
        Bug::AllNamedCommitted => &[I::CommittedBeforeSaid],
        Bug::CutWriteCounted | Bug::CutKeepsDurable => &[
            I::DurableBeforeSaid,
            I::DurableBeforeApplied,
            I::MatchIsHeld,
            I::CommittedOnMajority,
            I::NoPanic,
        ],
        Bug::CutNotWritten => &[I::WritesFitTheLog],
        Bug::PartIndexIgnored => &[I::EveryCallEnds, I::AllConverge, I::LeaderReturns],
        Bug::LeaderCountsBeforeDisk | Bug::CommitByMinority => &[I::CommittedOnMajority],
        Bug::CommitOlderTerm => {
            &[I::CommittedInOwnTerm, I::CommittedIsElected, I::AcknowledgedIsKept, I::LeaderCompleteness]
        }
        Bug::CommitBeyondMatched => &[I::NoPanic, I::StateMachineSafety],
        Bug::ApplyBeyondMatched | Bug::AppliedBeforeDurable | Bug::AppliedInUnwrittenTerm => {
            &[I::DurableBeforeApplied]
        }
        Bug::CommitSaidBesideOldTerm => &[I::CommittedBeforeSaid, I::DurableBeforeApplied],
        Bug::CommittedAtStart => &[I::CommittedBeforeSaid, I::StateMachineSafety, I::DurableBeforeApplied],
        Bug::ReadWithoutRound | Bug::RoundReused | Bug::ReadBeforeFirstCommit | Bug::ReadBeforeApply => {
            &[I::LinearizableReads]
        }
        Bug::LearnerCounted => &[I::MatchIsHeld, I::CommittedOnMajority, I::NoFalseAlarm],
        Bug::TwoChangesAtOnce => &[
            I::ChangeAfterCommit,
            I::OneLeaderPerTerm,
            I::LeaderCompleteness,
            I::CommittedIsElected,
            I::AcknowledgedIsKept,
            I::StateMachineSafety,
        ],
        Bug::ConfigurationAtCommit => &[
            I::ConfigurationOfTheLog,
            I::ElectedByMajority,
            I::CommittedOnMajority,
            I::CommittedIsElected,
            I::AcknowledgedIsKept,
            I::LeaderCompleteness,
            I::OneLeaderPerTerm,
        ],
        Bug::ConfigurationKept => &[I::ConfigurationOfTheLog],
        Bug::ChangeBeforeFirstCommit => &[I::ChangeAfterCommit],
        Bug::RemovedVoteCounted => &[I::ElectedByMajority],
        Bug::LogTimeFalls => &[I::LogTimeNeverFalls],
        Bug::NoFirstEntry => &[I::AllConverge, I::EveryCallEnds],
        Bug::TimeoutAsFailure | Bug::RefusalOfRepeated => &[I::UnknownStaysOpen],
        Bug::HeldWithoutLimit => &[I::WithinLimits],
        Bug::CloneUnnoticed | Bug::CloneVotes => &[I::CloneIsFenced],
        Bug::BehindVotes | Bug::PromiseNotCompared => &[I::BehindIsSilent],
        Bug::HadForgotten | Bug::HadComparedLate | Bug::LossForgotten => &[I::OldCopyIsFound],
        Bug::ForeignerTakenForMember => &[I::OnlyMembersAreAsked],
        Bug::WindowBeforeAuthentication => &[I::LeaderReturns, I::AllConverge, I::EveryCallEnds],
        Bug::ReplayInWindow
        | Bug::ReplayOfOlderBoot
        | Bug::ReplayAfterRestart
        | Bug::WindowOpenBelowProof => &[I::HeardOnce],
        Bug::NonceReused => &[I::NonceUsedOnce],
        Bug::SyncSkipped => &[I::DurableBeforeSaid, I::DurableBeforeApplied, I::CommittedOnMajority],
        Bug::SyncErrorSwallowed | Bug::SyncErrorRetried => &[I::FailedWriteIsFinal],
        Bug::PromiseBeforeLog => &[I::NoFalseAlarm],
        Bug::CommitBackAtSnapshot => &[I::CommitNeverFalls, I::NoPanic],
        Bug::TailKept => &[I::LogMatching],
        Bug::TailDropped => &[
            I::StateMachineSafety,
            I::MatchIsHeld,
            I::AcknowledgedIsKept,
            I::CommittedOnMajority,
            I::NoPanic,
        ],
        Bug::InstalledBeforeDisk => &[I::DurableBeforeSaid, I::DurableBeforeApplied, I::NoPanic],
        Bug::TwoSnapshots => {
            &[I::CommitNeverFalls, I::NoPanic, I::MatchIsHeld, I::WritesFitTheLog, I::StateMachineSafety]
        }
        Bug::MembershipLeftOut => &[I::ConfigurationOfTheLog],
        Bug::UncommittedInSnapshot => &[I::StateMachineSafety, I::EqualDigest, I::NoPanic],
        Bug::RequestsLeftOut => &[I::ExactlyOnce],
        Bug::EventsLeftOut => &[I::FeedIsExact],
        Bug::RecordBeforeData | Bug::CompactedUnchecked => &[I::StateReachesLog],
        Bug::RequestsForgotten | Bug::RetryAppliedTwice => &[I::ExactlyOnce],
        Bug::LastAppliedAgain | Bug::RowsOutliveIndex => &[I::EqualDigest, I::FeedIsExact],
        Bug::DigestOfLater => &[I::EqualDigest],
        Bug::ReplyBeforeApply => &[I::ExactlyOnce],
        Bug::UncommittedOnFeed | Bug::GapOnResume | Bug::RepeatOnResume => &[I::FeedIsExact],
    }
}

/// Looks for these bugs in lives from seed `from` on, on all cores; `told` hears of each as its search ends.
pub fn hunt(bugs: &[Bug], from: u64, seeds_max: u64, told: impl Fn(&Hunt) + Sync) -> Vec<Hunt> {
    let begun = |bug: &Bug| Hunt { bug: *bug, seeds: 0, found: None };
    let waiting: Mutex<VecDeque<Hunt>> = Mutex::new(bugs.iter().map(begun).collect());
    let ended = Mutex::new(Vec::with_capacity(bugs.len()));
    let hunter = || {
        loop {
            let next = lock(&waiting).pop_front();
            let Some(mut hunt) = next else { break };
            go_on(&mut hunt, from, seeds_max);
            if hunt.found.is_some() || hunt.seeds >= seeds_max {
                told(&hunt);
                lock(&ended).push(hunt);
            } else {
                lock(&waiting).push_back(hunt);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        (0..threads).for_each(|_| _ = scope.spawn(hunter));
    });
    let mut ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    ended.sort_by_key(|hunt: &Hunt| hunt.bug);
    ended
}

fn lock<T>(mutex: &Mutex<T>) -> impl std::ops::DerefMut<Target = T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn go_on(hunt: &mut Hunt, from: u64, seeds_max: u64) {
    planted::plant(Some(hunt.bug));
    let last = seeds_max.min(hunt.seeds + SEEDS_AT_ONCE);
    while hunt.found.is_none() && hunt.seeds < last {
        hunt.found = world::run(from + hunt.seeds, None).err();
        hunt.seeds += 1;
    }
    planted::plant(None);
}
