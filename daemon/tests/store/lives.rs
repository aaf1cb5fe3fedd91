//! Starts: what one life leaves to the next, and what is refused.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use chorus::store::{StoreError, check};
use chorus_proto::raft::Persist;
use chorus_proto::types::{
    Cluster, Configuration, Entry, EntryId, Founding, HardState, Identity, Index, NodeId, Payload, Term,
    Voter,
};

use super::support::{
    EPOCH_MS, Said, code, copy, entry, hard_state, id, name, noops, open, quote, try_open, written_bytes,
};

pub(crate) fn founding() -> Entry {
    let voter = Voter { name: name("n1"), identity: Identity([7; 16]) };
    let configuration = Configuration { voters: vec![voter] };
    let cluster = Cluster { id: [1; 16], epoch: 1 };
    Entry { id: id(0, 1), time_ms: EPOCH_MS, payload: Payload::Founding(Founding { cluster, configuration }) }
}

#[test]
fn a_new_directory_is_empty_and_stays_so_until_something_is_promised() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert!(first.opened.durable.empty);
    assert_eq!(first.opened.durable.last_id, EntryId::ZERO);
    let (identity, boot) = (first.opened.identity, first.opened.boot);
    first.close();

    let mut second = open(dir.path());
    assert!(second.opened.durable.empty);
    assert_eq!(second.opened.identity, identity);
    assert!(second.opened.boot > boot);
    second.append(vec![founding()]);
    second.close();

    let third = open(dir.path());
    assert!(!third.opened.durable.empty);
}

#[test]
fn a_first_start_that_was_cut_short_before_it_promised_anything_is_begun_again() {
    for left_behind in [0, 4_201] {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).close();
        // Made, and perhaps given its length, but never written: what a power loss leaves of a new file.
        fs::write(dir.path().join("promise"), vec![0; left_behind]).unwrap();
        let mut node = open(dir.path());
        assert!(node.opened.durable.empty);
        node.append(vec![founding()]);
        node.close();
        // Of a node that promised something it is a loss.
        fs::write(dir.path().join("promise"), vec![0; left_behind]).unwrap();
        let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
        assert!(refused.contains("promise"), "{refused}");
    }
}

#[test]
fn everything_that_was_persisted_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let vote = HardState { term: Term(3), vote: Some(NodeId(u64::MAX - 1)) };
    let Payload::Founding(Founding { cluster, configuration }) = founding().payload else { unreachable!() };
    node.persist_now(Persist { cluster: Some(cluster), append: vec![founding()], ..Persist::default() });
    node.persist_now(Persist { founded: true, hard_state: Some(vote), ..Persist::default() });
    node.append(noops(2, 2, 5));
    node.append(noops(3, 6, 9));
    node.apply(7);
    node.close();

    let node = open(dir.path());
    let durable = &node.opened.durable;
    assert_eq!(durable.hard_state, vote);
    assert_eq!(durable.cluster, Some(cluster));
    assert!(durable.founded && !durable.empty);
    assert_eq!((durable.base_id, durable.last_id), (EntryId::ZERO, id(3, 9)));
    assert_eq!(durable.term_starts, [id(0, 1), id(2, 2), id(3, 6)]);
    assert_eq!((durable.applied_id, durable.promised_id), (id(3, 7), id(3, 9)));
    assert_eq!(durable.last_time_ms, EPOCH_MS + 9);
    assert_eq!(durable.configurations, [(Index(1), configuration)]);
}

#[test]
fn a_copy_made_in_the_middle_of_work_opens_with_what_was_said_to_be_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(&dir.path().join("node"));
    node.vote(hard_state(1));
    for index in 1..=200 {
        node.append(vec![entry(index, EPOCH_MS + index, &quote(&format!("q{index}"), "said"))]);
        if index == 120 {
            node.apply(100);
            copy(&node.path, &dir.path().join("copy"));
        }
    }
    let copied = open(&dir.path().join("copy"));
    assert_eq!(copied.opened.durable.last_id, id(1, 120));
    assert_eq!(copied.opened.durable.hard_state, hard_state(1));
    assert_eq!(copied.apply(120).first().unwrap().index, copied.opened.durable.applied_id.index.0 + 1);
}

