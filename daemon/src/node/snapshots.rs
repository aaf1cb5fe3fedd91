//! Snapshots on their way (thesis chapter 5): made and offered to those who are below this node's log, or so far behind that
//! entries would take longer; fetched for this node's own core, which says what is of use.
//!
//! The stores make and examine them on threads of their own, `transfer` carries them; what comes of it is a report to
//! the loop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chorus_proto::message::{CatchMeUp, SnapshotOffer, Versions};
use chorus_proto::raft::Fetched;
use chorus_proto::types::{EntryId, Index, NodeId, Now, Span, Time};
use tracing::{info, warn};

use super::driver::Driver;
use super::reader::{Asker, Errand};
use super::reports::Report;
use crate::store::{self, Snapshot, StoreError, Stores};
use crate::transfer::{FetchError, Fetching, Wanted};

/// Those who wait while one is made; more ask again.
const WAITING_MAX: usize = 64;
/// A snapshot that nobody has asked for or fetched for so long is let go of.
const KEPT: Span = Span::from_millis(60_000);
/// One that is older is made anew.
const AGE_MAX: Span = Span::from_millis(60_000);
/// After one that could not be made none is for so long: whoever wants one asks every half second, and room takes longer.
const REFUSED_FOR: Span = Span::from_millis(5_000);

/// Who pulls so many entries or more may be better off with a snapshot.
const LACKS_MIN: u64 = 200_000;
/// An entry takes its receiver about as long as so many bytes of a snapshot do on their way (18 µs of processor time, at 64 MiB
/// a second).
const ENTRY_AS_BYTES: u64 = 1_200;
/// And making, examining and installing one as long as so many bytes more.
const SNAPSHOT_AS_BYTES: u64 = 128 << 20;
/// Who was offered one and pulls on cannot have it, and is left in peace with it for so long.
const SPARED_AGAIN: Span = Span::from_millis(600_000);
/// While its snapshot is made, an asking of its for entries is answered so often: enough for it not to give this source up, and
/// not so often that both have all hands full with entries that the snapshot holds too.
const SPARED_PULL: Span = Span::from_millis(100);

/// What the loop knows of them.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    data_dir: PathBuf,
    /// Who waits for the one that is being made; none: none is.
    making: Option<BTreeSet<NodeId>>,
    /// Who was thought of as better off with one than with entries.
    spared: BTreeMap<NodeId, Spared>,
    made: Option<Made>,
    /// When one could not be made.
    refused: Option<Time>,
    coming: Option<Coming>,
    /// Why the last one did not come, in words; none once one did.
    trouble: Option<String>,
}

/// The last one that was made. Held, so that it stays on disk.
#[derive(Debug)]
struct Made {
    snapshot: Arc<Snapshot>,
    since: Time,
    /// When it was last of use.
    used: Time,
}

/// Somebody who lacks very many entries: a snapshot was made for it, if it is current sooner by that.
#[derive(Clone, Copy, Debug)]
struct Spared {
    since: Time,
    /// When an asking of it for entries was answered last.
    answered: Time,
}

/// One that is on its way to this node.
#[derive(Debug)]
struct Coming {
    source: NodeId,
    id: EntryId,
    size: u64,
    /// When the rate began to be counted.
    began: Time,
    /// Ends the fetch when it is dropped; none once the file is here and whole.
    fetching: Option<Fetching>,
    /// Bytes that were here then, those of an earlier try too.
    had: Option<u64>,
}

/// Why one did not come.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFetched {
    /// On its way.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// Here, when it was examined.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How far the one that comes is, for people and for `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Bytes that are here.
    pub(super) received: u64,
    /// Bytes of all of it; 0 when none comes.
    pub(super) size: u64,
}

impl Snapshots {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), ..Self::default() }
    }

    /// The one that was made, if it is young and a log that begins with `first` leads on from it.
    fn of_use(&self, now: Time, first: Index) -> Option<&Made> {
        self.made
            .as_ref()
            .filter(|made| now.since(made.since) < AGE_MAX && made.snapshot.id.index.next() >= first)
    }

    pub(super) fn arrival(&self) -> Arrival {
        self.coming
            .as_ref()
            .map_or(Arrival::default(), |coming| Arrival { received: coming.received(), size: coming.size })
    }

    /// What is going on, in words, and what went wrong last.
    pub(super) fn told(&self, now: Time, name_of: impl Fn(NodeId) -> String) -> Option<String> {
        let coming = self.coming.as_ref().map(|coming| coming.told(now, name_of));
        coming.or_else(|| self.trouble.as_ref().map(|why| format!("waits for a snapshot: {why}")))
    }
}

