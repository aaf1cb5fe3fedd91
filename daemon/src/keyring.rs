//! The cluster's keys that this node holds: the one of its key file, and those that came by the cluster itself.
//!
//! The latter lie in the data directory (`keys/NUMBER-FINGERPRINT.key`, mode 0600; `.drawn` while no log knows the key), each
//! whole or not there at all, and on disk before anybody hears that this node holds them. Of two keys the log decides which one is spoken under, never the key file:
//! that may be a copy from before the last rotation, and may be read-only.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chorus_proto::types::{Fingerprint, KeyId};
use chorus_proto::wire::Secret;

use crate::keys::{self, KeyError};
use crate::store::{KeyStage, Keys, StoreError};

/// Where they lie in the data directory.
const DIRECTORY: &str = "keys";
/// How the files end.
const KEY: &str = "key";
const DRAWN: &str = "drawn";

/// Keys of other nodes that are held while no log tells of them: as many as a node lacks that was away for some rotations.
const UNTOLD_MAX: usize = 8;

/// The keys that one node holds.
#[derive(Debug)]
pub struct Keyring {
    /// That of the key file.
    given: Fingerprint,
    held: BTreeMap<Fingerprint, Held>,
    /// What the log says, as far as it is applied here.
    log: Keys,
}

#[derive(Clone, Debug)]
struct Held {
    secret: Secret,
    /// Its number, as far as it was told with it; 0: it was not. The log's word comes first.
    number: u32,
    /// It lies in the data directory.
    kept: bool,
    /// It lay there when this node started.
    was_kept: bool,
    /// This node drew it, and no log knows it yet: nobody is to hear of it.
    drawn: bool,
}

impl Keyring {
    /// With the key of the key file, and those of the data directory.
    ///
    /// # Errors
    /// When a file there cannot be read, or holds something else than its name says.
    pub fn open(data_dir: &Path, given: Secret, log: Keys) -> Result<Self, StoreError> {
        let mut ring = Self { given: given.fingerprint(), held: BTreeMap::new(), log: Keys::default() };
        for (path, key, drawn) in files(data_dir)? {
            let secret = keys::read_cluster(&path).map_err(refused)?;
            if secret.fingerprint() != key.fingerprint {
                let path = path.display();
                return Err(StoreError::Refused(format!(
                    "{path} does not hold the key that its name says: move it away, and the node asks for the key again"
                )));
            }
            let held = Held { secret, number: key.number, kept: true, was_kept: true, drawn };
            ring.held.insert(key.fingerprint, held);
        }
        let of_file = Held { secret: given, number: 0, kept: false, was_kept: false, drawn: false };
        ring.held.entry(ring.given).or_insert(of_file).drawn = false;
        ring.set_log(log);
        Ok(ring)
    }

    /// What the log says of the keys.
    #[must_use]
    pub fn log(&self) -> &Keys {
        &self.log
    }

    /// The log says something else now.
    pub fn set_log(&mut self, log: Keys) {
        self.log = log;
        for (fingerprint, held) in &mut self.held {
            held.drawn &= self.log.of(*fingerprint).is_none();
        }
    }

    /// A key came, and lies in the data directory.
    pub fn keep(&mut self, number: u32, secret: Secret, drawn: bool) {
        let held = Held { secret, number, kept: true, was_kept: false, drawn };
        self.held.insert(held.secret.fingerprint(), held);
    }

    /// A key that this node drew, for this number, and that no log knows.
    #[must_use]
    pub fn drawn(&self, number: u32) -> Option<KeyId> {
        let drawn = self.held.iter().find(|(_, held)| held.drawn && held.number == number);
        drawn.map(|(fingerprint, held)| KeyId { number: held.number, fingerprint: *fingerprint })
    }

    /// The key with this fingerprint and its number, if it is held and may be given.
    #[must_use]
    pub fn find(&self, fingerprint: Fingerprint) -> Option<(u32, &Secret)> {
        let held = self.held.get(&fingerprint).filter(|held| !held.drawn)?;
        (!self.is_retired(fingerprint)).then(|| (self.number(fingerprint, held), &held.secret))
    }

    /// Whether it is held.
    #[must_use]
    pub fn holds(&self, fingerprint: Fingerprint) -> bool {
        self.held.contains_key(&fingerprint)
    }