#[test]
fn another_process_finds_the_directory_in_use_and_says_by_whom() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).close();
    // `flock` on the file that we hold too; it prints a line once it has it.
    let mut other = Command::new("flock")
        .arg(dir.path().join("lock"))
        .args(["sh", "-c", "echo held; read end"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut line).unwrap();
    fs::write(dir.path().join("lock"), format!("{}\n", other.id())).unwrap();

    let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
    assert!(refused.contains(&format!("in use by another process (pid {})", other.id())), "{refused}");
    assert_eq!(check(dir.path(), &name("n1")).unwrap_err().to_string(), refused);
    drop(other.stdin.take());
    other.wait().unwrap();
    open(dir.path()).close();
}

#[test]
fn a_check_changes_nothing_and_says_what_a_start_would() {
    let dir = tempfile::tempdir().unwrap();
    let node = name("n1");
    check(&dir.path().join("not/there/yet"), &node).unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fs::write(dir.path().join("file"), "no directory").unwrap();
    let refused = check(&dir.path().join("file"), &node).unwrap_err().to_string();
    assert!(refused.contains("is no directory"), "{refused}");
    let used = dir.path().join("used");
    open(&used).close();
    check(&used, &node).unwrap();
    fs::remove_file(used.join("log.db")).unwrap();
    assert!(check(&used, &node).unwrap_err().to_string().contains("log.db is missing"));
}

#[test]
fn one_process_cannot_open_a_directory_twice() {
    let dir = tempfile::tempdir().unwrap();
    let node = open(dir.path());
    let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
    assert!(refused.contains(&format!("(pid {})", std::process::id())), "{refused}");
    node.close();
}

#[test]
fn another_nodes_directory_is_refused_and_not_a_byte_of_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let (closed, crashed) = (dir.path().join("closed"), dir.path().join("crashed"));
    let mut node = try_open(&closed, "n2").unwrap();
    node.append(noops(1, 1, 10));
    copy(&node.path, &crashed);
    node.close();
    for path in [&closed, &crashed] {
        let before = contents(path);
        let refused = try_open(path, "n1").err().unwrap().to_string();
        assert!(refused.contains("belongs to node n2"), "{refused}");
        assert_eq!(check(path, &name("n1")).unwrap_err().to_string(), refused);
        assert_eq!(contents(path), before);
    }
}

fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_file())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_file_that_a_newer_program_wrote_is_refused_by_name_and_not_a_byte_of_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let mut node = open(&whole);
    node.append(noops(1, 1, 10));
    node.close();
    // What stands in a newer program's tables nobody here can know.
    let newer = |database: &Path, (table, column): (&str, &str)| {
        let database = rusqlite::Connection::open(database).unwrap();
        let renamed =
            format!("ALTER TABLE {table} RENAME COLUMN {column} TO other; PRAGMA user_version = 99;");
        database.execute_batch(&renamed).unwrap();
        // Read alone, it leaves no WAL that another program would write.
        database.pragma_update(None, "journal_mode", "DELETE").unwrap();
    };
    let newer_promise = |file: &Path| {
        let mut bytes = fs::read(file).unwrap();
        bytes[7] = b'9';
        bytes[4_096 + 7] = b'9';
        fs::write(file, bytes).unwrap();
    };
    for (file, format) in [
        ("log.db", "format 99, this program knows 2"),
        ("state/1/state.db", "format 99, this program knows 2"),
        ("promise", "format 9, this program knows 1"),
    ] {
        let path = dir.path().join(file.replace('/', "-"));
        copy(&whole, &path);
        match file {
            "log.db" => newer(&path.join(file), ("self", "name")),
            "promise" => newer_promise(&path.join(file)),
            _ => newer(&path.join(file), ("applied", "idx")),
        }
        let before = fs::read(path.join(file)).unwrap();
        let refused = try_open(&path, "n1").err().unwrap();
        assert!(matches!(refused, StoreError::Refused(_)), "{refused:?}");
        let refused = refused.to_string();
        assert!(refused.starts_with(path.join(file).to_str().unwrap()), "{refused}");
        assert!(refused.contains(format) && refused.ends_with("upgrade this program"), "{refused}");
        assert_eq!(fs::read(path.join(file)).unwrap(), before);
    }
}

/// Flips a bit in a slot of the promise file.
fn damage_promise(path: &Path, slot: usize) {
    let file = path.join("promise");
    let mut bytes = fs::read(&file).unwrap();
    bytes[slot * 4096 + 20] ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_one_copy_of_the_promise_falls_back_to_the_other() {
    for slot in [0, 1] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = open(dir.path());
        node.vote(hard_state(4));
        node.append(noops(4, 1, 3));
        node.close();
        // The first life after it writes both copies alike.
        open(dir.path()).close();
        damage_promise(dir.path(), slot);
        let node = open(dir.path());
        assert_eq!(node.opened.durable.promised_id, id(4, 3));
        assert_eq!(node.opened.durable.hard_state, hard_state(4));
    }
}