impl Coming {
    fn received(&self) -> u64 {
        self.fetching.as_ref().map_or(self.size, Fetching::received)
    }

    fn told(&self, now: Time, name_of: impl Fn(NodeId) -> String) -> String {
        let (what, source) = (format!("snapshot at {}", in_thousands(self.id.index.0)), name_of(self.source));
        let received = self.received();
        if self.fetching.is_none() {
            return format!("puts the {what} from {source} in force");
        }
        if received >= self.size {
            return format!("examines the {what} from {source}");
        }
        let percent = received * 100 / self.size.max(1);
        let ms = (now.since(self.began).0 / 1_000).max(1);
        let rate = self.had.map(|had| format!(", {} MB/s", received.saturating_sub(had) / ms / 1_000));
        format!("{percent} % of the {what} from {source}{}", rate.unwrap_or_default())
    }
}

impl Driver {
    // --- for others ---

    /// A node pulls entries that this one retains: it is offered a snapshot besides, if it is current sooner by that. Says
    /// whether these entries can wait.
    pub(super) fn spares(&mut self, now: Now, by: NodeId, pull: &CatchMeUp) -> bool {
        let lacks = self.core.standing().commit_index.0.saturating_sub(pull.from.0);
        if pull.snapshot || lacks < LACKS_MIN {
            return false;
        }
        let making = self.snapshots.making.as_ref().is_some_and(|waiting| waiting.contains(&by));
        self.snapshots.spared.retain(|_, spared| now.time.since(spared.since) < SPARED_AGAIN);
        let has_place = self.snapshots.spared.len() < WAITING_MAX;
        match self.snapshots.spared.get_mut(&by) {
            Some(spared) if making && now.time.since(spared.answered) < SPARED_PULL => return true,
            Some(spared) => spared.answered = now.time,
            None if has_place => {
                self.snapshots.spared.insert(by, Spared { since: now.time, answered: now.time });
                self.want_snapshot(now, by, Why::Spares(lacks));
            }
            None => {}
        }
        false
    }

    /// A node is to get a snapshot of the state as it is now, or was a moment ago.
    pub(super) fn on_snapshot_wanted(&mut self, now: Now, by: NodeId) {
        self.want_snapshot(now, by, Why::Needed);
    }

    fn want_snapshot(&mut self, now: Now, by: NodeId, why: Why) {
        if let Some(waiting) = &mut self.snapshots.making {
            if waiting.len() < WAITING_MAX {
                waiting.insert(by);
            }
            return;
        }
        if let Some(made) = self.snapshots.of_use(now.time, self.core.standing().first_index) {
            if why.is_served_by(made.snapshot.size) {
                self.offer(now, by);
            }
            return;
        }
        if self.snapshots.refused.is_some_and(|refused| now.time.since(refused) < REFUSED_FOR) {
            return;
        }
        self.snapshots.making = Some(BTreeSet::from([by]));
        let (stores, data_dir) = (self.stores.clone(), self.snapshots.data_dir.clone());
        let kept = self.reserve.kept_beside_files();
        self.aside.work(Report::SnapshotMade, move || make(&stores, &data_dir, kept, why));
    }

    pub(super) fn on_snapshot_made(
        &mut self,
        now: Now,
        made: Result<Option<(Arc<Snapshot>, File)>, StoreError>,
    ) {
        let waiting = self.snapshots.making.take().unwrap_or_default();
        match made {
            Ok(Some((snapshot, file))) => {
                self.shelve(now, snapshot, file);
                for by in waiting {
                    self.offer(now, by);
                }
            }
            Ok(None) => {}
            Err(StoreError::Refused(why) | StoreError::Busy(why)) => {
                warn!("no snapshot for a node that is far behind: {why}");
                self.snapshots.refused = Some(now.time);
            }
            Err(error) => (self.failed)(error),
        }
    }

