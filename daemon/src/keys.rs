//! Keys as files: 64 hexadecimal digits and a newline. Secrets come from nowhere else.
//!
//! A secret that others may read is none: its file is refused, but for files that a service manager or a container engine
//! hands over, in whose directories modes say nothing.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chorus_proto::wire::Secret;
use chorus_proto::wire::control::ControlKey;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use zeroize::Zeroizing;

/// The cluster's secret: makes a member.
pub const CLUSTER_KEY: &str = "cluster.key";
/// The control key: commands members.
pub const CONTROL_KEY: &str = "control.key";
/// The control key's public half: what members check commands against.
pub const CONTROL_PUB: &str = "control.pub";

/// What a node obeys only when the control key has signed it, in the words of whoever types it.
macro_rules! signed_verbs {
    () => {
        "trylead, follow, playdead, revive, shutdown, members add, remove and replace, key rotate and retire"
    };
}
pub(crate) use signed_verbs;

/// A key in a file: digits and newline.
const FILE_BYTES: usize = 65;

/// A secret's file may be this large: a private key with its certificates is smaller by far.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Rights that nobody may have on a secret's file: others none, the group not to write. The group may read, because that is
/// how a package hands a file of root's to its program.
const FOREIGN_RIGHTS: u32 = 0o027;

/// Where container engines put secrets, and systemd its credentials: whoever can look there is let in by them.
const SECRETS_DIRECTORIES: [&str; 2] = ["/run/secrets", "/run/credentials"];
/// The variable by which a service manager names its directory (systemd.exec(5)).
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Why a key cannot be read or made. Each sentence names the file and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system does not hand the file out.
    #[error("the key file {path} cannot be read: {source}; {}", remedy(.source))]
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
    /// Others may read the file, or change it.
    #[error(
        "the key file {path} has mode {mode:03o}, so that others may use it: `chmod 600 {path}` (640 where a group is let \
         in), and make a new key if others can have seen this one"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file holds too much.
    #[error("the file {path} is larger than any key, token or certificate: name another")]
    TooLarge {
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

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => {
            "`chgrp` it to a group of the user that this program runs as, and `chmod 640` it"
        }
        _ => "`chorus key generate DIR` makes one",
    }
}

/// Reads a secret key; it is zeroed after use.
///
/// # Errors
/// When the file is not there, not ours to read, everybody's to read, or not a key.
pub fn read(path: &Path) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    key_of(path, &secret(path)?)
}

/// Reads the cluster's secret.
///
/// # Errors
/// As [`read`].
pub fn read_cluster(path: &Path) -> Result<Secret, KeyError> {
    read(path).map(|key| Secret::from(*key))
}

/// Reads the public half of a key, which everyone may read.
///
/// # Errors
/// When the file is not there, not ours to read, or not a key.
pub fn read_public(path: &Path) -> Result<[u8; 32], KeyError> {
    key_of(path, &open(path).and_then(|file| whole(path, &file))?).map(|key| *key)
}

/// The bytes of a file that holds a secret; they are zeroed after use.
///
/// # Errors
/// When the file is not there, not ours to read, everybody's to read, or too large.
pub fn secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let file = open(path)?;
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let mode = file.metadata().map_err(unreadable)?.mode() & 0o777;
    if mode & FOREIGN_RIGHTS != 0 && !is_handed_over(path) {
        return Err(KeyError::Open { path: path.to_owned(), mode });
    }
    whole(path, &file)
}

/// The bytes of a file that everyone may read, as a certificate's.
///
/// # Errors
/// When the file is not there, not ours to read, or too large.
pub fn public(path: &Path) -> Result<Vec<u8>, KeyError> {
    open(path).and_then(|file| whole(path, &file)).map(|bytes| bytes.to_vec())
}

fn open(path: &Path) -> Result<File, KeyError> {
    File::open(path).map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })
}