#[test]
fn a_promise_that_nobody_can_read_is_refused_in_clear_words() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append(noops(1, 1, 3));
    node.close();
    damage_promise(dir.path(), 0);
    damage_promise(dir.path(), 1);
    let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
    assert!(refused.contains("both copies in the file 'promise' are damaged"), "{refused}");
    fs::remove_file(dir.path().join("promise")).unwrap();
    let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
    assert!(refused.contains("'promise' is missing"), "{refused}");
}

#[test]
fn a_log_that_lost_its_end_shows_by_the_promise() {
    let dir = tempfile::tempdir().unwrap();
    let (node_dir, older) = (dir.path().join("node"), dir.path().join("older"));
    let mut node = open(&node_dir);
    node.append(noops(1, 1, 50));
    copy(&node_dir, &older);
    node.vote(hard_state(2));
    node.append(noops(2, 51, 80));
    node.close();
    // log.db as it was at entry 50, the promise as it was at entry 80.
    fs::copy(node_dir.join("promise"), older.join("promise")).unwrap();

    let mut node = open(&older);
    assert_eq!(node.opened.durable.last_id, id(1, 50));
    assert_eq!(node.opened.durable.promised_id, id(2, 80));
    assert_eq!(node.opened.durable.hard_state, hard_state(2), "the higher term counts");
    // What is regained in part does not hide what is still missing.
    node.append(noops(2, 51, 60));
    node.persist_now(Persist { cut_from: Some(Index(60)), ..Persist::default() });
    node.close();
    let mut node = open(&older);
    assert_eq!(node.opened.durable.last_id, id(2, 59));
    assert_eq!(node.opened.durable.promised_id, id(2, 80));
    node.append(noops(3, 60, 61));
    node.close();
    assert_eq!(open(&older).opened.durable.promised_id, id(3, 61));
}

#[test]
fn a_flipped_bit_in_the_wal_makes_a_shorter_log_that_shows_by_the_promise() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = dir.path().join("crashed");
    let mut node = open(&dir.path().join("node"));
    for index in 1..=60 {
        node.append(noops(1, index, index));
    }
    copy(&node.path, &crashed);
    node.close();
    let wal = crashed.join("log.db-wal");
    let mut bytes = fs::read(&wal).unwrap();
    let half = usize::try_from(written_bytes(&wal)).unwrap() / 2;
    bytes[half] ^= 1;
    fs::write(&wal, bytes).unwrap();

    let durable = open(&crashed).opened.durable;
    assert!(durable.last_id < id(1, 60), "SQLite drops what follows the bit: {:?}", durable.last_id);
    assert_eq!(durable.promised_id, id(1, 60));
}

#[test]
fn a_page_that_a_power_loss_tore_and_the_wal_makes_good_names_no_other_node() {
    let dir = tempfile::tempdir().unwrap();
    let crashed = dir.path().join("crashed");
    let mut node = open(&dir.path().join("node"));
    node.vote(hard_state(3));
    copy(&node.path, &crashed);
    let identity = node.opened.identity.0;
    node.close();
    // The row that bears the name has its sector, or has not.
    let log = crashed.join("log.db");
    let mut bytes = fs::read(&log).unwrap();
    let row = bytes.windows(identity.len()).position(|window| window == identity).expect("the row of `self`");
    assert_eq!(&bytes[row - 2..row], b"n1");
    bytes[row - 2..row].fill(0);
    fs::write(&log, bytes).unwrap();
    assert_eq!(open(&crashed).opened.durable.hard_state.term, Term(3));
}

#[test]
fn a_directory_without_its_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append(noops(1, 1, 3));
    node.close();
    fs::remove_file(dir.path().join("log.db")).unwrap();
    let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
    assert!(refused.contains("log.db is missing"), "{refused}");
}

#[test]
fn a_damaged_state_is_set_aside_and_made_again_from_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.run((1..=20).map(|i| entry(i, EPOCH_MS + i, &quote(&format!("q{i}"), "said"))).collect());
    let rows = super::support::list(node.stores(), "quotes");
    node.close();
    fs::write(dir.path().join("state/1/state.db"), vec![0xa5; 65_536]).unwrap();

    let node = open(dir.path());
    assert_eq!(node.opened.durable.applied_id, EntryId::ZERO);
    assert_eq!(node.opened.durable.last_id, id(1, 20));
    node.apply(20);
    assert_eq!(super::support::list(node.stores(), "quotes"), rows);
    node.close();
    assert_eq!(open(dir.path()).opened.durable.applied_id, id(1, 20));
}

