//! `chorus status --watch`: what a person sees on a terminal, and that the terminal is as before afterwards.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::Value;

use crate::cluster::CHORUS;
use crate::up::{Up, five_free_ports};
use crate::wait::wait_for;

const ROWS: NonZeroU16 = NonZeroU16::new(24).expect("more than none");
const COLUMNS: NonZeroU16 = NonZeroU16::new(110).expect("more than none");

/// A program on a terminal, and what the terminal shows.
struct Terminal {
    process: Child,
    keyboard: File,
    /// The program's side; kept to see in which state it leaves it.
    line: File,
    screen: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn run(data: &Path, environment: &[(&str, &str)]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other side");
        let size = Winsize { ws_row: ROWS.get(), ws_col: COLUMNS.get(), ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("a size");
        let name = ptsname(&master, Vec::new()).expect("a name");
        let line = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("it opens");
        let line = File::from(line);
        let end = || Stdio::from(line.try_clone().expect("another handle"));
        // A session of its own, so that /dev/tty is this terminal and not that of whoever runs the tests.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "setsid", "--ctty", CHORUS, "status", "--watch", "--data-dir"])
            .arg(data)
            .env_remove("NO_COLOR")
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("chorus status starts");
        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(vt100::Parser::new(ROWS, COLUMNS, 0)));
        let (mut printed, shown) = (keyboard.try_clone().expect("another handle"), Arc::clone(&screen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(length @ 1..) = printed.read(&mut bytes) {
                shown.lock().expect("no test panics with it").process(&bytes[..length]);
            }
        });
        Self { process, keyboard, line, screen }
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.line).expect("its modes")
    }

    fn see<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.screen.lock().expect("no test panics with it").screen())
    }

    fn text(&self) -> String {
        self.see(vt100::Screen::contents)
    }

    /// The row of the table that begins with this word.
    fn row(&self, name: &str) -> Option<String> {
        self.text().lines().find(|line| line.split_whitespace().next() == Some(name)).map(str::to_owned)
    }

    /// Who leads, as the first line says.
    fn leader(&self) -> Option<String> {
        let text = self.text();
        let rest = text.lines().next()?.split(" leader ").nth(1)?;
        rest.split_whitespace().next().map(str::to_owned)
    }

    fn press(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("the terminal takes it");
    }

    async fn ended(&mut self) -> ExitStatus {
        wait_for("the program to end", async || self.process.try_wait().expect("its state")).await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_live_screen_shows_all_nodes_and_a_new_leader_and_gives_the_terminal_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 3, five_free_ports());
    let mut terminal = Terminal::run(&data, &[]);
    let before = terminal.modes();
    let old = wait_for("all nodes and their leader", async || {
        let leader = terminal.leader()?;
        let leads = terminal.row(&leader)?.contains("leader");
        (["n1", "n2", "n3"].into_iter().all(|name| terminal.row(name).is_some()) && leads).then_some(leader)
    })
    .await;
    assert!(terminal.see(|screen| screen.alternate_screen() && screen.hide_cursor()));
    assert!(!terminal.modes().local_modes.contains(LocalModes::ICANON), "keys come at once");
    wait_for("the leader's row to be coloured", async || terminal.see(coloured).then_some(())).await;

    let posted = up.client(0).quote("watched", "Ada", "Who counts?").await;
    wait_for("the index on the screen", async || {
        let applied =
            |name| Some(terminal.row(name)?.split_whitespace().nth(5)?.parse::<u64>().ok()? >= posted.index);
        ["n1", "n2", "n3"].into_iter().all(|name| applied(name) == Some(true)).then_some(())
    })
    .await;

    let node = up.ready.nodes.iter().find(|node| node.name == old).expect("a node of ours");
    kill_process(Pid::from_raw(node.pid).expect("a pid"), Signal::KILL).expect("the node runs");
    let new = wait_for("another leader", async || terminal.leader().filter(|leader| *leader != old)).await;
    wait_for("what happened", async || {
        let text = terminal.text();
        let said = [format!("{new} leads in term"), format!("{old} was started anew")];
        said.iter().all(|event| text.contains(event)).then_some(())
    })
    .await;

    terminal.press(b"q");
    assert!(terminal.ended().await.success());
    given_back(&terminal, &before).await;
    up.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_c_leaves_the_live_screen_and_no_color_is_honoured() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("chorus-data");
    let up = Up::start(&data, 1, five_free_ports());
    let mut terminal = Terminal::run(&data, &[("NO_COLOR", "1")]);
    let before = terminal.modes();
    wait_for("the leader", async || terminal.leader()).await;
    assert!(!terminal.see(coloured), "{}", terminal.text());
    terminal.press(b"\x03");
    assert!(terminal.ended().await.success());
    given_back(&terminal, &before).await;

    // On a busy machine one look may be in vain.
    lines_until(&data, &["--watch"], |lines| {
        let headings = lines.iter().filter(|line| line.starts_with("node ")).count();
        headings >= 2 && lines.iter().any(|line| line.contains("leader n1"))
    });
    lines_until(&data, &["--watch", "--json"], |lines| {
        let views = lines.iter().map(|line| serde_json::from_str::<Value>(line).expect("an object"));
        views.filter(|view| view["leader"] == "n1" && view["nodes"][0]["role"] == "leader").count() >= 2
    });
    up.stop().await;
}

/// Whether any letter on the screen has a colour.
fn coloured(screen: &vt100::Screen) -> bool {
    let cells = (0..ROWS.get()).flat_map(|row| (0..COLUMNS.get()).map(move |column| (row, column)));
    let mut colours = cells.filter_map(|(row, column)| Some(screen.cell(row, column)?.fgcolor()));
    colours.any(|colour| colour != vt100::Color::Default)
}

/// The screen of before, a cursor, and a keyboard that waits for whole lines.
async fn given_back(terminal: &Terminal, before: &Termios) {
    wait_for("the screen of before", async || {
        terminal.see(|screen| !screen.alternate_screen() && !screen.hide_cursor()).then_some(())
    })
    .await;
    let after = terminal.modes();
    assert_eq!(
        (after.local_modes, after.input_modes, after.output_modes),
        (before.local_modes, before.input_modes, before.output_modes)
    );
}

/// Reads what `status` prints where there is no terminal, until it is enough.
fn lines_until(data: &Path, arguments: &[&str], enough: impl Fn(&[String]) -> bool) {
    const LINES_MAX: usize = 200;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", CHORUS, "status"]).args(arguments).arg("--data-dir").arg(data);
    let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("chorus runs");
    let stdout = process.stdout.take().expect("a pipe");
    let mut lines = Vec::new();
    for line in BufReader::new(stdout).lines().take(LINES_MAX) {
        lines.push(line.expect("UTF-8"));
        if enough(&lines) {
            break;
        }
    }
    process.kill().expect("it runs until it is ended");
    process.wait().expect("it ends");
    assert!(enough(&lines), "{lines:#?}");
}
