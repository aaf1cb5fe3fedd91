//! Where lines that were typed are kept: beside the cluster's data, else where the system keeps such things.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use rustyline::Editor;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;

use super::super::output;
use super::super::place::Place;
use super::completion::Completion;

/// Readable by its owner alone: values stand in it.
const FILE: &str = "shell-history";

/// Takes up the lines of earlier shells; the file to which new ones go, if there is a place for one.
pub(super) fn open(editor: &mut Editor<Completion, FileHistory>, place: &Place) -> Option<PathBuf> {
    let file = file(place)?;
    match editor.load_history(&file) {
        Ok(()) => {}
        Err(ReadlineError::Io(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => output::talk(&format!("{} cannot be read: {error}", file.display())),
    }
    Some(file)
}

/// Keeps a line, now: a shell that is killed forgets nothing.
pub(super) fn keep(editor: &mut Editor<Completion, FileHistory>, file: Option<&Path>, line: &str) {
    let kept = editor.add_history_entry(line);
    let (Ok(true), Some(file)) = (kept, file) else { return };
    if let Err(error) = editor.append_history(file) {
        output::talk(&format!("{} cannot be written: {error}", file.display()));
    }
}

fn file(place: &Place) -> Option<PathBuf> {
    if let Some(directory) = place.directory() {
        return Some(directory.join(FILE));
    }
    // The XDG base directory specification: what should outlast a restart, but is no data.
    let state = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = state.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".local/state")))?;
    let directory = state.join("chorus");
    fs::create_dir_all(&directory).ok()?;
    Some(directory.join(FILE))
}
