//! The image of `compose/Dockerfile`.

use std::env;
use std::path::Path;
use std::process::Command;
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::debian;
use crate::engine::{Engine, PATIENCE, said};
use crate::pages::Pages;
use crate::program;

/// Its name in the test's engine.
pub(crate) const NAME: &str = "chorus-test/chorus";

/// From the start of the process to the first page, on an empty directory.
const READY_PROMISED: Duration = Duration::from_millis(300);

/// So many, of which the median counts.
const STARTS: usize = 3;

/// Its size.
const BYTES_PROMISED: u64 = 15 << 20;

/// Packs what is handed out, as a release does; that takes minutes to compile. In the short form the program under
/// test, of the same source.
pub(crate) fn build(engine: &Engine) {
    let mut release = engine.client(program::house().join("release"));
    release.args(["image", NAME]).env("BASE", debian::image(engine));
    if !delivered() {
        release.arg(program::statically_linked());
    }
    said(release.output().expect("./release runs"), "./release image");
}

/// The image is the one that is handed out.
fn delivered() -> bool {
    env::var_os("CHORUS_TEST_LONG").is_some()
}

/// It is small, is what its labels say, runs as nobody, and holds one file.
pub(crate) fn is_as_promised(engine: &Engine) {
    let bytes = engine.docker(&["image", "inspect", NAME, "--format", "{{.Size}}"]);
    let bytes: u64 = bytes.trim().parse().expect("a number");
    println!(
        "measured: the image: {bytes} bytes (promised {BYTES_PROMISED}, once it is optimized as a whole)"
    );
    if delivered() {
        assert!(bytes <= BYTES_PROMISED, "{bytes}");
    } else if !cfg!(debug_assertions) {
        // For speed, and crate by crate, it is larger by half at most.
        assert!(bytes <= BYTES_PROMISED * 3 / 2, "{bytes}: as a whole it will not be small enough either");
    }
    let told = engine.docker(&["image", "inspect", NAME, "--format", "{{json .Config}}"]);
    let config: Value = serde_json::from_str(&told).expect("the engine speaks JSON");
    assert_eq!(config["User"], "65532:65532");
    assert_eq!(config["Entrypoint"], json!(["/chorus"]));
    assert_eq!(config["StopSignal"], "SIGTERM");
    assert_eq!(config["Healthcheck"]["Test"], json!(["CMD", "/chorus", "health"]));
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let container = engine.docker(&["create", NAME]);
    let listed =
        engine.client("sh").args(["-c", "docker export \"$1\" | tar -t", "sh", container.trim()]).output();
    engine.docker(&["rm", "--volumes", container.trim()]);
    let files = said(listed.expect("sh runs"), "docker export");
    // The rest is the engine's: what it lays into every container.
    let own = |file: &&str| {
        !["dev/", "etc/", "proc/", "sys/", ".dockerenv"].iter().any(|other| file.starts_with(other))
    };
    let mut own: Vec<&str> = files.lines().filter(own).collect();
    own.sort_unstable();
    assert_eq!(own, ["chorus", "data/"]);
}

/// A node on an empty directory shows its page at once. `keys` is the directory of `chorus key generate`.
pub(crate) fn is_ready_at_once(engine: &Engine, keys: &Path) {
    let key = format!("{}:/run/secrets/cluster.key:ro", keys.join("cluster.key").display());
    let public = format!("{}:/run/secrets/control.pub:ro", keys.join("control.pub").display());
    let mut args =
        vec!["--network=host", "--read-only", "--cap-drop=ALL", "--volume", &key, "--volume", &public];
    let settings = ["CHORUS_NAME=n1", "CHORUS_VOTERS=n1,n2,n3", "CHORUS_INTERFACE=127.0.0.1", "CHORUS_TTL=0"];
    args.extend(settings.iter().flat_map(|setting| ["--env", setting]));
    args.push(NAME);
    let mut took: Vec<Duration> = (0..STARTS).map(|_| to_the_first_page(engine, &args)).collect();
    took.sort_unstable();
    println!(
        "measured: from the start to the first page, on an empty directory: {took:?} (promised {READY_PROMISED:?})"
    );
    assert!(took[STARTS / 2] < READY_PROMISED * 4, "{took:?}");
}

/// Starts a container; how long it took from there to its first page.
fn to_the_first_page(engine: &Engine, args: &[&str]) -> Duration {
    // Asked for from before it is there.
    let first_page = thread::spawn(first_page);
    let container = engine.docker(&[&["run", "--detach"], args].concat());
    let container = container.trim();
    let shown = first_page.join().expect("a page");
    let took = shown.saturating_sub(started(engine, container));
    engine.docker(&["rm", "--force", "--volumes", container]);
    took
}

/// When the page was there, since 1970.
fn first_page() -> Duration {
    let (pages, begun) = (Pages::new(), Instant::now());
    while !pages.get(8_000, "/").is_some_and(|answer| answer.text.contains("<html")) {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for the first page");
        sleep(Duration::from_millis(2));
    }
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970")
}

/// When the engine started the container's process, since 1970.
fn started(engine: &Engine, container: &str) -> Duration {
    let at = engine.docker(&["inspect", container, "--format", "{{.State.StartedAt}}"]);
    let ns = Command::new("date").args(["--date", at.trim(), "+%s%N"]).output().expect("date runs");
    Duration::from_nanos(said(ns, "date").trim().parse().expect("a number"))
}
