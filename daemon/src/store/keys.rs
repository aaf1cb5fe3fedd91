//! Which keys the cluster has, as its log says: numbers and fingerprints, and never a key.
//!
//! Three commands of the leader's, which no board knows and no request can bring in: a key is *announced*, comes *in force*
//! once those who are there hold it, and the one before it stays *valid* until it is *retired* by hand.

use chorus_proto::types::{Fingerprint, KeyId, RequestId, Term};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::sqlite::{int, uint, unreadable};
use crate::boards::{ApplyError, Change, Command, Context, Effect, Outcome, Touched};

/// What stands in the place of a board's name in these commands.
pub const NAME: &str = "keys";
/// The version of the commands.
const VERSION: u32 = 1;
/// Keys that one cluster can ever have: the retired ones have to be known for ever.
const KEYS_MAX: usize = 1_024;

pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS keys (
        number INTEGER PRIMARY KEY,
        fingerprint TEXT NOT NULL UNIQUE,
        stage TEXT NOT NULL,
        idx INTEGER NOT NULL
    );";

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is on its way to everyone; nobody speaks under it.
    Announced,
    /// Who holds it speaks under it.
    InForce,
    /// It was in force, and is heard.
    Valid,
    /// It is refused.
    Retired,
}

impl Stage {
    fn word(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::InForce => "in_force",
            Self::Valid => "valid",
            Self::Retired => "retired",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Announced, Self::InForce, Self::Valid, Self::Retired].into_iter().find(|it| it.word() == word)
    }
}

/// A key, as the log knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Number and fingerprint.
    pub id: KeyId,
    /// What it is good for.
    pub stage: Stage,
    /// The entry that made it so.
    index: u64,
}

/// All keys of a cluster, by number. None: it has the one that it was founded with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Vec<Known>);

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// There is another key; `before` is the one in force.
    Announce {
        /// The new one.
        key: KeyId,
        /// That of the key in force.
        before: Fingerprint,
    },
    /// The announced key comes in force.
    Use(KeyId),
    /// A key is refused from now on.
    Retire(KeyId),
}

/// The body of each command, a MessagePack map.
#[derive(Debug, Serialize, Deserialize)]
struct Body {
    key: KeyId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Fingerprint>,
}

impl KeyChange {
    fn op(self) -> &'static str {
        match self {
            Self::Announce { .. } => "announce",
            Self::Use(_) => "use",
            Self::Retire(_) => "retire",
        }
    }

    /// The key that it is about.
    #[must_use]
    pub fn key(self) -> KeyId {
        match self {
            Self::Announce { key, .. } | Self::Use(key) | Self::Retire(key) => key,
        }
    }

    /// As a command for the log. The same change has the same id in one term, so that one leader writes it once.
    #[must_use]
    pub fn command(self, node: &str, term: Term) -> Command {
        let before = match self {
            Self::Announce { before, .. } => Some(before),
            Self::Use(_) | Self::Retire(_) => None,
        };
        let (op, key) = (self.op(), self.key());
        let id = format!("key-{op}-{}-{}-{term}", key.number, key.fingerprint);
        Command {
            id: RequestId::try_from(id).expect("at most 60 words and digits"),
            board: NAME.to_owned(),
            op: op.to_owned(),
            v: VERSION,
            node: node.to_owned(),
            body: rmp_serde::to_vec_named(&Body { key, before }).expect("numbers and text have such a form"),
        }
    }

    fn of(op: &str, body: &[u8]) -> Option<Self> {
        let Body { key, before } = rmp_serde::from_slice(body).ok()?;
        match (op, before) {
            ("announce", Some(before)) => Some(Self::Announce { key, before }),
            ("use", None) => Some(Self::Use(key)),
            ("retire", None) => Some(Self::Retire(key)),
            _ => None,
        }
    }
}

impl Keys {
    /// What is known of the key with this fingerprint.
    #[must_use]
    pub fn of(&self, fingerprint: Fingerprint) -> Option<&Known> {
        self.0.iter().find(|known| known.id.fingerprint == fingerprint)
    }

