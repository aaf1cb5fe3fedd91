//! What is wrong with flags, environment and files is said in one sentence that names the value and the remedy, with
//! exit code 2 (or 1, when the world refuses), and changes nothing on disk.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A directory with keys, and a node's command that would be good.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let keys = directory.path().join("key");
        let made = run(Command::new(CHORUS).args(["key", "generate"]).arg(&keys));
        assert_eq!(made.status.code(), Some(0), "{}", talk(&made));
        Self { directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `chorus node --check` with what every node needs, and no variable of the environment.
    fn check(&self) -> Command {
        let mut command = self.bare();
        command.args(["--name", "n1", "--key-file"]).arg(self.path().join("key/cluster.key"));
        command
    }

    /// `chorus node --check` and where nothing else listens.
    fn bare(&self) -> Command {
        let mut command = Command::new(CHORUS);
        command.env_clear().current_dir(self.path());
        command.env("CHORUS_INTERFACE", "127.0.0.1").env("CHORUS_LISTEN", "127.0.0.1:0");
        command.args(["node", "--check"]);
        command
    }

    /// A file for this user alone.
    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path.to_string_lossy().into_owned()
    }
}

const CHORUS: &str = env!("CARGO_BIN_EXE_chorus");

fn run(command: &mut Command) -> Output {
    command.output().expect("chorus runs")
}

fn talk(ended: &Output) -> String {
    String::from_utf8_lossy(&ended.stderr).into_owned()
}

/// Asserts exit code and one line on standard error with all of `words`, and nothing on standard output.
#[track_caller]
fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let ended = run(command);
    let said = talk(&ended);
    assert_eq!(ended.status.code(), Some(code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "one sentence: {said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is missing in: {said}");
    }
    assert!(ended.stdout.is_empty(), "standard output is for data");
}

#[test]
fn good_settings_pass_the_check_and_change_nothing() {
    let place = Place::new();
    let before: Vec<_> =
        fs::read_dir(place.path()).expect("a directory").map(|entry| entry.expect("it").path()).collect();
    let ended = run(place.check().args([
        "--voters",
        "n3,n1,n2",
        "--heartbeat",
        "40ms",
        "--public-url",
        "http://n1:8000",
    ]));
    assert_eq!(ended.status.code(), Some(0), "{}", talk(&ended));
    let after: Vec<_> =
        fs::read_dir(place.path()).expect("a directory").map(|entry| entry.expect("it").path()).collect();
    assert_eq!(before, after, "no data directory was made");
}

#[test]
fn a_flag_wins_over_the_environment_and_the_environment_over_the_file() {
    let place = Place::new();
    let file = place.file("node.toml", "heartbeat = \"1ms\"\nttl = 1\nvoters = [\"n1\", \"n2\"]\n");
    // Each layer is seen by the complaint about it, and silenced by the one above it.
    let in_file = |command: &mut Command| {
        command.args(["--config", &file]);
    };
    let mut command = place.check();
    in_file(&mut command);
    refused(&mut command, 2, &["heartbeat in", "node.toml", "'1ms'"]);
    command.env("CHORUS_HEARTBEAT", "2ms");
    refused(&mut command, 2, &["CHORUS_HEARTBEAT in the environment", "'2ms'"]);
    command.args(["--heartbeat", "3ms"]);
    refused(&mut command, 2, &["--heartbeat is '3ms'"]);
    let mut command = place.check();
    in_file(&mut command);
    command.args(["--heartbeat", "30ms"]);
    assert_eq!(run(&mut command).status.code(), Some(0));
}

#[test]
fn a_learner_may_share_the_file_of_those_who_found_the_cluster() {
    let place = Place::new();
    let file = place.file("all.toml", "voters = [\"n2\", \"n3\", \"n4\"]\n");
    let ended = run(place.check().args(["--config", &file, "--learner"]));
    assert_eq!(ended.status.code(), Some(0), "{}", talk(&ended));
    refused(place.check().args(["--config", &file]), 2, &["n1", "is not in it"]);
}

#[test]
fn the_check_can_be_asked_for_by_the_environment() {
    let place = Place::new();
    let key = place.path().join("key/cluster.key");
    let mut command = Command::new(CHORUS);
    command.current_dir(place.path()).args(["node", "--name", "n1", "--key-file"]).arg(key);
    let ended = run(command.env("CHORUS_CHECK", "true").env("CHORUS_LISTEN", "127.0.0.1:0"));
    assert_eq!(ended.status.code(), Some(0), "{}", talk(&ended));
    assert!(!place.path().join("n1").exists() && !place.path().join("chorus-data").exists());
}

