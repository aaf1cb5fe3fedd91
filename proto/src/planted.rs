//! Bugs that the simulator plants, to see whether it would find them.
//!
//! `planted!(Bug)` is `false`, a constant, in every build but the simulator's own (feature `mutants`, which only
//! `chorus-sim` turns on and `./test` keeps out of everything else). There it is true while that one bug is planted in
//! this thread. A place reads `honest || planted!(Bug)`: one line, at which a reader may read the honest half alone.
//!
//! Places in the core and the wire stand where the rule stands that they break; those of disk, state machine and
//! clients stand in the simulator's models. Which invariant finds which bug stands there too.

/// Whether this bug is planted here: never, but in the simulator's own build.
#[cfg(not(feature = "mutants"))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

/// Whether this bug is planted in this thread.
#[cfg(feature = "mutants")]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_planted($crate::planted::Bug::$bug)
    };
}

/// An enum of things that have a sentence each, and are named by their variants in kebab case.
#[cfg(feature = "mutants")]
macro_rules! sentences {
    ($(#[$doc:meta])* $name:ident { $($variant:ident $sentence:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $(#[doc = $sentence] $variant,)* }

        impl $name {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What it is, in one sentence.
            #[must_use]
            pub fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }

            /// The variant's name in kebab case.
            #[must_use]
            pub fn name(self) -> String {
                $crate::planted::kebab(match self { $(Self::$variant => stringify!($variant),)* })
            }
        }
    };
}

#[cfg(feature = "mutants")]
pub(crate) use sentences;

#[cfg(feature = "mutants")]
pub use list::{Bug, is_planted, plant};

/// `VoteBeforeDisk` as `vote-before-disk`.
#[cfg(feature = "mutants")]
pub(crate) fn kebab(variant: &str) -> String {
    let mut name = String::with_capacity(variant.len() + 8);
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(feature = "mutants")]
mod list {
    use std::cell::Cell;