    /// The key of this number.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Option<&Known> {
        self.0.iter().find(|known| known.id.number == number)
    }

    /// The key that everyone is to speak under.
    #[must_use]
    pub fn in_force(&self) -> Option<KeyId> {
        self.at(Stage::InForce)
    }

    /// The key that is on its way.
    #[must_use]
    pub fn announced(&self) -> Option<KeyId> {
        self.at(Stage::Announced)
    }

    fn at(&self, stage: Stage) -> Option<KeyId> {
        self.0.iter().find(|known| known.stage == stage).map(|known| known.id)
    }

    /// Lets a change happen.
    ///
    /// # Errors
    /// With code and sentence of the refusal; then nothing has changed.
    pub fn change(&mut self, index: u64, change: KeyChange) -> Result<(), (&'static str, String)> {
        match change {
            KeyChange::Announce { key, before } => self.announce(index, key, before),
            KeyChange::Use(key) if self.announced() == Some(key) => {
                self.0.iter_mut().filter(|known| known.stage == Stage::InForce).for_each(|known| {
                    (known.stage, known.index) = (Stage::Valid, index);
                });
                self.turn(index, key, Stage::InForce);
                Ok(())
            }
            KeyChange::Use(key) => Err(("not_found", format!("key {key} is not announced"))),
            KeyChange::Retire(key) => match self.of(key.fingerprint).map(|known| (known.id, known.stage)) {
                Some((id, Stage::Valid | Stage::Retired)) if id == key => {
                    self.turn(index, key, Stage::Retired);
                    Ok(())
                }
                Some((id, _)) if id == key => {
                    Err(("key_in_use", format!("key {key} is in force, or is to come in force")))
                }
                _ => Err(("not_found", format!("there is no key {key}"))),
            },
        }
    }

    fn turn(&mut self, index: u64, key: KeyId, stage: Stage) {
        for known in self.0.iter_mut().filter(|known| known.id == key) {
            (known.stage, known.index) = (stage, index);
        }
    }

    /// A key that was announced and never came in force gives way to another of its number: nobody may hold it any more.
    fn announce(
        &mut self,
        index: u64,
        key: KeyId,
        before: Fingerprint,
    ) -> Result<(), (&'static str, String)> {
        if self.announced() == Some(key) {
            return Ok(());
        }
        let mut keys = self.0.clone();
        if keys.is_empty() {
            let first = KeyId { number: 1, fingerprint: before };
            keys.push(Known { id: first, stage: Stage::InForce, index });
        }
        keys.retain(|known| known.stage != Stage::Announced);
        let next = keys.last().map_or(1, |last| last.id.number.saturating_add(1));
        let in_force = keys.iter().any(|it| it.stage == Stage::InForce && it.id.fingerprint == before);
        let known = keys.iter().any(|it| it.id.fingerprint == key.fingerprint);
        if key.number != next || known || !in_force {
            return Err(("conflict", format!("key {key} does not follow the one in force")));
        }
        if keys.len() >= KEYS_MAX {
            return Err(("too_many", format!("this cluster has had {KEYS_MAX} keys")));
        }
        keys.push(Known { id: key, stage: Stage::Announced, index });
        self.0 = keys;
        Ok(())
    }
}

/// What no program ever stored.
#[derive(Debug, thiserror::Error)]
#[error("no stage of a key")]
struct UnknownStage;

/// What the log has said of the keys so far.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Keys> {
    let mut statement =
        connection.prepare_cached("SELECT number, fingerprint, stage, idx FROM keys ORDER BY number")?;
    let known = |row: &rusqlite::Row<'_>| {
        let fingerprint = row.get::<_, String>(1)?;
        let fingerprint = Fingerprint::try_from(fingerprint).map_err(|error| unreadable(1, error))?;
        let stage: String = row.get(2)?;
        let stage = Stage::of(&stage).ok_or_else(|| unreadable(2, UnknownStage))?;
        Ok(Known { id: KeyId { number: row.get(0)?, fingerprint }, stage, index: uint(row.get(3)?) })
    };
    let keys = statement.query_map([], known)?.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(Keys(keys))
}

fn store(connection: &Connection, keys: &Keys) -> rusqlite::Result<()> {
    connection.execute("DELETE FROM keys", [])?;
    let mut statement = connection
        .prepare_cached("INSERT INTO keys (number, fingerprint, stage, idx) VALUES (?1, ?2, ?3, ?4)")?;
    for Known { id, stage, index } in &keys.0 {
        let fingerprint = id.fingerprint.to_string();
        statement.execute(params![id.number, fingerprint, stage.word(), int(*index)])?;
    }
    Ok(())
}

/// A cluster that goes on from a backup has the key of its files.
pub(super) fn forget(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DROP TABLE IF EXISTS keys;")
}

/// Whether this program can apply the command.
pub(super) fn knows(command: &Command) -> bool {
    command.board == NAME
        && command.v == VERSION
        && matches!(command.op.as_str(), "announce" | "use" | "retire")
}