    /// The keys to hear under, with their numbers; the one to speak under first. Never none: who holds only what is retired
    /// goes on with it, and is heard by nobody.
    #[must_use]
    pub fn heard(&self) -> Vec<(u32, Secret)> {
        let mut heard: Vec<_> = self
            .held
            .iter()
            .filter(|(fingerprint, held)| !held.drawn && !self.is_retired(**fingerprint))
            .map(|(fingerprint, held)| (self.number(*fingerprint, held), held.secret.clone()))
            .collect();
        // In force, else the newest that once was. Where the log tells nothing (yet), the newest that lay here, else that of the
        // key file; never one that has just come.
        let rank = |number: u32, secret: &Secret| {
            let fingerprint = secret.fingerprint();
            match self.log.of(fingerprint).map(|known| known.stage) {
                Some(KeyStage::InForce) => (0, 0),
                Some(KeyStage::Valid) => (1, u32::MAX - number),
                Some(KeyStage::Announced | KeyStage::Retired) => (3, 0),
                None if fingerprint == self.given || self.held[&fingerprint].was_kept => {
                    (2, u32::MAX - number)
                }
                None => (4, 0),
            }
        };
        heard.sort_by_key(|(number, secret)| rank(*number, secret));
        if heard.is_empty() {
            let given = &self.held[&self.given];
            heard.push((self.number(self.given, given), given.secret.clone()));
        }
        heard
    }

    /// The newest key that is held, as the others are told.
    #[must_use]
    pub fn newest(&self) -> KeyId {
        let heard = self.held.iter().filter(|(fingerprint, held)| {
            !held.drawn && (!self.is_retired(**fingerprint) || **fingerprint == self.given)
        });
        let numbered = heard.map(|(fingerprint, held)| KeyId {
            number: self.number(*fingerprint, held),
            fingerprint: *fingerprint,
        });
        let newest = numbered.max_by_key(|key| (key.number, self.log.of(key.fingerprint).is_some()));
        newest.unwrap_or(KeyId { number: 1, fingerprint: self.given })
    }

    /// The number of the key in force: of the founding's, as long as the log tells of no other.
    #[must_use]
    pub fn in_force(&self) -> u32 {
        self.log.in_force().map_or(1, |key| key.number)
    }

    /// The key that the log wants everyone to hold, if this node lacks it.
    #[must_use]
    pub fn wanted(&self) -> Option<KeyId> {
        let newest = self.log.announced().or(self.log.in_force())?;
        (!self.holds(newest.fingerprint)).then_some(newest)
    }

    /// Whether one more key is taken on another node's word, without the log's.
    #[must_use]
    pub fn trusts_more(&self) -> bool {
        let untold = self.held.iter().filter(|(fingerprint, held)| {
            !held.drawn && **fingerprint != self.given && self.log.of(**fingerprint).is_none()
        });
        untold.count() < UNTOLD_MAX
    }

    /// The key of the key file, if only the key file holds it while the log tells of it: the next start may find another one
    /// there.
    #[must_use]
    pub fn unkept(&self) -> Option<(KeyId, Secret)> {
        let known = self.log.of(self.given).filter(|known| known.stage != KeyStage::Retired)?;
        let held = self.held.get(&self.given).filter(|held| !held.kept)?;
        Some((known.id, held.secret.clone()))
    }

    /// The number of the key file's key, if that is retired.
    #[must_use]
    pub fn given_retired(&self) -> Option<u32> {
        self.log.of(self.given).filter(|known| known.stage == KeyStage::Retired).map(|known| known.id.number)
    }

    /// Takes out what is retired, and what never came in force while another key did, but for the key file's; what lies in the
    /// data directory of it.
    pub fn take_retired(&mut self) -> Vec<KeyId> {
        let mut taken = Vec::new();
        let (log, given) = (&self.log, self.given);
        let in_force = log.in_force().map_or(0, |key| key.number);
        self.held.retain(|fingerprint, held| {
            let retired = match log.of(*fingerprint) {
                Some(known) => known.stage == KeyStage::Retired,
                None => *fingerprint != given && held.number <= in_force,
            };
            if retired && held.kept {
                taken.push(KeyId { number: held.number, fingerprint: *fingerprint });
                held.kept = false;
            }
            !retired || *fingerprint == given
        });
        taken
    }

    fn number(&self, fingerprint: Fingerprint, held: &Held) -> u32 {
        self.log.of(fingerprint).map_or(held.number.max(1), |known| known.id.number)
    }

    fn is_retired(&self, fingerprint: Fingerprint) -> bool {
        self.log.of(fingerprint).is_some_and(|known| known.stage == KeyStage::Retired)
    }
}

