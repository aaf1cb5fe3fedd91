//! What a node says on its standard error, kept in `log.txt` beside its data: bounded, and the one before it.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// A file of this size becomes `log.1.txt`, and another one begins.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The rest of a longer line is not kept.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// The file of one node.
pub(super) struct TalkFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl TalkFile {
    /// Goes on with the file in `directory`.
    pub(super) fn open(directory: &Path) -> Self {
        let path = directory.join("log.txt");
        let file = OpenOptions::new().create(true).append(true).open(&path).ok();
        let bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |about| about.len());
        Self { path, file, bytes }
    }

    /// Keeps everything that comes until the end; the last line.
    pub(super) async fn keep(&mut self, from: impl AsyncRead + Unpin) -> String {
        let mut from = BufReader::with_capacity(LINE_BYTES_MAX, from);
        let mut last = String::new();
        let mut line = Vec::new();
        while let Ok(bytes) = from.fill_buf().await
            && !bytes.is_empty()
        {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let text = &bytes[..end.unwrap_or(bytes.len())];
            line.extend_from_slice(&text[..text.len().min(LINE_BYTES_MAX - line.len())]);
            let taken = text.len() + usize::from(end.is_some());
            from.consume(taken);
            if end.is_some() {
                line.push(b'\n');
                self.write(&line);
                last = String::from_utf8_lossy(&line).trim().to_owned();
                line.clear();
            }
        }
        last
    }

    /// A full disk must not end the nodes' supervisor: what cannot be kept is lost, the nodes judge their disks
    /// themselves.
    fn write(&mut self, line: &[u8]) {
        if self.bytes >= FILE_BYTES_MAX {
            let _kept_as_it_is = fs::rename(&self.path, self.path.with_file_name("log.1.txt"));
            self.file = File::create(&self.path).ok();
            self.bytes = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(line).is_ok()
        {
            self.bytes += line.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_file_is_bounded_and_the_last_line_is_told() {
        let place = tempfile::tempdir().unwrap();
        let mut talk = TalkFile::open(place.path());
        let long = "x".repeat(LINE_BYTES_MAX * 3);
        let said =
            format!("{long}\n").repeat(2) + &format!("{}\n", "y".repeat(999)).repeat(5_000) + "the last\n";
        assert_eq!(talk.keep(said.as_bytes()).await, "the last");
        let size = |name: &str| fs::metadata(place.path().join(name)).unwrap().len();
        assert!((FILE_BYTES_MAX..FILE_BYTES_MAX + 2 * LINE_BYTES_MAX as u64).contains(&size("log.1.txt")));
        assert!(size("log.txt") < FILE_BYTES_MAX);
        let begun = fs::read_to_string(place.path().join("log.1.txt")).unwrap();
        assert!(begun.lines().next().unwrap().len() <= LINE_BYTES_MAX, "a long line is cut");
    }
}
