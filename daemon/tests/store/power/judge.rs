//! Opens an image with the real stores, and compares.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use chorus::boards::Boards;
use chorus::quota::Quotas;
use chorus::store::{Applied, Opened, Reports, Retention, StoreError, Stores};
use chorus_proto::raft::Persist;
use chorus_proto::types::{Entry, EntryId, HardState, Index, Term, Token};

use super::disk::Image;
use super::expected::{Expected, brief};
use super::life;
use super::memory;
use super::reference::{Reference, digest};
use crate::support::{DEADLINE, name};

/// Puts an image where stores can open it.
pub(super) fn lay_out(image: &Image, at: &Path) {
    for directory in &image.directories {
        std::fs::create_dir_all(at.join(directory)).unwrap();
    }
    for (path, bytes) in &image.files {
        std::fs::write(at.join(path), bytes).unwrap();
    }
}

/// Judges an image.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn judge(image: &Image, expected: &Expected, reference: &Reference) -> Result<(), String> {
    let place = memory();
    lay_out(image, place.path());
    judge_directory(place.path(), expected, reference)
}

/// Judges a directory, and goes on in it: what is written next must stay too.
pub(super) fn judge_directory(path: &Path, expected: &Expected, reference: &Reference) -> Result<(), String> {
    let _no_process_is_made = super::FORKS.read().unwrap();
    let heir = Heir::open(path)?;
    let (found, entries) =
        life::found(&heir.opened).map_err(|error| format!("the log cannot be read: {error}"))?;
    let (opened, applied) = (&heir.opened, heir.opened.durable.applied_id.index.0);
    let whole = expected.check(opened.identity.0, opened.boot.0, &found, applied)?;
    if opened.durable.promised_id > opened.durable.last_id {
        return Err(format!("it takes itself for behind: {:?}", opened.durable.promised_id));
    }
    let something = (found.term, found.vote) != (0, None) || found.last_index() > 0;
    if opened.durable.empty && something {
        return Err(format!("it calls itself empty: {}", brief(&found)));
    }
    compare_entries(&entries, reference)?;
    let upto = expected.committed.min(found.last_index());
    heir.apply(upto)?;
    let state =
        heir.opened.stores.read(digest).map_err(|error| format!("the state cannot be read: {error}"))?;
    if state != reference.digest(&whole.log[..usize::try_from(upto).unwrap()]) {
        return Err(format!("applied to {upto}, the state is not what these entries make of it"));
    }
    heir.write_on(&found, path)
}

fn compare_entries(entries: &[Entry], reference: &Reference) -> Result<(), String> {
    let other = entries.iter().find(|entry| **entry != life::entry(entry.id, reference.large()));
    other.map_or(Ok(()), |entry| Err(format!("entry {} is another than what was appended", entry.id)))
}

/// The node that comes back after the loss.
pub(super) struct Heir {
    pub(super) opened: Opened,
    said: Receiver<Said>,
}

enum Said {
    Persisted(Token),
    Applied(u64),
    Wrong(String),
}

struct Ear(Mutex<Sender<Said>>);

impl Ear {
    fn hear(&self, said: Said) {
        let _nobody_listens = self.0.lock().unwrap().send(said);
    }
}

impl Reports for Ear {
    fn persisted(&self, token: Token) {
        self.hear(Said::Persisted(token));
    }

    fn applied(&self, applied: Applied) {
        self.hear(Said::Applied(applied.index.0));
    }

    fn compacted(&self, base: EntryId) {
        self.hear(Said::Wrong(format!("it compacts to {base}")));
    }

    fn installed(&self, id: EntryId) {
        self.hear(Said::Wrong(format!("it installs {id}")));
    }

    fn stuck(&self, detail: String) {
        self.hear(Said::Wrong(detail));
    }

    fn failed(&self, error: StoreError) {
        self.hear(Said::Wrong(error.to_string()));
    }
}

impl Heir {
    pub(super) fn open(path: &Path) -> Result<Self, String> {
        let (sender, said) = channel();
        let ear = Arc::new(Ear(Mutex::new(sender)));
        let opened =
            Stores::open(path, &name("n1"), Boards::all(), (Retention::default(), &Quotas::new()), ear)
                .map_err(|error| format!("it is refused: {error}"))?;
        Ok(Self { opened, said })
    }

    fn apply(&self, upto: u64) -> Result<(), String> {
        if upto <= self.opened.durable.applied_id.index.0 {
            return Ok(());
        }
        self.opened.stores.apply(Index(upto), Vec::new());
        self.wait_for(|said| matches!(said, Said::Applied(index) if *index >= upto))
    }

    fn wait_for(&self, likes: impl Fn(&Said) -> bool) -> Result<(), String> {
        loop {
            match self.said.recv_timeout(DEADLINE).map_err(|_| "the stores say nothing".to_owned())? {
                Said::Wrong(detail) => return Err(detail),
                said if likes(&said) => return Ok(()),
                Said::Persisted(_) | Said::Applied(_) => {}
            }
        }
    }

    /// One more entry in a new term, and one more start.
    fn write_on(self, found: &super::remarks::Content, path: &Path) -> Result<(), String> {
        let id = EntryId { term: Term(found.term + 1), index: Index(found.last_index() + 1) };
        let hard_state = Some(HardState { term: id.term, vote: None });
        let append = vec![life::entry(id, 0)];
        self.opened.stores.persist(Persist { token: Token(1), hard_state, append, ..Persist::default() });
        self.wait_for(|said| matches!(said, Said::Persisted(Token(1))))?;
        self.opened.stores.close();
        let again = Self::open(path)?;
        if again.opened.durable.last_id != id {
            return Err(format!(
                "{id} was written after the loss, and {} is found",
                again.opened.durable.last_id
            ));
        }
        again.opened.stores.close();
        Ok(())
    }
}
