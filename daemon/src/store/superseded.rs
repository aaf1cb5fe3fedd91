//! A cluster that went on in a higher epoch without this node: what the node holds belongs to nobody any more.
//!
//! It is not deleted, for there may be something in it that the new epoch lacks: it moves into a directory of its own,
//! `DIR/epoch-NUMBER`, and the node begins anew, with another identity, as a learner. The mark that says so is on disk before
//! the node ends, and goes when all has moved: a start that is cut short goes on at the next one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::failure::system;
use super::{StoreError, directory};

/// What a data directory holds besides its lock. The log last: as long as it is there, the directory is not empty.
const CONTENTS: [&str; 8] =
    ["snapshot", "incoming", "state", "heard.json", "promise", "log.db-shm", "log.db-wal", "log.db"];

/// The mark. It names the directory to which all else moves.
fn mark(path: &Path) -> PathBuf {
    path.join("superseded")
}

/// Whether the next start begins anew.
pub(super) fn is_marked(path: &Path) -> bool {
    mark(path).exists()
}

/// Refuses what the next start sets aside: nothing that is begun there would stay.
pub(super) fn refuse(path: &Path) -> Result<(), StoreError> {
    let mark = mark(path);
    match fs::read_to_string(&mark) {
        Ok(name) => Err(StoreError::Refused(format!(
            "the cluster went on without this node in a higher epoch than what {} holds: the next start moves that to \
             {name} in it, and follows as a learner. Recover a node of the higher epoch; if that is lost for good, delete {} \
             first",
            path.display(),
            mark.display()
        ))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(system(&mark)(error)),
    }
}

/// Says, on disk, that the next start begins anew; what is there is of this epoch.
pub(super) fn say(path: &Path, epoch: u64) -> Result<(), StoreError> {
    let names = (1..).map(|n| if n == 1 { format!("epoch-{epoch}") } else { format!("epoch-{epoch}-{n}") });
    let free = names.into_iter().find(|name| !path.join(name).exists()).unwrap_or_default();
    let (mark, part) = (mark(path), path.join("superseded.part"));
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(free.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &mark)
    };
    write().map_err(system(&mark))?;
    directory::sync(path)
}

/// Moves away what an epoch left that is over, if the mark says so.
pub(super) fn set_aside(path: &Path) -> Result<(), StoreError> {
    let mark = mark(path);
    let name = match fs::read_to_string(&mark) {
        Ok(name) => name,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(&mark)(error)),
    };
    let aside = path.join(&name);
    directory::make(&aside)?;
    for content in CONTENTS {
        match fs::rename(path.join(content), aside.join(content)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(&aside)(error)),
            _ => {}
        }
    }
    directory::sync(&aside)?;
    directory::sync(path)?;
    fs::remove_file(&mark).map_err(system(&mark))?;
    directory::sync(path)?;
    tracing::warn!(
        path = %aside.display(),
        "the cluster went on in a higher epoch: what this node held is set aside, and it begins anew as a learner"
    );
    Ok(())
}
