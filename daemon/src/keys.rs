//! Keys as files: 64 hexadecimal digits and a newline. Secrets come from nowhere else.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chorus_proto::wire::control::ControlKey;

/// The cluster's secret: makes a member.
pub const CLUSTER_KEY: &str = "cluster.key";
/// The control key: commands members.
pub const CONTROL_KEY: &str = "control.key";
/// The control key's public half: what members check commands against.
pub const CONTROL_PUB: &str = "control.pub";

/// A key in a file: digits and newline.
const FILE_BYTES: usize = 65;

/// Why a key cannot be read or made. Each sentence names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system does not hand the file out.
    #[error("the key file {path} cannot be read: {source}; `chorus key generate DIR` makes one")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "the key file {path} holds no key: 64 hexadecimal digits and a newline are needed; `chorus key generate DIR` \
         makes such files"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A key is there already.
    #[error(
        "{path} is there already, and a key is never overwritten: name another directory, or move it away"
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made.
    #[error("{path} cannot be written: {source}; name a directory that this user may write to")]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads a key.
///
/// # Errors
/// When the file is not there, not ours to read, or not a key.
pub fn read(path: &Path) -> Result<[u8; 32], KeyError> {
    let mut text = Vec::with_capacity(FILE_BYTES);
    // One byte more than a key: a longer file is seen to be one, however long it is.
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES as u64 + 1).read_to_end(&mut text))
        .map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    decode(digits).ok_or_else(|| KeyError::NoKey { path: path.to_owned() })
}

/// Makes a cluster's keys in `directory`, which is made if it is not there: `cluster.key` and `control.key` for this
/// user alone, `control.pub` for everyone.
///
/// # Errors
/// When one of the three is there already (then nothing is changed), or the directory cannot be written.
pub fn generate(directory: &Path) -> Result<(), KeyError> {
    let names = [CLUSTER_KEY, CONTROL_KEY, CONTROL_PUB];
    if let Some(path) = names.map(|name| directory.join(name)).into_iter().find(|path| path.exists()) {
        return Err(KeyError::Exists { path });
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|source| KeyError::Unwritable { path: directory.to_owned(), source })?;
    let control = random(directory)?;
    write(directory, CLUSTER_KEY, 0o600, &random(directory)?)?;
    write(directory, CONTROL_KEY, 0o600, &control)?;
    write(directory, CONTROL_PUB, 0o644, &ControlKey::new(&control).public())
}

fn random(directory: &Path) -> Result<[u8; 32], KeyError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| KeyError::Unwritable {
        path: directory.to_owned(),
        source: io::Error::other(error),
    })?;
    Ok(key)
}

fn write(directory: &Path, name: &str, mode: u32, key: &[u8; 32]) -> Result<(), KeyError> {
    let path = directory.join(name);
    let mut text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(text.as_bytes())?;
        // The mask of the process may have taken rights from control.pub, which everyone may read.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    written().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.clone() },
        _ => KeyError::Unwritable { path: path.clone(), source },
    })
}

fn decode(digits: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_with_their_rights_and_belong_together() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("key");
        generate(&directory).unwrap();
        let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(CLUSTER_KEY), mode(CONTROL_KEY), mode(CONTROL_PUB)], [0o600, 0o600, 0o644]);
        let control = read(&directory.join(CONTROL_KEY)).unwrap();
        assert_eq!(ControlKey::new(&control).public(), read(&directory.join(CONTROL_PUB)).unwrap());
        let secret = fs::read(directory.join(CLUSTER_KEY)).unwrap();
        assert_eq!(secret.len(), FILE_BYTES);
        assert!(matches!(generate(&directory), Err(KeyError::Exists { .. })));
        assert_eq!(secret, fs::read(directory.join(CLUSTER_KEY)).unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_path() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("odd.key");
        for text in ["", "\n", "zz", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"0".repeat(5_000)] {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("odd.key") && error.contains("64 hexadecimal digits"), "{error}");
        }
        fs::write(&path, "AB".repeat(32) + "\n").unwrap();
        assert_eq!(read(&path).unwrap(), [0xab; 32]);
        assert!(read(&place.path().join("none")).unwrap_err().to_string().contains("none"));
    }
}
