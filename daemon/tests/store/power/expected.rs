//! What an image may hold, by the remarks up to its moment.

use std::sync::Arc;

use chorus_proto::types::EntryId;

use super::remarks::{Content, Remark};

/// What was acknowledged, and what may be there besides.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    /// Known once a life was opened.
    pub(super) identity: Option<[u8; 16]>,
    /// The highest boot that was told.
    pub(super) boot: u64,
    /// The first is what was acknowledged; then what each further write makes of it, in order. One of them is there.
    pub(super) contents: Vec<Arc<Content>>,
    /// Tokens of the writes in `contents`, but for the first.
    tokens: Vec<u64>,
    /// Entries up to here are deleted for good.
    deleted: u64,
    /// The state may be up to here.
    pub(super) committed: u64,
    /// What was acknowledged when the promise was last written, and when it was last synced.
    written: Arc<Content>,
    pub(super) promised: Arc<Content>,
}

impl Expected {
    /// Of a directory in which nothing was ever written.
    pub(super) fn new() -> Self {
        Self { contents: vec![Arc::default()], ..Self::default() }
    }

    /// Takes in a remark.
    ///
    /// # Errors
    /// When a life found what it should not.
    pub(super) fn hear(&mut self, remark: &Remark) -> Result<(), String> {
        match remark {
            Remark::Opened { identity, boot, found, applied } => {
                self.open(*identity, *boot, found, *applied)?
            }
            Remark::Asked { token, content } => {
                self.tokens.push(*token);
                self.contents.push(Arc::new(self.whole(content)));
            }
            Remark::Persisted { token } => {
                let done = self.tokens.partition_point(|asked| asked <= token);
                self.tokens.drain(..done);
                self.contents.drain(..done);
            }
            Remark::Compacted { index } => self.deleted = *index,
            Remark::Apply { upto } => self.committed = *upto,
            Remark::Closing | Remark::Failed => {}
        }
        Ok(())
    }

    /// The promise file was written: it names at least what was acknowledged before.
    pub(super) fn promise_written(&mut self) {
        self.written = Arc::clone(&self.contents[0]);
    }

    /// It was synced.
    pub(super) fn promise_synced(&mut self) {
        self.promised = Arc::clone(&self.written);
    }

    /// What a start tells was read from the disk as it is: from then on it counts as acknowledged.
    fn open(&mut self, identity: [u8; 16], boot: u64, found: &Content, applied: u64) -> Result<(), String> {
        let whole = self.check(identity, boot, found, applied)?;
        *self = Self {
            identity: Some(identity),
            boot,
            contents: vec![Arc::clone(&whole)],
            tokens: Vec::new(),
            deleted: found.base.index.0,
            committed: applied,
            written: Arc::clone(&whole),
            promised: whole,
        };
        Ok(())
    }

    /// A content with the entries before its base, as they were.
    fn whole(&self, content: &Content) -> Content {
        let before = self.contents.last().map_or(&[][..], |last| &last.log);
        let deleted = usize::try_from(content.base.index.0).unwrap();
        let log = before[..deleted].iter().chain(&content.log).copied().collect();
        Content { base: EntryId::ZERO, log, ..content.clone() }
    }

    /// Compares what a start found; returns it with all entries that were ever in it.
    ///
    /// # Errors
    /// What is missing or made up, in words.
    pub(super) fn check(
        &self,
        identity: [u8; 16],
        boot: u64,
        found: &Content,
        applied: u64,
    ) -> Result<Arc<Content>, String> {
        if self.identity.is_some_and(|told| told != identity) {
            return Err("the identity is another".to_owned());
        }
        if boot <= self.boot {
            return Err(format!("boot {boot} was told before: {}", self.boot));
        }
        let Some(whole) = self.contents.iter().find(|content| content.holds(found)) else {
            let acknowledged = &self.contents[0];
            return Err(format!(
                "found {}, acknowledged {}, {} more asked for",
                brief(found),
                brief(acknowledged),
                self.contents.len() - 1
            ));
        };
        if found.base.index.0 < self.deleted || found.base.index.0 > self.committed {
            return Err(format!(
                "the log begins behind {}; deleted to {}, committed {}",
                found.base, self.deleted, self.committed
            ));
        }
        if applied > self.committed {
            return Err(format!("applied {applied}, committed {}", self.committed));
        }
        if applied < found.base.index.0 {
            return Err(format!("applied {applied}, and the log begins behind {}", found.base));
        }
        Ok(Arc::clone(whole))
    }
}

/// What matters of a content, in a line.
pub(super) fn brief(content: &Content) -> String {
    let Content { term, vote, member, founded, base, log } = content;
    let last = log.last().map(ToString::to_string).unwrap_or_default();
    format!(
        "term {term} vote {vote:?} member {member} founded {founded} log behind {base} to {last} ({} entries)",
        log.len()
    )
}