fn whole(path: &Path, file: &File) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    // Never moved while it grows: the pieces left behind would not be zeroed.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES_MAX as usize + 1));
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| KeyError::Unreadable { path: path.to_owned(), source })?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(KeyError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Whether a service manager or a container engine put the file there.
fn is_handed_over(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let named =
        std::env::var_os(CREDENTIALS_DIRECTORY).map(PathBuf::from).filter(|named| named.is_absolute());
    SECRETS_DIRECTORIES
        .into_iter()
        .map(PathBuf::from)
        .chain(named)
        .any(|directory| path.starts_with(directory))
}

fn key_of(path: &Path, text: &[u8]) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    decode(digits).ok_or_else(|| KeyError::NoKey { path: path.to_owned() })
}

/// Keeps what this process holds out of core dumps, and from debuggers of other users. Best effort: a system that does not
/// know this runs the program all the same.
pub fn keep_from_dumps() {
    let _best_effort = set_dumpable_behavior(DumpableBehavior::NotDumpable);
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
    let random = || {
        let unwritable =
            |error| KeyError::Unwritable { path: directory.to_owned(), source: io::Error::other(error) };
        draw().map_err(unwritable)
    };
    let control = random()?;
    write(directory, CLUSTER_KEY, 0o600, &*random()?)?;
    write(directory, CONTROL_KEY, 0o600, &control)?;
    write(directory, CONTROL_PUB, 0o644, &ControlKey::new(&control).public())
}

fn write(directory: &Path, name: &str, mode: u32, key: &[u8; 32]) -> Result<(), KeyError> {
    let path = directory.join(name);
    let written = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        file.write_all(text_of(key).as_bytes())?;
        // The mask of the process may have taken rights from control.pub, which everyone may read.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    written().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.clone() },
        _ => KeyError::Unwritable { path: path.clone(), source },
    })
}

/// Puts a secret into a directory, for this user alone; the directory is made if it is not there. Whatever was there under the
/// name, the file is whole and on disk when this returns, and never half of it under that name.
///
/// # Errors
/// When the directory cannot be made or written.
pub fn write_whole(directory: &Path, name: &str, key: &[u8; 32]) -> Result<(), KeyError> {
    let (path, part) = (directory.join(name), directory.join(format!("{name}.part")));
    let written = || {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(text_of(key).as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(directory)?.sync_all()?;
        // The directory may be new itself.
        directory
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map_or(Ok(()), |parent| File::open(parent)?.sync_all())
    };
    written().map_err(|source| KeyError::Unwritable { path: path.clone(), source })
}

/// Puts a secret into a file of its own, which is not there yet.
///
/// # Errors
/// When it is there already, or cannot be written.
pub fn save(path: &Path, key: &[u8; 32]) -> Result<(), KeyError> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| KeyError::Unwritable {
        path: path.to_owned(),
        source: io::Error::other("its name is no text"),
    })?;
    write(directory, name, 0o600, key)
}

/// Puts another secret into a key file. The one that was there stays beside it, as `FILE.NUMBER`.
///
/// # Errors
/// When a service manager or a container engine put the file there, or the directory cannot be written: nothing has changed then.
pub fn replace(path: &Path, number_before: u32, key: &[u8; 32]) -> Result<PathBuf, KeyError> {
    let unwritable = |source| KeyError::Unwritable { path: path.to_owned(), source };
    if is_handed_over(path) {
        return Err(unwritable(io::Error::other(
            "it is handed over by a service manager or a container engine",
        )));
    }
    let path = path.canonicalize().map_err(unwritable)?;
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Err(unwritable(io::Error::other("its name is no text")));
    };
    let before = directory.join(format!("{name}.{number_before}"));
    match fs::hard_link(&path, &before) {
        // An earlier try left it there, or came to its end.
        Err(error)
            if error.kind() == io::ErrorKind::AlreadyExists
                && (hold_the_same(&path, &before) || read(&path).is_ok_and(|held| *held == *key)) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let why = format!("{} is there already, and holds another key: move it away", before.display());
            return Err(unwritable(io::Error::other(why)));
        }
        linked => linked.map_err(unwritable)?,
    }
    write_whole(directory, name, key)?;
    Ok(before)
}

fn hold_the_same(one: &Path, other: &Path) -> bool {
    let read = |file| fs::read(file).map(Zeroizing::new);
    matches!((read(one), read(other)), (Ok(one), Ok(other)) if one == other)
}