/// Applies one of the commands. One that makes no sense is refused alike on every node.
pub(super) fn apply(
    connection: &Connection,
    context: &Context<'_>,
    command: &Command,
) -> Result<Effect, ApplyError> {
    let refused = |code: &str, detail: String| Effect {
        outcome: Outcome::Refused { code: code.to_owned(), detail, index: context.index },
        items: Vec::new(),
        touched: vec![Touched::all(NAME)],
    };
    let Some(change) = KeyChange::of(&command.op, &command.body) else {
        return Ok(refused("invalid", "the command does not say which key it is about".to_owned()));
    };
    let mut keys = load(connection)?;
    if let Err((code, detail)) = keys.change(context.index, change) {
        return Ok(refused(code, detail));
    }
    store(connection, &keys)?;
    let id = change.key().number.to_string();
    let kind = if matches!(change, KeyChange::Announce { .. }) { Change::Created } else { Change::Changed };
    Ok(Effect {
        outcome: Outcome::Done { change: kind, id, index: context.index },
        items: Vec::new(),
        touched: vec![Touched::all(NAME)],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32, byte: u8) -> KeyId {
        KeyId { number, fingerprint: Fingerprint([byte; 8]) }
    }

    fn announce(key: KeyId, before: u8) -> KeyChange {
        KeyChange::Announce { key, before: Fingerprint([before; 8]) }
    }

    #[test]
    fn a_key_is_announced_comes_in_force_and_the_one_before_it_is_retired() {
        let mut keys = Keys::default();
        keys.change(5, announce(key(2, 2), 1)).unwrap();
        assert_eq!((keys.in_force(), keys.announced()), (Some(key(1, 1)), Some(key(2, 2))));
        keys.change(6, KeyChange::Use(key(2, 2))).unwrap();
        assert_eq!((keys.in_force(), keys.announced()), (Some(key(2, 2)), None));
        assert_eq!(keys.numbered(1).unwrap().stage, Stage::Valid, "until it is retired by hand");
        keys.change(7, KeyChange::Retire(key(1, 1))).unwrap();
        assert_eq!(keys.numbered(1).unwrap().stage, Stage::Retired);
        keys.change(8, announce(key(3, 3), 2)).unwrap();
        assert_eq!(keys.announced(), Some(key(3, 3)));
    }

    #[test]
    fn what_does_not_follow_is_refused_and_changes_nothing() {
        let mut keys = Keys::default();
        keys.change(5, announce(key(2, 2), 1)).unwrap();
        keys.change(6, KeyChange::Use(key(2, 2))).unwrap();
        let before = keys.clone();
        for change in [
            announce(key(4, 4), 2),
            announce(key(3, 1), 2),
            announce(key(3, 3), 1),
            announce(key(2, 3), 2),
            KeyChange::Use(key(1, 1)),
            KeyChange::Use(key(3, 3)),
            KeyChange::Retire(key(2, 2)),
            KeyChange::Retire(key(1, 9)),
            KeyChange::Retire(key(3, 3)),
        ] {
            assert!(keys.change(7, change).is_err(), "{change:?}");
            assert_eq!(keys, before, "{change:?}");
        }
    }

    #[test]
    fn an_announced_key_that_nobody_holds_any_more_gives_way_to_another_of_its_number() {
        let mut keys = Keys::default();
        keys.change(5, announce(key(2, 2), 1)).unwrap();
        keys.change(6, announce(key(2, 3), 1)).unwrap();
        assert_eq!((keys.announced(), keys.of(Fingerprint([2; 8]))), (Some(key(2, 3)), None));
        assert!(keys.change(7, KeyChange::Use(key(2, 2))).is_err(), "the first one");
    }

    #[test]
    fn what_is_stored_is_what_is_read_and_a_change_survives_as_its_command() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        assert_eq!(load(&connection).unwrap(), Keys::default());
        let mut keys = Keys::default();
        for (index, change) in
            [announce(key(2, 2), 1), KeyChange::Use(key(2, 2)), KeyChange::Retire(key(1, 1))]
                .iter()
                .enumerate()
        {
            let command = change.command("n1", Term(u64::MAX));
            assert!(knows(&command) && KeyChange::of(&command.op, &command.body) == Some(*change));
            let context = Context {
                index: index as u64,
                term: 1,
                time_ms: 1,
                request: &command.id,
                node: &command.node,
            };
            let effect = apply(&connection, &context, &command).unwrap();
            assert!(matches!(effect.outcome, Outcome::Done { .. }), "{effect:?}");
            keys.change(index as u64, *change).unwrap();
            assert_eq!(load(&connection).unwrap(), keys);
        }
    }
}
