//! What must hold in every life, each under a name that stays: failures print it, and a planted bug counts as found only
//! when one of these finds it.

use std::fmt;

macro_rules! invariants {
    ($($(#[$doc:meta])* $variant:ident $name:literal),* $(,)?) => {
        /// Something that must hold.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Invariant {
            $($(#[$doc])* $variant,)*
        }

        impl Invariant {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name, in words and hyphens.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

invariants! {
    /// At most one leader in a term (thesis figure 3.2, election safety).
    OneLeaderPerTerm "one-leader-per-term",
    /// Whoever leads was voted for by a majority (thesis 3.4).
    ElectedByMajority "elected-by-majority",
    /// At most one vote of one voter in a term, across restarts.
    OneVotePerTerm "one-vote-per-term",
    /// Who hears of a higher term makes it its own (thesis 3.3).
    HigherTermIsHeeded "higher-term-is-heeded",
    /// What is said in a lower term brings nothing into a log (thesis 3.3).
    LowerTermBringsNothing "lower-term-brings-nothing",
    /// A leader never cuts its own log.
    LeaderAppendOnly "leader-append-only",
    /// An entry's id names its content and the entry before it, everywhere.
    LogMatching "log-matching",
    /// Whoever leads holds every entry that a leader of an earlier term committed.
    LeaderCompleteness "leader-completeness",
    /// What is committed or applied at an index is the same everywhere and is never cut.
    StateMachineSafety "state-machine-safety",
    /// What is committed is on the disks of a majority by then.
    CommittedOnMajority "committed-on-majority",
    /// What a leader commits by counting is of its own term (thesis 3.6.2).
    CommittedInOwnTerm "committed-in-own-term",
    /// Nobody who lacks what is committed has a log that a majority would vote for (thesis figure 3.7).
    CommittedIsElected "committed-is-elected",
    /// Who lost what it had promised to hold neither votes, nor consents, nor campaigns.
    BehindIsSilent "behind-is-silent",
    /// What a leader counts for a voter is on that voter's disk, while both are in one term.
    MatchIsHeld "match-is-held",
    /// The time that entries bear never falls along the log.
    LogTimeNeverFalls "log-time-never-falls",
    /// Terms, votes, matches, log ends and records are said only when the sender's disk holds them.
    DurableBeforeSaid "durable-before-said",
    /// A commit index is said only beside a term in which, or before which, it was committed.
    CommittedBeforeSaid "committed-before-said",
    /// An entry is applied only when it is committed and on this node's disk, beside a term that knows of it.
    DurableBeforeApplied "durable-before-applied",
    /// Every acknowledged write is in the log of every node that could win an election.
    AcknowledgedIsKept "acknowledged-is-kept",
    /// What a node has committed and applied never falls while it runs, at a snapshot least of all.
    CommitNeverFalls "commit-never-falls",
    /// What the log has dropped is in the state, but for a state that was lost.
    StateReachesLog "state-reaches-log",
    /// The configuration in force is the last one in the log (thesis 4.1), or in what a snapshot stands for.
    ConfigurationOfTheLog "configuration-of-the-log",
    /// A leader takes a change of the voters only once the one before it, and an entry of its own term, are committed (thesis
    /// 4.1, with its later correction).
    ChangeAfterCommit "change-after-commit",
    /// A request is decided by one entry, and every answer names that one.
    ExactlyOnce "exactly-once",
    /// A linearizable read sees everything that was acknowledged or read before it began.
    LinearizableReads "linearizable-reads",
    /// Only a request that never happens is said not to have happened.
    UnknownStaysOpen "unknown-stays-open",
    /// A subscriber gets every committed event once, in order, without a gap, whichever node it asks.
    FeedIsExact "feed-is-exact",
    /// Nodes that applied equally far hold the same state.
    EqualDigest "equal-digest",
    /// No authenticated datagram reaches a core twice.
    HeardOnce "heard-once",
    /// No key seals two datagrams under one nonce.
    NonceUsedOnce "nonce-used-once",
    /// Every queue stays within its limit.
    WithinLimits "within-limits",
    /// The core's writes fit the log that it had written.
    WritesFitTheLog "writes-fit-the-log",
    /// After a write that failed a process says and does nothing more.
    FailedWriteIsFinal "failed-write-is-final",
    /// A cluster has one founding record.
    OneFounding "one-founding",
    /// What is sealed fits a datagram and is opened as what was said.
    HeardAsSaid "heard-as-said",
    /// No core sees a sign of a broken cluster, and no honest disk breaks a promise.
    NoFalseAlarm "no-false-alarm",
    /// Of two processes with one identity both learn in time, and vote no more.
    CloneIsFenced "clone-is-fenced",
    /// A node that comes back with an old copy of its disk learns in time that it is one, if anybody can know.
    OldCopyIsFound "old-copy-is-found",
    /// Nobody turns to a node of another cluster under the same secret.
    OnlyMembersAreAsked "only-members-are-asked",
    /// Nothing panics.
    NoPanic "no-panic",
    /// Deadlines move on, and a life ends.
    TimeGoesOn "time-goes-on",
    /// Once the faults end there is a leader within ten election timeouts.
    LeaderReturns "leader-returns",
    /// Once there is a leader every call of a client ends.
    EveryCallEnds "every-call-ends",
    /// Once there is a leader all who live come to hold the same.
    AllConverge "all-converge",
}

impl Invariant {
    /// It does not hold; `detail` says how that showed, with the numbers.
    #[must_use]
    pub fn broken(self, detail: impl Into<String>) -> Violation {
        Violation { invariant: self, detail: detail.into() }
    }

    /// Fails with `detail` unless `holds`.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn check(self, holds: bool, detail: impl FnOnce() -> String) -> Checked {
        if holds { Ok(()) } else { Err(self.broken(detail())) }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// How it showed, with the numbers.
    pub detail: String,
}

/// What a check ends with.
pub type Checked<T = ()> = Result<T, Violation>;

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.detail)
    }
}

impl From<Violation> for String {
    fn from(violation: Violation) -> Self {
        violation.to_string()
    }
}