#[test]
fn damage_that_shows_late_ends_this_life_and_the_next_makes_the_state_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let text = "x".repeat(1_200);
    node.run((1..=400).map(|i| entry(i, EPOCH_MS + i, &quote(&format!("q{i}"), &text))).collect());
    node.close();
    // Everything but the schema and what is read at the start.
    let file = dir.path().join("state/1/state.db");
    let mut bytes = fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[half..].fill(0xa5);
    fs::write(&file, bytes).unwrap();

    let node = open(dir.path());
    assert_eq!(node.opened.durable.applied_id, id(1, 400));
    let count = "SELECT sum(length(text)) FROM quotes";
    node.stores().read(|connection| connection.query_row(count, [], |row| row.get::<_, i64>(0))).unwrap_err();
    node.wait_for(|said| matches!(said, Said::Failed(_)));
    node.close();

    let node = open(dir.path());
    assert_eq!(node.opened.durable.applied_id, EntryId::ZERO);
    node.apply(400);
    assert_eq!(super::support::list(node.stores(), "quotes").len(), 400);
}

#[test]
fn a_log_of_format_1_is_taken_to_format_2() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.vote(hard_state(4));
    node.append(noops(4, 1, 3));
    node.close();
    let log = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
    let before = "DROP TABLE base; ALTER TABLE self DROP COLUMN checksum; PRAGMA user_version = 1;";
    log.execute_batch(before).unwrap();
    drop(log);
    for _ in 0..2 {
        let node = open(dir.path());
        let durable = &node.opened.durable;
        assert_eq!((durable.last_id, durable.hard_state), (id(4, 3), hard_state(4)));
        node.close();
    }
}

#[test]
fn what_log_db_says_of_the_node_or_its_base_is_refused_when_it_is_not_what_was_written() {
    for (change, says) in [
        ("UPDATE self SET term = term + 1", "what it says of this node"),
        ("UPDATE self SET state_number = 2", "what it says of this node"),
        ("UPDATE self SET founded = 1", "what it says of this node"),
        ("INSERT INTO base VALUES (1, 4, 1, 17)", "where the log begins"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = open(dir.path());
        node.vote(hard_state(4));
        node.append(noops(4, 1, 3));
        node.close();
        let log = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
        assert_eq!(log.execute(change, []).unwrap(), 1);
        drop(log);
        let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
        assert!(refused.contains(says) && refused.contains("log.db"), "{refused}");
    }
}

#[test]
fn two_votes_in_one_term_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.vote(HardState { term: Term(5), vote: Some(NodeId(0xab)) });
    let promise = fs::read(dir.path().join("promise")).unwrap();
    node.vote(HardState { term: Term(5), vote: Some(NodeId(0xac)) });
    node.close();
    fs::write(dir.path().join("promise"), promise).unwrap();
    let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
    assert!(refused.contains("two votes in one term"), "{refused}");
}

#[test]
fn terms_that_contradict_the_log_are_refused() {
    let changes = ["DELETE FROM terms WHERE term = 2", "UPDATE terms SET idx = 5 WHERE term = 2"];
    for change in changes {
        let dir = tempfile::tempdir().unwrap();
        let mut node = open(dir.path());
        node.append([noops(1, 1, 3), noops(2, 4, 6), noops(3, 7, 9)].concat());
        node.close();
        let log = rusqlite::Connection::open(dir.path().join("log.db")).unwrap();
        assert_eq!(log.execute(change, []).unwrap(), 1);
        drop(log);
        let refused = try_open(dir.path(), "n1").err().unwrap().to_string();
        assert!(refused.contains("contradicts itself"), "{change}: {refused}");
    }
}