    /// Has it given away from now on.
    fn shelve(&mut self, now: Now, snapshot: Arc<Snapshot>, file: File) {
        let known = self.snapshots.made.as_ref().is_some_and(|made| made.snapshot.digest == snapshot.digest);
        if !known {
            let outdated = self.transfer.offer(snapshot.digest.0, file, snapshot.size);
            self.let_go(outdated);
            info!(
                index = snapshot.id.index.0,
                bytes = snapshot.size,
                "made a snapshot for nodes that are far behind"
            );
        }
        let made = Made { snapshot, since: now.time, used: now.time };
        let before = self.snapshots.made.replace(made);
        self.let_go(before);
    }

    fn offer(&mut self, now: Now, to: NodeId) {
        let Some(made) = &mut self.snapshots.made else { return };
        made.used = now.time;
        let Snapshot { id, size, digest, .. } = *made.snapshot;
        let offer = SnapshotOffer { id, size, digest, address: self.transfer.address().to_string() };
        let actions = self.core.offer_snapshot(now, to, offer);
        self.carry_out(now, actions);
    }

    // --- for this node ---

    /// The core has chosen a snapshot: it is fetched, then examined, and one report says what came of it.
    pub(super) fn on_fetch_snapshot(&mut self, now: Now, source: NodeId, offer: SnapshotOffer) {
        let SnapshotOffer { id, size, digest, address } = offer;
        let peer = self.core.presence().peer(source);
        let theirs = peer.and_then(|peer| peer.hello.versions).unwrap_or(Versions::FIRST);
        if let Some(why) = unreadable(theirs, store::versions(self.boards)) {
            // Nobody fetches again and again what it cannot read.
            return self.do_without(now, why);
        }
        let from = self.snapshot_address(source, &address);
        let (Some(address), Some(cluster)) = (from, self.core.presence().cluster()) else {
            return self
                .do_without(now, format!("one was offered at '{address}', where nobody can fetch it"));
        };
        info!(index = id.index.0, bytes = size, %address, "fetches a snapshot");
        let wanted = Wanted { address, digest: digest.0, size, directory: self.stores.incoming() };
        let (stores, aside) = (self.stores.clone(), self.aside.clone());
        let fetching = self.transfer.fetch(cluster, wanted, move |came| {
            aside.work(Report::Fetched, move || Ok(stores.verify(&came?, id)?));
        });
        let coming = Coming { source, id, size, began: now.time, fetching: Some(fetching), had: None };
        self.snapshots.coming = Some(coming);
        self.state.view_changed = true;
    }

    /// Where the source serves it. One that listens on all of its addresses is reached where it was heard from.
    fn snapshot_address(&self, source: NodeId, text: &str) -> Option<SocketAddr> {
        let address: SocketAddr = text.parse().ok()?;
        if address.ip().is_unspecified() {
            let heard_from = self.speech.address_of(source)?;
            return Some(SocketAddr::new(heard_from.ip(), address.port()));
        }
        Some(address)
    }

    pub(super) fn on_fetched(&mut self, now: Now, fetched: Result<Fetched, NotFetched>) {
        self.state.view_changed = true;
        match fetched {
            Ok(fetched) => {
                if let Some(coming) = &mut self.snapshots.coming {
                    coming.fetching = None;
                    info!(index = coming.id.index.0, bytes = coming.size, "a snapshot is here and whole");
                }
                self.snapshots.trouble = None;
                let actions = self.core.fetched(now, fetched);
                self.carry_out(now, actions);
            }
            Err(NotFetched::Store(error)) if error.is_of_the_disk() => (self.failed)(error),
            Err(NotFetched::Fetch(FetchError::Disk { path, source })) => {
                (self.failed)(StoreError::Disk { path, detail: source.to_string() });
            }
            Err(error) => self.do_without(now, error.to_string()),
        }
    }