#[test]
fn the_configuration_file_can_come_from_the_environment_and_hold_everything() {
    let place = Place::new();
    let key = place.path().join("key/cluster.key");
    let file = place.file("node.toml", &format!("name = \"n1\"\nkey_file = {:?}\n", key.to_string_lossy()));
    let ended = run(place.bare().env("CHORUS_CONFIG", file));
    assert_eq!(ended.status.code(), Some(0), "{}", talk(&ended));
}

#[test]
fn a_bad_configuration_file_is_named_with_what_is_wrong_in_it() {
    let place = Place::new();
    refused(place.check().args(["--config", "none.toml"]), 2, &["none.toml", "cannot be read", "--config"]);
    let unknown = place.file("unknown.toml", "hartbeat = \"40ms\"\n");
    refused(
        place.check().args(["--config", &unknown]),
        2,
        &["unknown.toml", "unknown key 'hartbeat'", "heartbeat"],
    );
    let broken = place.file("broken.toml", "ttl = 1\nname n1\n");
    refused(place.check().args(["--config", &broken]), 2, &["broken.toml", "line 2"]);
    let odd = place.file("odd.toml", "heartbeat = { ms = 40 }\n");
    refused(place.check().args(["--config", &odd]), 2, &["odd.toml", "heartbeat"]);
    let secret = place.file("secret.toml", "key = \"00\"\n");
    refused(place.check().args(["--config", &secret]), 2, &["unknown key 'key'"]);
}

#[test]
fn what_is_needed_and_not_given_is_asked_for() {
    let place = Place::new();
    refused(&mut place.bare(), 2, &["no name", "--name", "CHORUS_NAME"]);
    refused(place.bare().args(["--name", "n1"]), 2, &["no key_file", "--key-file", "CHORUS_KEY_FILE"]);
}

#[test]
fn each_bad_value_is_said_with_its_remedy() {
    let place = Place::new();
    let bad: [(&[&str], &[&str]); 19] = [
        (&["--heartbeat", "40"], &["--heartbeat is '40'", "40ms"]),
        (&["--heartbeat", "200ms"], &["--heartbeat is '200ms'", "election_timeout_min", "'150ms'"]),
        (&["--election-timeout-min", "400ms"], &["--election-timeout-min is '400ms'", "'300ms'"]),
        (&["--election-timeout-max", "2m"], &["--election-timeout-max is '2m'", "60s"]),
        (&["--voters", "n2,n3"], &["--voters is 'n2,n3'", "n1", "is not in it"]),
        (&["--voters", "n1,n2,n1"], &["n1 stands in it twice"]),
        (&["--voters", "n1,,n2"], &["--voters is 'n1,,n2'", "commas"]),
        (&["--voters", "n1,E"], &["'E'"]),
        (&["--voters", "n1,n2", "--learner"], &["--learner is 'true'", "--voters", "leave out one"]),
        (&["--group", "10.0.0.1:5555"], &["--group is '10.0.0.1:5555'", "multicast"]),
        (&["--group", "239.255.77.77"], &["--group", "port"]),
        (&["--ttl", "256"], &["--ttl is '256'", "255"]),
        (&["--listen", "8000"], &["--listen is '8000'", "127.0.0.1:8000"]),
        (&["--unicast", "[::1]:5556"], &["--unicast", "IPv4"]),
        (&["--public-url", "n1:8000"], &["--public-url is 'n1:8000'", "http://"]),
        (&["--drop-received", "2"], &["--drop-received is '2'", "0 and 1"]),
        (&["--data-dir", ""], &["--data-dir is ''", "directory"]),
        (&["--control-pub", "key/none.pub"], &["--control-pub", "key/none.pub", "key generate"]),
        (&["--unicast", "224.0.0.1:5556"], &["--unicast", "one machine"]),
    ];
    for (arguments, words) in bad {
        refused(place.check().args(arguments), 2, words);
    }
    refused(
        place.bare().args(["--name", "E", "--key-file", "key/cluster.key"]),
        2,
        &["--name is 'E'", "everyone"],
    );
    let long = place.file("long.key", &"0".repeat(66));
    refused(
        place.bare().args(["--name", "n1", "--key-file", &long]),
        2,
        &["long.key", "64 hexadecimal digits"],
    );
    let many = (0..60).map(|k| format!("a-rather-long-name-{k}")).collect::<Vec<_>>().join(",") + ",n1";
    refused(place.check().args(["--voters", &many]), 2, &["one datagram"]);
}