/// As a disk leaves it that lost a write: the row is whole, and was once right.
#[test]
fn an_older_row_in_the_place_of_a_later_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let older = dir.path().join("older");
    let mut node = open(&older);
    node.append(noops(1, 1, 9));
    node.close();
    for (stale, found_by) in [(4, "contradicts itself"), (6, "of a later term"), (9, "of a later term")] {
        let path = dir.path().join(stale.to_string());
        let mut node = open(&path);
        node.append([noops(1, 1, 3), noops(2, 4, 12)].concat());
        node.close();
        let log = rusqlite::Connection::open(path.join("log.db")).unwrap();
        log.execute("ATTACH ?1 AS older", [older.join("log.db").to_str()]).unwrap();
        let changed = log
            .execute("INSERT OR REPLACE INTO log SELECT * FROM older.log WHERE idx = ?1", [stale])
            .unwrap();
        assert_eq!(changed, 1);
        drop(log);
        let found = match try_open(&path, "n1") {
            Err(refused) => refused.to_string(),
            Ok(node) => {
                node.stores().apply(Index(12), Vec::new());
                match node.wait_for(|said| matches!(said, Said::Failed(_) | Said::Applied(_))) {
                    Said::Failed(error) => error.to_string(),
                    _ => "nothing".to_owned(),
                }
            }
        };
        assert!(found.contains(found_by), "entry {stale}: {found}");
    }
}

#[test]
fn a_state_ahead_of_the_log_is_made_again_and_shows_what_the_log_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (node_dir, older) = (dir.path().join("node"), dir.path().join("older"));
    let mut node = open(&node_dir);
    node.append(noops(1, 1, 5));
    copy(&node_dir, &older);
    node.append(noops(1, 6, 9));
    node.apply(9);
    node.close();
    fs::remove_dir_all(older.join("state")).unwrap();
    copy(&node_dir.join("state"), &older.join("state"));

    let node = open(&older);
    let durable = &node.opened.durable;
    assert_eq!((durable.last_id, durable.applied_id), (id(1, 5), EntryId::ZERO));
    assert_eq!(durable.promised_id, id(1, 9));
}

#[test]
fn a_flipped_bit_in_an_entry_is_found_when_it_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    node.append((1..=3).map(|i| entry(i, EPOCH_MS, &quote(&format!("q{i}"), "the very words"))).collect());
    node.close();
    let file = dir.path().join("log.db");
    let mut bytes = fs::read(&file).unwrap();
    let at = bytes.windows(8).position(|window| window == b"the very").unwrap();
    bytes[at] ^= 0x20;
    fs::write(&file, bytes).unwrap();

    let node = open(dir.path());
    node.stores().apply(Index(3), Vec::new());
    let Said::Failed(error) = node.wait_for(|said| matches!(said, Said::Failed(_))) else { unreachable!() };
    assert!(error.to_string().contains("is damaged"), "{error}");
    assert!(node.stores().log(0, 10, 3).is_err());
}

#[test]
fn a_command_from_the_future_stops_the_state_before_it_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let mut future = quote("q3", "from the future");
    future.v = 9;
    node.append(vec![
        entry(1, EPOCH_MS, &quote("q1", "one")),
        entry(2, EPOCH_MS, &quote("q2", "two")),
        entry(3, EPOCH_MS, &future),
    ]);
    node.stores().apply(Index(3), Vec::new());
    let Said::Stuck(why) = node.wait_for(|said| matches!(said, Said::Stuck(_))) else { unreachable!() };
    assert!(why.contains("entry t1/i3") && why.contains("upgrade"), "{why}");
    assert_eq!(super::support::list(node.stores(), "quotes").len(), 2);
    node.append(vec![entry(4, EPOCH_MS, &quote("q4", "four"))]);
    node.close();
    assert_eq!(open(dir.path()).opened.durable.applied_id, id(1, 2));
}

#[test]
fn a_malformed_command_stops_the_state_and_a_malformed_body_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let mut malformed = quote("q1", "one");
    malformed.body = b"no map".to_vec();
    assert_eq!(code(&node.run(vec![entry(1, EPOCH_MS, &malformed)])[0]), "invalid");
    node.append(vec![Entry {
        id: id(1, 2),
        time_ms: EPOCH_MS,
        payload: Payload::Command(b"noise".to_vec().into()),
    }]);
    node.stores().apply(Index(2), Vec::new());
    node.wait_for(|said| matches!(said, Said::Stuck(_)));
}

#[test]
fn a_database_that_another_program_keeps_locked_ends_the_node_but_is_no_fault_of_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = open(dir.path());
    let other = rusqlite::Connection::open(dir.path().join("state/1/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    node.append(noops(1, 1, 1));
    node.stores().apply(Index(1), Vec::new());
    let Said::Failed(error) = node.wait_for(|said| matches!(said, Said::Failed(_))) else { unreachable!() };
    let StoreError::Refused(why) = error else { panic!("{error}") };
    assert!(why.contains("state.db") && why.contains("another program"), "{why}");
}