/// Draws a secret.
///
/// # Errors
/// When the system has no randomness.
pub fn draw() -> Result<Zeroizing<[u8; 32]>, getrandom::Error> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(&mut key[..])?;
    Ok(key)
}

/// A key as files have it.
fn text_of(key: &[u8; 32]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES));
    for byte in key {
        let digit = |half: u8| char::from_digit(half.into(), 16).expect("half a byte is a digit");
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
    text.push('\n');
    text
}

fn decode(digits: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let mut key = Zeroizing::new([0; 32]);
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
        assert_eq!(ControlKey::new(&control).public(), read_public(&directory.join(CONTROL_PUB)).unwrap());
        let secret = fs::read(directory.join(CLUSTER_KEY)).unwrap();
        assert_eq!(secret.len(), FILE_BYTES);
        assert!(matches!(generate(&directory), Err(KeyError::Exists { .. })));
        assert_eq!(secret, fs::read(directory.join(CLUSTER_KEY)).unwrap());
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_path() {
        let place = tempfile::tempdir().unwrap();
        let path = private(place.path(), "odd.key");
        for text in ["", "\n", "zz", &"0".repeat(63), &"0".repeat(66), &"g".repeat(64), &"0".repeat(5_000)] {
            fs::write(&path, text).unwrap();
            let error = read(&path).unwrap_err().to_string();
            assert!(error.contains("odd.key") && error.contains("64 hexadecimal digits"), "{error}");
        }
        fs::write(&path, "AB".repeat(32) + "\n").unwrap();
        assert_eq!(*read(&path).unwrap(), [0xab; 32]);
        assert!(read(&place.path().join("none")).unwrap_err().to_string().contains("none"));
        fs::write(&path, "0".repeat(SECRET_BYTES_MAX as usize + 1)).unwrap();
        assert!(matches!(secret(&path), Err(KeyError::TooLarge { .. })));
    }

    #[test]
    fn a_key_file_is_replaced_whole_and_the_key_before_it_stays_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = private(place.path(), "cluster.key");
        fs::write(&path, "01".repeat(32) + "\n").unwrap();
        // A second time changes nothing: whoever was interrupted begins again.
        for _ in 0..2 {
            let before = replace(&path, 1, &[2; 32]).unwrap();
            assert_eq!((*read(&path).unwrap(), *read(&before).unwrap()), ([2; 32], [1; 32]));
            assert_eq!(before, place.path().canonicalize().unwrap().join("cluster.key.1"));
        }
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2, "and nothing else is left");
        let (path, former) = (place.path().join("other"), place.path().join("other.1"));
        write_whole(place.path(), "other", &[1; 32]).unwrap();
        write_whole(place.path(), "other.1", &[3; 32]).unwrap();
        let error = replace(&path, 1, &[2; 32]).unwrap_err().to_string();
        assert!(error.contains("other.1 is there already"), "{error}");
        assert_eq!(
            (*read(&path).unwrap(), *read(&former).unwrap()),
            ([1; 32], [3; 32]),
            "nothing has changed"
        );
        let error = replace(&place.path().join("none"), 1, &[2; 32]).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn a_process_that_holds_keys_leaves_no_core() {
        keep_from_dumps();
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }

    /// An empty file for this user alone.
    fn private(directory: &Path, name: &str) -> PathBuf {
        let path = directory.join(name);
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        path
    }

    #[test]
    fn a_secret_that_others_may_read_or_change_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = private(place.path(), "a.key");
        fs::write(&path, "ab".repeat(32) + "\n").unwrap();
        for (mode, good) in [
            (0o600, true),
            (0o400, true),
            (0o640, true),
            (0o644, false),
            (0o604, false),
            (0o620, false),
            (0o666, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&path);
            assert_eq!(read.is_ok(), good, "{mode:o}: {read:?}");
            if let Err(error) = read {
                let error = error.to_string();
                assert!(
                    error.contains("a.key")
                        && error.contains(&format!("{mode:o}"))
                        && error.contains("chmod 600"),
                    "{error}"
                );
            }
            assert!(read_public(&path).is_ok(), "everyone may read what is public");
        }
    }
}