#[test]
fn a_secret_that_others_may_read_and_files_that_hold_none_are_refused() {
    let place = Place::new();
    let open = place.file("open.key", &("ab".repeat(32) + "\n"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("its mode");
    let mut command = place.bare();
    command.args(["--name", "n1", "--key-file", &open]);
    refused(&mut command, 2, &["open.key", "644", "chmod 600"]);
    // Those that a service manager hands over are its to guard.
    assert_eq!(run(command.env("CREDENTIALS_DIRECTORY", place.path())).status.code(), Some(0));
    let tokens = place.file("tokens", "a-token-that-is-long-enough\n");
    assert_eq!(run(place.check().args(["--writer-token-file", &tokens])).status.code(), Some(0));
    fs::set_permissions(&tokens, fs::Permissions::from_mode(0o604)).expect("its mode");
    let short = place.file("short", "short\n");
    let bad: [(&[&str], &[&str]); 7] = [
        (&["--writer-token-file", &tokens], &["tokens", "604", "chmod 600"]),
        (&["--reader-token-file", &short], &["short", "line 1", "16 to 200"]),
        (&["--moderator-token-file", "none"], &["none", "cannot be read"]),
        (&["--gateway-secret-file", &short], &["short", "line 1"]),
        (&["--tls-certificate", &short], &["--tls-certificate", "tls_key"]),
        (&["--tls-certificate", &short, "--tls-key", &short], &["short", "certificate", "PEM"]),
        (&["--hosts", "http://a"], &["--hosts is 'http://a'", "without scheme"]),
    ];
    for (arguments, words) in bad {
        refused(place.check().args(arguments), 2, words);
    }
}

#[test]
fn an_interface_that_does_not_exist_is_named() {
    let place = Place::new();
    let mut command = Command::new(CHORUS);
    command.env_clear().current_dir(place.path());
    command.args([
        "node",
        "--check",
        "--name",
        "n1",
        "--key-file",
        "key/cluster.key",
        "--listen",
        "127.0.0.1:0",
    ]);
    command.args(["--interface", "nowhere0"]);
    refused(&mut command, 2, &["nowhere0", "--interface"]);
}

#[test]
fn a_port_in_use_is_one_sentence_and_nothing_is_made() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let key = place.path().join("key/cluster.key");
    for check in [true, false] {
        let mut command = Command::new(CHORUS);
        command.env_clear().current_dir(place.path());
        command.args(["node", "--name", "n1", "--key-file"]).arg(&key);
        command.args(["--interface", "127.0.0.1", "--listen", &address]);
        if check {
            command.arg("--check");
        }
        refused(&mut command, 1, &[&address, "in use", "--listen"]);
        assert!(!place.path().join("chorus-data").exists(), "nothing is changed on disk");
    }
}

#[test]
fn keys_are_never_overwritten() {
    let place = Place::new();
    let secret = fs::read(place.path().join("key/cluster.key")).expect("a key");
    let mut again = Command::new(CHORUS);
    again.args(["key", "generate", "key"]).current_dir(place.path());
    refused(&mut again, 1, &["key/cluster.key", "never overwritten"]);
    assert_eq!(secret, fs::read(place.path().join("key/cluster.key")).expect("a key"));
}

#[test]
fn up_names_the_port_that_is_taken_and_makes_nothing() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port().to_string();
    let data = place.path().join("chorus-data");
    let mut command = Command::new(CHORUS);
    command.env_clear().args(["up", "-n", "1", "--port", &port, "--data-dir"]).arg(&data);
    refused(&mut command, 1, &[&port, "n1", "in use", "--port"]);
    assert!(!data.exists());
}

#[test]
fn a_command_that_finds_no_cluster_says_how_to_name_one() {
    let place = Place::new();
    let chorus = || {
        let mut command = Command::new(CHORUS);
        command.env_clear().current_dir(place.path());
        command
    };
    refused(chorus().arg("status"), 2, &["which cluster", "--data-dir", "--key-file"]);
    refused(chorus().args(["status", "--data-dir", "nowhere"]), 2, &["nowhere", "client.toml", "--data-dir"]);
    refused(chorus().args(["status", "--key-file", "none.key"]), 2, &["none.key", "key generate"]);
    let key = ["--key-file", "key/cluster.key", "--interface", "127.0.0.1", "--ttl", "0"];
    refused(chorus().args(["status", "--wait", "1"]).args(key), 2, &["--wait is '1'", "5s"]);
    refused(chorus().args(["trylead", "n1"]).args(key), 2, &["--control-key"]);
    refused(chorus().args(["store", "", "x"]).args(key), 2, &["key", "1 to 256"]);
    refused(chorus().args(["status", "--group", "10.0.0.1:1"]).args(key), 2, &["10.0.0.1:1", "multicast"]);
}
