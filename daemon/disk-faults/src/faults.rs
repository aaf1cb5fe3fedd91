//! Which call fails, and how.
//!
//! The control file has one line, `KIND NAME WHICH HOW`:
//!
//! - `KIND`: `open`, `read`, `write`, `truncate`, `sync`, `name` (unlink, rename, mkdir, rmdir), or `any`;
//! - `NAME`: the end of the path (`log.db-wal`, `promise`, `state.db`), or `*`;
//! - `WHICH`: `3` the third such call since the line is there, `3+` it and all after it;
//! - `HOW`: `EIO`, `ENOSPC`, `EDQUOT`, `EROFS`; `short`, a write that takes half and says so; `torn`, a write that
//!   takes the sectors of its first half and says `EIO`; `stall:1500`, a call that takes so many milliseconds longer. What is no write fails
//!   under `short` not at all, and under `torn` with `EIO`.
//!
//! No file, or a line that is none of these: no call fails. Every call that was met is told in a file beside it,
//! named with `.hit` at the end, one line each: `KIND PATH`.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use libc::c_int;

use crate::raw;
use crate::trace::{Change, REMARKS, recorder};

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Name,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Truncate => "truncate",
            Self::Sync => "sync",
            Self::Name => "name",
        }
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is made.
    Pass,
    /// It is not made, and answers this.
    Fail(c_int),
    /// Half of what it writes is written, and it says so.
    Short,
    /// Half of what it writes is written, and it answers EIO.
    Torn,
}

/// The line, and how many calls it was asked about.
#[derive(Debug, Default)]
struct Counted {
    line: Vec<u8>,
    calls: u64,
}

static COUNTED: Mutex<Counted> = Mutex::new(Counted { line: Vec::new(), calls: 0 });

/// Judges one call.
pub(crate) fn verdict(kind: Kind, name: &Path) -> Verdict {
    if name == Path::new(REMARKS) {
        return Verdict::Pass;
    }
    let Some(line) = control().and_then(|control| raw::read_file(control)) else { return Verdict::Pass };
    let Some(fault) = Fault::parse(&line).filter(|fault| fault.concerns(kind, name)) else {
        return Verdict::Pass;
    };
    let Fault { which, and_after, how, .. } = fault;
    let count = count(line);
    if count < which || (count > which && !and_after) {
        return Verdict::Pass;
    }
    tell(kind, name);
    match how {
        How::Errno(errno) => Verdict::Fail(errno),
        How::Short if kind == Kind::Write => Verdict::Short,
        How::Short => Verdict::Pass,
        How::Torn if kind == Kind::Write => Verdict::Torn,
        How::Torn => Verdict::Fail(libc::EIO),
        How::Stall(time) => {
            std::thread::sleep(time);
            Verdict::Pass
        }
    }
}

/// How many calls this line was asked about, this one among them.
fn count(line: Vec<u8>) -> u64 {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    if counted.line != line {
        *counted = Counted { line, calls: 0 };
    }
    counted.calls += 1;
    counted.calls
}

fn control() -> Option<&'static CString> {
    static CONTROL: OnceLock<Option<CString>> = OnceLock::new();
    CONTROL.get_or_init(|| variable("CHORUS_DISK_CONTROL")).as_ref()
}

/// A path from the environment, with `end` behind it, as the system takes it.
fn path_of(variable: &str, end: &str) -> Option<CString> {
    let mut path: OsString = std::env::var_os(variable)?;
    path.push(end);
    CString::new(path.into_vec()).ok()
}

fn variable(name: &str) -> Option<CString> {
    path_of(name, "")
}

fn tell(kind: Kind, name: &Path) {
    if let Some(recorder) = recorder() {
        recorder.record(Change::MadeToFail(name, kind.word()));
    }
    static HITS: OnceLock<Option<c_int>> = OnceLock::new();
    let open = || path_of("CHORUS_DISK_CONTROL", ".hit").and_then(|path| raw::open_to_append(&path));
    if let Some(file) = HITS.get_or_init(open) {
        raw::append(*file, format!("{} {}\n", kind.word(), name.display()).as_bytes());
    }
}

/// The control file's line.
#[derive(Debug)]
struct Fault<'a> {
    kind: &'a str,
    name: &'a str,
    which: u64,
    and_after: bool,
    how: How,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Errno(c_int),
    Short,
    Torn,
    Stall(Duration),
}

impl<'a> Fault<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
        let (kind, name, which, how) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let number = which.trim_end_matches('+');
        Some(Self {
            kind,
            name,
            which: number.parse().ok()?,
            and_after: which.ends_with('+'),
            how: How::parse(how)?,
        })
    }

    fn concerns(&self, kind: Kind, name: &Path) -> bool {
        (self.kind == "any" || self.kind == kind.word())
            && (self.name == "*" || name.as_os_str().as_bytes().ends_with(self.name.as_bytes()))
    }
}

impl How {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "EIO" => Self::Errno(libc::EIO),
            "ENOSPC" => Self::Errno(libc::ENOSPC),
            "EDQUOT" => Self::Errno(libc::EDQUOT),
            "EROFS" => Self::Errno(libc::EROFS),
            "short" => Self::Short,
            "torn" => Self::Torn,
            _ => Self::Stall(Duration::from_millis(word.strip_prefix("stall:")?.parse().ok()?)),
        })
    }
}