    /// The snapshot that the core has chosen does not come. The reason is said once, and shown as long as it stands.
    fn do_without(&mut self, now: Now, why: String) {
        if self.snapshots.trouble.as_ref() != Some(&why) {
            warn!("no snapshot: {why}");
        }
        self.snapshots.coming = None;
        self.snapshots.trouble = Some(why);
        self.state.view_changed = true;
        let actions = self.core.fetch_failed(now);
        self.carry_out(now, actions);
    }

    pub(super) fn on_snapshot_unused(&mut self, ticket: u64) {
        info!("the snapshot came too late to be of use");
        self.snapshots.coming = None;
        self.state.view_changed = true;
        let stores = self.stores.clone();
        self.aside.tidy(move || stores.discard(ticket));
    }

    /// The snapshot is the state now. What this node's requests came to may be in it.
    pub(super) fn on_state_installed(&mut self, id: EntryId) {
        info!(index = id.index.0, "goes on from a snapshot");
        self.snapshots.coming = None;
        self.state.view_changed = true;
        self.metrics.applied_index.set(id.index.0);
        self.metrics.first_index.set(self.core.standing().first_index.0);
        self.metrics.snapshots_installed.inc();
        for command in self.requests.waiting() {
            // Where too many lookups wait, the leader's answer to the repeated request will do.
            let _too_many = self.reader.send(Errand::Replayed(command, Asker::Here));
        }
    }

    // --- from time to time ---

    /// Lets go of what nobody fetches any more, and looks how far the one is that comes.
    pub(super) fn look_after_snapshots(&mut self, now: Now) {
        let sending = self.transfer.is_sending();
        if let Some(made) = &mut self.snapshots.made {
            if sending {
                made.used = now.time;
            }
            if now.time.since(made.used) >= KEPT {
                let unused = (self.snapshots.made.take(), self.transfer.clear());
                self.let_go(unused);
            }
        }
        if let Some(coming) = &mut self.snapshots.coming {
            let received = coming.received();
            if coming.had.is_none() {
                (coming.had, coming.began) = (Some(received), now.time);
            }
        }
        let Arrival { received, size } = self.snapshots.arrival();
        self.metrics.snapshot_received_bytes.set(received);
        self.metrics.snapshot_bytes.set(size);
    }
}

/// Why somebody is to get a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// What it lacks is in no log any more.
    Needed,
    /// It lacks so many entries, which it can have too.
    Spares(u64),
}

impl Why {
    /// Whether it is better off with a snapshot of so many bytes.
    fn is_served_by(self, bytes: u64) -> bool {
        match self {
            Self::Needed => true,
            Self::Spares(lacks) => is_sooner_by_snapshot(lacks, bytes),
        }
    }
}

/// Makes one, beside which `kept` bytes stay free; none for somebody who is better off with entries. A disk that it filled would
/// end this node, and the next one that is asked.
fn make(
    stores: &Stores,
    data_dir: &Path,
    kept: u64,
    why: Why,
) -> Result<Option<(Arc<Snapshot>, File)>, StoreError> {
    let (state, free) = stores.state_and_free_bytes()?;
    // What is in the WAL may be in the copy besides; and while the copy is made the WAL cannot be emptied.
    let files = stores.file_bytes(data_dir);
    let wal = files.iter().find(|(name, _)| *name == "state_wal").map_or(0, |(_, bytes)| *bytes);
    match has_room(state.saturating_add(wal), free, kept, why) {
        _ if !why.is_served_by(state) => return Ok(None),
        // It is a kindness.
        Err(_) if why != Why::Needed => return Ok(None),
        has_room => has_room?,
    }
    let snapshot = stores.snapshot()?;
    let file = File::open(&snapshot.path).map_err(|error| {
        StoreError::Refused(format!("{} cannot be opened: {error}", snapshot.path.display()))
    })?;
    Ok(Some((snapshot, file)))
}

/// Whether a disk with so many bytes free has room for a snapshot beside what is `kept`: once for who needs it, twice as a kindness.
fn has_room(bytes: u64, free: u64, kept: u64, why: Why) -> Result<(), StoreError> {
    let times = if why == Why::Needed { 1 } else { 2 };
    if free >= kept.saturating_add(bytes.saturating_mul(times)) {
        return Ok(());
    }
    Err(StoreError::Refused(format!(
        "it takes up to {} MiB, and the disk has {} MiB free, of which {} MiB stay so: make room",
        bytes.div_ceil(1 << 20),
        free >> 20,
        kept >> 20
    )))
}