/// Puts a key into the data directory. It is there, whole and on disk, when this returns.
///
/// # Errors
/// The disk's.
pub fn write(data_dir: &Path, number: u32, secret: &Secret, drawn: bool) -> Result<(), StoreError> {
    let directory = data_dir.join(DIRECTORY);
    let key = KeyId { number, fingerprint: secret.fingerprint() };
    keys::write_whole(&directory, &name(key, drawn), secret.bytes())
        .map_err(|error| StoreError::Disk { path: directory, detail: error.to_string() })
}

/// Deletes keys from the data directory.
///
/// # Errors
/// The disk's.
pub fn forget(data_dir: &Path, keys: &[KeyId]) -> Result<(), StoreError> {
    for (key, drawn) in keys.iter().flat_map(|key| [(key, false), (key, true)]) {
        let path = data_dir.join(DIRECTORY).join(name(*key, drawn));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(StoreError::Disk { path, detail: error.to_string() });
            }
            _ => {}
        }
    }
    Ok(())
}

fn name(key: KeyId, drawn: bool) -> String {
    format!("{}-{}.{}", key.number, key.fingerprint, if drawn { DRAWN } else { KEY })
}

/// The files that are named like keys. What a crash left half written is named otherwise.
fn files(data_dir: &Path) -> Result<Vec<(PathBuf, KeyId, bool)>, StoreError> {
    let directory = data_dir.join(DIRECTORY);
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::Disk { path: directory, detail: error.to_string() }),
    };
    let key = |path: &Path| {
        let (name, ending) = path.file_name()?.to_str()?.split_once('.')?;
        let (number, fingerprint) = name.split_once('-')?;
        let fingerprint = Fingerprint::try_from(fingerprint.to_owned()).ok()?;
        let key = KeyId { number: number.parse().ok()?, fingerprint };
        (ending == KEY || ending == DRAWN).then(|| (path.to_owned(), key, ending == DRAWN))
    };
    let mut files: Vec<_> = entries.flatten().filter_map(|entry| key(&entry.path())).collect();
    // Of a key that lies here twice the file that is no longer `drawn` counts, which comes last.
    files.sort_by_key(|(_, _, drawn)| !drawn);
    Ok(files)
}

