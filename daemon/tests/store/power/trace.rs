//! Reads a trace of `chorus-disk-faults` (its `trace.rs` says what stands in one).

use std::path::{Path, PathBuf};

use super::remarks::Remark;

/// One step of a recorded life.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Created(PathBuf),
    Written {
        path: PathBuf,
        offset: usize,
        bytes: Vec<u8>,
    },
    Resized {
        path: PathBuf,
        length: usize,
    },
    Synced(PathBuf),
    SyncFailed(PathBuf),
    Removed(PathBuf),
    Renamed {
        from: PathBuf,
        to: PathBuf,
    },
    DirectoryMade(PathBuf),
    /// A call of this kind was made to fail at this file.
    MadeToFail {
        kind: String,
        path: PathBuf,
    },
    Remark(Remark),
}

/// All steps of a trace. A life that was ended leaves whole ones only.
pub(super) fn read(path: &Path) -> Vec<Step> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut steps = Vec::new();
    while let Some((what, after)) = rest.split_first() {
        rest = after;
        let number = usize::try_from(u64::from_le_bytes(*take(&mut rest).first_chunk().unwrap())).unwrap();
        let path = PathBuf::from(String::from_utf8(part(&mut rest).to_vec()).unwrap());
        let bytes = part(&mut rest);
        steps.push(match what {
            b'C' => Step::Created(path),
            b'W' => Step::Written { path, offset: number, bytes: bytes.to_vec() },
            b'T' => Step::Resized { path, length: number },
            b'S' => Step::Synced(path),
            b'E' => Step::SyncFailed(path),
            b'U' => Step::Removed(path),
            b'R' => Step::Renamed { from: path, to: String::from_utf8(bytes.to_vec()).unwrap().into() },
            b'M' => Step::DirectoryMade(path),
            b'F' => Step::MadeToFail { kind: String::from_utf8(bytes.to_vec()).unwrap(), path },
            b'!' => Step::Remark(serde_json::from_slice(bytes).unwrap()),
            other => panic!(
                "the stores did what the model of a disk does not know: {:?} {path:?}",
                char::from(*other)
            ),
        });
    }
    steps
}

fn take<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (first, after) = rest.split_at(8);
    *rest = after;
    first
}

fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let (length, after) = rest.split_at(4);
    let (bytes, after) = after.split_at(u32::from_le_bytes(length.try_into().unwrap()) as usize);
    *rest = after;
    bytes
}