/// Whoever lacks so many entries is current sooner by a snapshot of so many bytes.
fn is_sooner_by_snapshot(lacks: u64, state_bytes: u64) -> bool {
    lacks >= LACKS_MIN && lacks.saturating_mul(ENTRY_AS_BYTES) > state_bytes.saturating_add(SNAPSHOT_AS_BYTES)
}

/// `1,234,567`.
pub(super) fn in_thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut told = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            told.push(',');
        }
        told.push(digit);
    }
    told
}

/// Why a snapshot of a node whose program is of the first versions cannot be read by one that is of the others.
fn unreadable(theirs: Versions, ours: Versions) -> Option<String> {
    (theirs.state > ours.state).then(|| {
        format!(
            "the one that was offered is of a newer Chorus (format {}, this program knows {}); upgrade this program",
            theirs.state, ours.state
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming(fetching: Option<Fetching>, had: Option<u64>) -> Snapshots {
        let id = EntryId::new(3, 83_112);
        let coming = Coming { source: NodeId(3), id, size: 1_000_000, began: Time(1_000_000), fetching, had };
        Snapshots { coming: Some(coming), ..Snapshots::default() }
    }

    #[test]
    fn what_is_going_on_is_told_in_words() {
        let told = |snapshots: &Snapshots| snapshots.told(Time(2_000_000), |_| "n3".to_owned());
        assert_eq!(told(&Snapshots::default()), None);
        let installs = coming(None, None);
        assert_eq!(told(&installs).unwrap(), "puts the snapshot at 83,112 from n3 in force");
        assert_eq!(installs.arrival(), Arrival { received: 1_000_000, size: 1_000_000 });
        let failed = Snapshots { trouble: Some("n3 is gone".to_owned()), ..Snapshots::default() };
        assert_eq!(told(&failed).unwrap(), "waits for a snapshot: n3 is gone");
    }

    #[test]
    fn a_snapshot_of_a_later_format_is_not_fetched() {
        let ours = Versions { log: 2, state: 2, commands: 5 };
        assert_eq!(unreadable(ours, ours), None);
        assert_eq!(unreadable(Versions::FIRST, ours), None, "an older one is taken to the format of today");
        assert_eq!(
            unreadable(Versions { log: 9, commands: 9, ..ours }, ours),
            None,
            "it is of the state alone"
        );
        let why = unreadable(Versions { state: 3, ..ours }, ours).unwrap();
        assert!(why.contains("(format 3, this program knows 2); upgrade this program"), "{why}");
    }

    #[test]
    fn a_snapshot_is_offered_for_many_entries_and_little_state() {
        assert!(is_sooner_by_snapshot(1_000_000, 400 << 20));
        assert!(
            !is_sooner_by_snapshot(1_000_000, 1_100 << 20),
            "a larger state takes longer than the entries"
        );
        assert!(is_sooner_by_snapshot(LACKS_MIN, 50 << 20));
        assert!(!is_sooner_by_snapshot(LACKS_MIN - 1, 0), "so few entries are made up for at once");
    }

    #[test]
    fn a_snapshot_is_made_only_where_it_leaves_room() {
        let room = |mib: u64, why: Why| has_room(500 << 20, mib << 20, 64 << 20, why);
        assert!(room(564, Why::Needed).is_ok());
        let why = room(563, Why::Needed).unwrap_err().to_string();
        assert!(
            why.contains("up to 500 MiB") && why.contains("563 MiB free") && why.contains("64 MiB stay"),
            "{why}"
        );
        assert!(
            room(1_063, Why::Spares(LACKS_MIN)).is_err(),
            "a kindness takes no more than half of what is free"
        );
        assert!(room(1_064, Why::Spares(LACKS_MIN)).is_ok());
    }

    #[test]
    fn large_numbers_are_told_in_thousands() {
        let told: Vec<_> = [0, 999, 1_000, 83_112, 1_234_567].map(in_thousands).into_iter().collect();
        assert_eq!(told, ["0", "999", "1,000", "83,112", "1,234,567"]);
    }
}