fn refused(error: KeyError) -> StoreError {
    StoreError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KeyChange;

    fn secret(byte: u8) -> Secret {
        Secret::from([byte; 32])
    }

    fn id(number: u32, byte: u8) -> KeyId {
        KeyId { number, fingerprint: secret(byte).fingerprint() }
    }

    fn log(changes: &[KeyChange]) -> Keys {
        let mut keys = Keys::default();
        changes.iter().for_each(|change| keys.change(1, *change).unwrap());
        keys
    }

    fn announced() -> KeyChange {
        KeyChange::Announce { key: id(2, 2), before: secret(1).fingerprint() }
    }

    fn bytes(ring: &Keyring) -> Vec<(u32, u8)> {
        ring.heard().iter().map(|(number, secret)| (*number, secret.bytes()[0])).collect()
    }

    #[test]
    fn a_key_is_heard_when_it_is_held_and_spoken_under_when_the_log_says_so() {
        let place = tempfile::tempdir().unwrap();
        let mut ring = Keyring::open(place.path(), secret(1), Keys::default()).unwrap();
        assert_eq!((bytes(&ring), ring.newest(), ring.wanted()), (vec![(1, 1)], id(1, 1), None));
        ring.set_log(log(&[announced()]));
        assert_eq!((ring.wanted(), ring.newest()), (Some(id(2, 2)), id(1, 1)));
        assert_eq!(ring.unkept().map(|(key, _)| key), Some(id(1, 1)), "its file may be replaced");
        ring.keep(1, secret(1), false);
        ring.keep(2, secret(2), false);
        assert_eq!((bytes(&ring), ring.newest()), (vec![(1, 1), (2, 2)], id(2, 2)), "spoken: the first");
        ring.set_log(log(&[announced(), KeyChange::Use(id(2, 2))]));
        assert_eq!(bytes(&ring), [(2, 2), (1, 1)]);
        ring.set_log(log(&[announced(), KeyChange::Use(id(2, 2)), KeyChange::Retire(id(1, 1))]));
        assert_eq!(bytes(&ring), [(2, 2)]);
        assert_eq!((ring.given_retired(), ring.take_retired()), (Some(1), vec![id(1, 1)]));
        assert_eq!((bytes(&ring), ring.find(secret(1).fingerprint()).is_some()), (vec![(2, 2)], false));
    }

    #[test]
    fn a_key_that_was_drawn_here_is_nobodys_before_the_log_tells_of_it() {
        let place = tempfile::tempdir().unwrap();
        write(place.path(), 2, &secret(2), true).unwrap();
        let mut ring = Keyring::open(place.path(), secret(1), Keys::default()).unwrap();
        ring.keep(2, secret(3), true);
        for byte in [2, 3] {
            assert!(
                ring.holds(secret(byte).fingerprint()) && ring.find(secret(byte).fingerprint()).is_none()
            );
        }
        assert_eq!((ring.newest(), bytes(&ring)), (id(1, 1), vec![(1, 1)]));
        assert!(ring.drawn(2).is_some() && ring.drawn(3).is_none());
        ring.set_log(log(&[announced()]));
        assert_eq!((ring.newest(), ring.drawn(2)), (id(2, 2), Some(id(2, 3))));
        assert_eq!(bytes(&ring), [(1, 1), (2, 2)]);
        assert_eq!(ring.take_retired(), [], "another one may still be needed");
        ring.set_log(log(&[announced(), KeyChange::Use(id(2, 2))]));
        assert_eq!(ring.take_retired(), [id(2, 3)], "it never came in force");
    }

    #[test]
    fn on_a_nodes_word_alone_so_many_keys_are_taken_and_no_more() {
        let place = tempfile::tempdir().unwrap();
        let mut ring = Keyring::open(place.path(), secret(1), Keys::default()).unwrap();
        ring.keep(2, secret(2), true);
        for number in 2..10 {
            assert!(ring.trusts_more(), "{number}");
            ring.keep(number, secret(100 + u8::try_from(number).unwrap()), false);
        }
        assert!(!ring.trusts_more());
        let told = KeyChange::Announce { key: id(2, 102), before: secret(1).fingerprint() };
        ring.set_log(log(&[told, KeyChange::Use(id(2, 102))]));
        assert!(ring.trusts_more(), "the log tells of one of them");
        let other = KeyChange::Announce { key: id(3, 50), before: secret(102).fingerprint() };
        ring.keep(10, secret(110), false);
        ring.set_log(log(&[told, KeyChange::Use(id(2, 102)), other]));
        assert_eq!(
            (ring.trusts_more(), ring.wanted()),
            (false, Some(id(3, 50))),
            "the log's is wanted all the same"
        );
    }

    #[test]
    fn keys_of_the_data_directory_are_there_after_a_restart_and_half_written_ones_are_none() {
        let place = tempfile::tempdir().unwrap();
        let known = log(&[announced(), KeyChange::Use(id(2, 2))]);
        write(place.path(), 2, &secret(2), false).unwrap();
        write(place.path(), 2, &secret(2), false).unwrap();
        fs::write(place.path().join("keys/3-0011223344556677.key.part"), "00").unwrap();
        let mut ring = Keyring::open(place.path(), secret(1), known.clone()).unwrap();
        assert_eq!(bytes(&ring), [(2, 2), (1, 1)], "the log decides, not the key file");
        ring.set_log(log(&[announced()]));
        assert_eq!(bytes(&ring), [(1, 1), (2, 2)]);
        // The key file was replaced, and the older key never kept.
        let ring = Keyring::open(place.path(), secret(2), known).unwrap();
        assert_eq!(bytes(&ring), [(2, 2)]);
        forget(place.path(), &[id(2, 2), id(9, 9)]).unwrap();
        assert!(!place.path().join("keys").join(name(id(2, 2), false)).exists());
        fs::write(place.path().join("keys").join(name(id(4, 4), false)), "ab".repeat(32)).unwrap();
        let open = Keyring::open(place.path(), secret(1), Keys::default());
        assert!(open.is_err(), "a name that lies, and a file that others may read");
    }

    #[test]
    fn who_holds_only_what_is_retired_goes_on_alone_and_knows_it() {
        let place = tempfile::tempdir().unwrap();
        let retired = log(&[announced(), KeyChange::Use(id(2, 2)), KeyChange::Retire(id(1, 1))]);
        let ring = Keyring::open(place.path(), secret(1), retired).unwrap();
        assert_eq!((bytes(&ring), ring.given_retired()), (vec![(1, 1)], Some(1)));
    }
}
