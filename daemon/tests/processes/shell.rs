//! `chorus shell`, from a pipe and at a terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use reqwest::Method;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::cluster::CHORUS;
use crate::up::{Up, five_free_ports};
use crate::wait::wait_for;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_carries_out_a_script_and_ends_with_the_code_of_the_last_failure() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 3, five_free_ports());

    let well = piped(&data, "# what a script may say\n\nstatus\nstore colour 'light green'\nhelp\n");
    let (data_said, talk) = said(&well);
    assert_eq!(well.status.code(), Some(0), "{talk}");
    for words in ["node  role", "leader", "created", "trylead"] {
        assert!(data_said.contains(words), "{words}: {data_said}{talk}");
    }
    assert!(!data_said.contains("chorus> "), "nobody types here: {data_said}");
    // The leader has said so; the node that is asked first may apply it a moment later.
    wait_for("n1 to hold what was stored", async || {
        let found = up.client(0).request(Method::GET, "/api/v1/store/colour").send().await.ok()?;
        found.status().is_success().then_some(())
    })
    .await;

    let ill =
        piped(&data, "store get missing\nnothing at all\nup\nstore 'open\nplaydead n9\nstore get colour\n");
    let (data_said, talk) = said(&ill);
    assert_eq!(ill.status.code(), Some(4), "n9 was not found, last of all: {talk}");
    assert!(data_said.ends_with("colour: light green\n"), "what comes after a failure is tried: {data_said}");
    for words in ["missing", "unrecognized subcommand 'nothing'", "`up`", "not closed", "n9 does not answer"]
    {
        assert!(talk.contains(words), "{words}: {talk}");
    }

    let left = piped(&data, "exit\nnothing\n");
    assert_eq!(left.status.code(), Some(0), "what stands behind `exit` is not read: {:?}", said(&left));
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shell_at_a_terminal_completes_remembers_and_survives_failures_and_ctrl_c() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 3, five_free_ports());

    let mut terminal = Terminal::open(&data);
    terminal.wait_for("chorus> ").await;
    terminal.line("sta\t", "node  role").await;
    terminal.line("nothing", "unrecognized subcommand").await;
    terminal.line("store 'open", "not closed").await;
    // The verb, then what the nodes' names have in common, then the names.
    terminal.press("playd\t\t\t");
    terminal.wait_for("n2").await;
    terminal.line("3", "n3: plays dead").await;
    terminal.line("store colour green", "created").await;
    terminal.press("store watch\r");
    terminal.wait_for("colour: green").await;
    terminal.press("\x03");
    terminal.wait_for("interrupted").await;
    terminal.wait_for("chorus> ").await;
    terminal.line("revive n3", "n3: is back").await;
    terminal.press("half a line\x03");
    terminal.wait_for("chorus> ").await;
    terminal.press("\x04");
    assert_eq!(terminal.ended().await, Some(0));

    // Another shell knows the lines of the first.
    let mut terminal = Terminal::open(&data);
    terminal.wait_for("chorus> ").await;
    terminal.line("\x1b[A", "n3: does not play dead").await;
    terminal.press("quit\r");
    assert_eq!(terminal.ended().await, Some(0));
    up.stop().await;
}

fn shell(data: &Path) -> [String; 3] {
    ["shell".to_owned(), "--data-dir".to_owned(), data.to_str().expect("UTF-8").to_owned()]
}

fn piped(data: &Path, lines: &str) -> Output {
    let mut shell = Command::new(CHORUS)
        .args(shell(data))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("chorus runs");
    shell.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("it reads");
    shell.wait_with_output().expect("its end")
}

fn said(ended: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&ended.stdout), text(&ended.stderr))
}

/// A shell at a terminal of its own, and somebody who types.
struct Terminal {
    process: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    /// What was looked at already.
    seen: usize,
}

impl Terminal {
    fn open(data: &Path) -> Self {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&keyboard).expect("its other side");
        unlockpt(&keyboard).expect("its other side");
        let name = ptsname(&keyboard, Vec::new()).expect("its name");
        let side: OwnedFd =
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("its other side");
        let side = File::from(side);
        let end = || side.try_clone().expect("one more handle");
        // A session whose terminal this is, so that Ctrl-C means the shell.
        let process = Command::new("setsid")
            .args(["--ctty", "--wait", "setpriv", "--pdeathsig", "KILL", CHORUS])
            .args(shell(data))
            .env("TERM", "xterm")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("setsid and setpriv are part of util-linux");
        let keyboard = File::from(keyboard);
        let mut glass = keyboard.try_clone().expect("one more handle");
        let screen: Arc<Mutex<Vec<u8>>> = Arc::default();
        let shown = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            // The read fails when the other side is closed.
            while let Ok(length @ 1..) = glass.read(&mut buffer) {
                shown.lock().expect("no panic meanwhile").extend_from_slice(&buffer[..length]);
            }
        });
        Self { process, keyboard, screen, seen: 0 }
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes it");
    }

    /// Types a line, and waits for these words and for the next prompt: keys that come before it are lost.
    async fn line(&mut self, keys: &str, words: &str) {
        self.press(&format!("{keys}\r"));
        self.wait_for(words).await;
        self.wait_for("chorus> ").await;
    }

    /// Waits until the words stand on the screen, behind all that was waited for before.
    async fn wait_for(&mut self, words: &str) {
        let (seen, screen) = (self.seen, Arc::clone(&self.screen));
        self.seen += wait_for(&format!("'{words}' on the screen"), async || {
            let screen = screen.lock().expect("no panic meanwhile");
            let at = screen[seen..].windows(words.len()).position(|some| some == words.as_bytes())?;
            Some(at + words.len())
        })
        .await;
    }

    async fn ended(&mut self) -> Option<i32> {
        let process = &mut self.process;
        wait_for("the shell to end", async || process.try_wait().expect("its state")).await.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let screen = self.screen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            println!("--- the screen:\n{}", String::from_utf8_lossy(&screen).escape_debug());
        }
    }
}