    super::sentences! {
        /// A bug that can be planted. The numbers are sections of the thesis, where the rule stands that it breaks.
        Bug {
            // --- elections ---
            VoteBeforeDisk "a vote is said before it is on disk (3.8)",
            VoteForgotten "the vote is forgotten over a restart (3.8)",
            TermForgotten "the term is forgotten over a restart, but for the log's (3.8)",
            OwnVoteBeforeDisk "a candidate counts its own vote, and asks for others, before it is on disk (3.8)",
            StaleVoteCounted "a vote of an older term is counted (3.4)",
            VoteCountedTwice "a vote that comes twice is counted twice (3.4)",
            RefusalTakenAsVote "a refused vote is counted as one (3.4)",
            VoteForAnybody "a second candidate of the term gets a vote too (3.4)",
            UpToDateByIndex "the longer log counts as more up-to-date, whatever its last term (3.6.1)",
            HalfIsMajority "half of an even number of voters is a majority (3.4)",
            HigherTermInReplyIgnored "a leader goes on though an APPEND_REPLY names a higher term (3.3)",
            WelcomeBeforeDisk "the founding record is said before it is on disk",

            // --- replication ---
            PreviousByIndex "entries are appended behind whatever stands at the previous index (3.5)",
            HeldWithoutPrevious "entries that waited for parts are appended behind whatever stands before them (3.5)",
            ConflictKept "a conflicting entry stays where the leader has another (3.5)",
            DelayedAppendTruncates "a HEARTBEAT that comes late cuts what was appended after it (3.5)",
            MatchedKeptInNewTerm "what was matched with the last leader's log counts as matched with the next one's",
            UnmatchedTailAcked "durable entries are acknowledged though they are not matched",
            NackTakenAsAck "an APPEND_REPLY without success counts as one for everything (3.5)",
            StaleReplyCounted "an APPEND_REPLY of an older term raises match_index (3.5)",
            OldCatchupTaken "CATCHUP of an older term's leader is taken",
            OldHeartbeatTaken "HEARTBEAT of an older term's leader is taken (3.3)",
            AllNamedCommitted "CATCHUP names all that it brings as committed",
            CutWriteCounted "a write that was cut away counts when it ends",
            CutKeepsDurable "what was durable of entries that are cut counts for those written in their place",
            CutNotWritten "a cut is forgotten when the log is written",
            PartIndexIgnored "every piece of a large command is put at its beginning",

            // --- commitment ---
            LeaderCountsBeforeDisk "a leader counts its own copy before it is on disk (10.2.1)",
            CommitByMinority "a leader commits what is on its own disk (3.5)",
            CommitOlderTerm "an entry of an older term is committed by counting its copies (3.6.2)",
            CommitBeyondMatched "a follower commits what it has not matched (3.5)",
            ApplyBeyondMatched "a follower applies what was said to be committed and it has not matched (3.5)",
            AppliedBeforeDurable "an entry is applied before it is on this node's disk",
            AppliedInUnwrittenTerm "an entry is applied before the term is on disk in which it was committed",
            CommitSaidBesideOldTerm "CATCHUP names what was committed in a term that is not on disk yet",
            CommittedAtStart "a node that starts takes all of its log for committed (3.8)",

            // --- membership ---
            LearnerCounted "a node that is no voter answers, and its copies count (4.2.1)",
            TwoChangesAtOnce "a second change of the voters begins before the first is committed (4.1)",
            ConfigurationAtCommit "a change of the voters counts only when it is committed (4.1)",
            ConfigurationKept "a configuration stays in force though its entry is cut (4.1)",
            ChangeBeforeFirstCommit "a leader takes a change of the voters before it has committed an entry of its term (4.1)",
            RemovedVoteCounted "the vote of one who is no voter any more is counted (4.2.2)",

            // --- reads, time, liveness ---
            ReadWithoutRound "a read is answered without asking whether this node still leads (6.4)",
            RoundReused "a read is answered by a round that began before it came (6.4)",
            ReadBeforeFirstCommit "a read is answered before the leader has committed an entry of its term (6.4)",
            LogTimeFalls "an entry bears the leader's time, though the entry before it bears a later one",
            NoFirstEntry "a new leader does not begin with an entry of its own (6.4)",

            // --- requests ---
            TimeoutAsFailure "a wait that ends without an outcome is reported as a failure (6.3)",
            RefusalOfRepeated "REFUSED ends the wait of a request that was sent before (6.3)",

            // --- limits, clones, losses ---
            HeldWithoutLimit "entries that came out of order are held back without a limit",
            CloneUnnoticed "a node does not notice that another process has its identity",
            CloneVotes "a node that knows of another process with its identity votes on",
            BehindVotes "a node votes though its disk lost what it had promised to hold",
            PromiseNotCompared "a node that starts does not compare its log with its promise",
            HadForgotten "nobody tells a node that its disk held more before",
            LossForgotten "a start is not told what an earlier one had lost and not made good",
            ForeignerTakenForMember "a node of another cluster under the same secret is asked for what it says to have",
            HadComparedLate "what a disk held before is compared with what it holds by now, not with what it began with",

            // --- the wire ---
            WindowBeforeAuthentication "the replay window moves before the datagram is authenticated",
            ReplayInWindow "a datagram is opened though it was seen",
            ReplayOfOlderBoot "datagrams of an earlier start are opened after a restart",
            ReplayAfterRestart "datagrams that were recorded are opened after a restart of who heard them",
            WindowOpenBelowProof "a proof lets in what was said before it",
            NonceReused "two datagrams are sealed with one nonce",

            // --- snapshots and compaction, in the core and in the simulator's models ---
            CommitBackAtSnapshot "the commit index falls back to that of a snapshot (5.3)",
            TailKept "what followed in the log stays behind a snapshot that the log does not hold (5.3)",
            TailDropped "what follows in the log goes though the log holds the snapshot's last entry (5.3)",
            InstalledBeforeDisk "a snapshot counts before it is on disk",
            TwoSnapshots "a second snapshot is fetched and put in force while another is",
            MembershipLeftOut "a snapshot does not bring the configuration (5.1)",
            UncommittedInSnapshot "a snapshot is made of what its source holds, committed or not (5.1)",
            RequestsLeftOut "a snapshot does not bring the table of requests (6.3)",
            EventsLeftOut "a snapshot does not bring what the feed tells",
            RecordBeforeData "log.db names a snapshot whose data may be lost with the power",
            CompactedUnchecked "entries are dropped that the state's main file does not hold",

            // --- disk and state machine, in the simulator's models of them ---
            SyncSkipped "the log's writer says that a write is on disk, and did not sync it",
            SyncErrorSwallowed "a sync that failed counts as done",
            SyncErrorRetried "a sync that failed is tried again",
            PromiseBeforeLog "the promise file is written before the log",
            RequestsForgotten "the table of requests is empty after a restart (6.3)",
            RetryAppliedTwice "a request that comes a second time is applied again (6.3)",
            LastAppliedAgain "the last entry that the state's file holds is applied again after a restart",
            RowsOutliveIndex "rows are written before the index that they belong to, not with it",
            DigestOfLater "the digest that is named after an entry is that of the state after a later one",
            ReplyBeforeApply "a client is answered when its entry is appended",
            ReadBeforeApply "a read is answered before its index is applied (6.4)",
            UncommittedOnFeed "the feed tells entries before they are committed",
            GapOnResume "a subscriber that comes back misses the first change",
            RepeatOnResume "a subscriber that comes back is told its last change again",
        }
    }

    thread_local! {
        static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Plants a bug in this thread, or none.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.set(bug);
    }

    /// Whether this bug is planted in this thread.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.get() == Some(bug)
    }
}
