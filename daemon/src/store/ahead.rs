//! Room for the log's WAL, made before it is needed.
//!
//! A commit that makes its file longer waits until the file system has noted that too (ext4, one writer alone: 0.55 ms with a
//! journal and 0.14 without; 0.17 and 0.09 where the file is long enough; `tests/store/measured.rs` tells it of a disk). So
//! zeros go before the writer, for some dozen commits at a time, and a WAL that starts again from its beginning has its room
//! already. To SQLite a WAL ends where zeros begin: no frame of them bears its salt.
//!
//! Zeros come only behind frames that were committed: then the WAL's header is on disk. In a WAL that begins anew SQLite
//! syncs that before all else. A power loss might bring the WAL back that was there before, and with some of it overwritten
//! its beginning alone would be copied over newer pages.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::StoreError;
use super::failure::system;

/// Bytes of a WAL's header.
const HEADER_BYTES: u64 = 32;
/// Bytes of a frame: its header, and a page.
const FRAME_BYTES: u64 = 24 + 4_096;
/// The WAL becomes longer by so much.
static STEP: [u8; 256 << 10] = [0; 256 << 10];
/// When less than this is left.
const SPARE_BYTES: u64 = 64 << 10;

/// The end of a WAL.
#[derive(Debug)]
pub(super) struct Ahead {
    wal: PathBuf,
    file: Option<File>,
}

impl Ahead {
    pub(super) fn new(wal: PathBuf) -> Self {
        Self { wal, file: None }
    }

    /// Makes room behind so many committed frames; within a transaction of the writer's, so that nobody else writes there.
    pub(super) fn make_room(&mut self, frames: u32) -> Result<(), StoreError> {
        if frames == 0 {
            return Ok(());
        }
        let used = HEADER_BYTES + FRAME_BYTES * u64::from(frames);
        self.lengthen(used).map_err(system(&self.wal))
    }

    fn lengthen(&mut self, used: u64) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(OpenOptions::new().write(true).open(&self.wal)?),
        };
        // Never before the end of the file: frames may be there that are not counted yet.
        let length = file.metadata()?.len();
        // A file that is shorter than its frames was emptied by another program: that WAL begins anew.
        let is_short = (used..used + SPARE_BYTES).contains(&length);
        if is_short { file.write_all_at(&STEP, length) } else { Ok(()) }
    }
}
