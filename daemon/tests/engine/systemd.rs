//! The package on a bare Debian: installed, configured in one step, watched over, removed and purged.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::Value;

use crate::engine::{said, wait_for};
use crate::machine::Machine;
use crate::package;

/// What `systemd-analyze security` may say at most, of 10.
const EXPOSURE_MAX: f64 = 1.5;

/// A full disk is reached with so many values of 60 kB, whatever SQLite does with its pages.
const VALUES_MAX: usize = 200;

/// What the node finds of it once it runs: the rest is filled at once.
const ROOM_KIB: u32 = 1_024;

/// A machine that stands still now and then brings an election about in one try or two.
const TRIES: usize = 3;

#[test]
fn the_package_installs_runs_and_leaves_as_debians_own_do() {
    let machine = Machine::boot();
    machine.copy(&package::build(), "/root/chorus.deb");
    machine.sh("dpkg --install /root/chorus.deb");
    a_node_without_a_key_says_what_to_do(&machine);
    three_instances_make_a_cluster(&machine);
    the_journal_has_the_fields(&machine);
    a_reload_reads_the_filter_of_the_log_anew(&machine);
    tokens_are_asked_for_and_read_again(&machine);
    a_certificate_is_shown_and_read_again(&machine);
    pages_are_served_by_ipv6_too(&machine);
    the_sandbox_is_tight(&machine);
    a_node_that_stands_still_is_started_again(&machine);
    a_stop_hands_over(&machine);
    an_address_may_come_late(&machine);
    a_full_disk_ends_a_node_for_good(&machine);
    data_outlives_a_removal_and_not_a_purge(&machine);
}

fn a_node_without_a_key_says_what_to_do(machine: &Machine) {
    for (node, port) in [("n1", 8_001), ("n2", 8_002), ("n3", 8_003)] {
        machine.sh(&format!("echo CHORUS_LISTEN=127.0.0.1:{port} > /etc/chorus/{node}.env"));
    }
    machine.sh("systemctl start chorus@n1");
    machine.status("chorus@n1", |line| line.starts_with("no cluster: there is no key file"));
    let page = get(machine, 8_001, "/");
    assert!(status(&page) == "503" && page.contains("chorus key generate"), "{page}");
    assert_eq!(status(&get(machine, 8_001, "/livez")), "200");
}

/// One step: keys, and who founds.
fn three_instances_make_a_cluster(machine: &Machine) {
    machine.sh("chorus key generate /etc/chorus/key && mv /etc/chorus/key/control.key /root/");
    machine
        .sh(r#"printf 'voters = "n1,n2,n3"\ninterface = "127.0.0.1"\nttl = 0\n' >> /etc/chorus/chorus.toml"#);
    let begun = Instant::now();
    machine.sh("systemctl restart chorus@n1 && systemctl enable --now chorus@n2 chorus@n3");
    for node in ["n1", "n2", "n3"] {
        machine.status(&format!("chorus@{node}"), |line| takes_part(line) && hears_all(line));
    }
    let with_the_machine = machine.property("multi-user.target", "Wants");
    assert!(with_the_machine.contains("chorus@n2.service"), "{with_the_machine}");
    println!("measured: three units from the start to a cluster of three: {:?}", begun.elapsed());
    let index = put(machine, 8_001, "colour", "green");
    for port in [8_001, 8_002, 8_003] {
        let answer = get(machine, port, &format!("/api/v1/store/colour?min_index={index}"));
        assert!(answer.contains(r#""value":"green""#), "{answer}");
    }
}

fn the_journal_has_the_fields(machine: &Machine) {
    let leader = leader(machine);
    let leads = wait_for(&format!("{leader} to tell the journal that it leads"), || {
        let lines = machine.sh(&format!("journalctl --unit=chorus@{leader} --output=json"));
        let mut lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["CHORUS_LEADER"] == leader.as_str())
    });
    assert_eq!(leads["CHORUS_NODE"], leader.as_str(), "{leads}");
    assert_eq!((&leads["SYSLOG_IDENTIFIER"], &leads["PRIORITY"]), (&"chorus".into(), &"6".into()), "{leads}");
    assert!(leads["CHORUS_TERM"].as_str().is_some_and(|term| term.parse::<u64>().is_ok()), "{leads}");
}

fn a_reload_reads_the_filter_of_the_log_anew(machine: &Machine) {
    machine.sh(r#"echo 'log = "info,hyper=warn"' >> /etc/chorus/chorus.toml && systemctl reload chorus@n1"#);
    told(machine, "n1", "the log's filter read anew: 'info,hyper=warn'");
}

fn tokens_are_asked_for_and_read_again(machine: &Machine) {
    const FIRST: &str = "the-first-token-of-a-writer";
    const SECOND: &str = "the-second-token-of-a-writer";
    let by = |token: &str| {
        let answer = put_by(machine, 8_003, &format!("Authorization: Bearer {token}\\r\\n"), "by", "token");
        status(&answer).to_owned()
    };
    machine.sh("echo CHORUS_WRITER_TOKEN_FILE=/etc/chorus/web/writers >> /etc/chorus/n3.env");
    // As somebody would who has not read how.
    machine.sh(&format!(
        "umask 077 && echo {FIRST} > /etc/chorus/web/writers && chgrp root /etc/chorus/web/writers"
    ));
    machine.try_sh("systemctl restart chorus@n3");
    told(machine, "n3", "`chgrp` it to a group");
    hand_over(machine, "writers", FIRST);
    machine.status("chorus@n3", takes_part);
    assert_eq!(status(&put_by(machine, 8_003, "", "by", "nobody")), "401");
    assert_eq!((by(FIRST), by(SECOND)), ("201".to_owned(), "401".to_owned()));
    hand_over(machine, "writers", SECOND);
    machine.sh("systemctl reload chorus@n3");
    wait_for("n3 to take the second token", || (by(SECOND) == "201").then_some(()));
    assert_eq!(by(FIRST), "401");
    machine.sh("sed -i /TOKEN/d /etc/chorus/n3.env && systemctl restart chorus@n3");
    machine.status("chorus@n3", takes_part);
}

fn a_certificate_is_shown_and_read_again(machine: &Machine) {
    let certify = |authority: &str| {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        hand_over(machine, "tls.pem", &cert.pem());
        hand_over(machine, "tls.key", &signing_key.serialize_pem());
        machine.sh(&format!("cp /etc/chorus/web/tls.pem /root/{authority}"));
    };
    let is_believed = |authority: &str| {
        let health = "chorus health --ready --listen 127.0.0.1:8002 --public-url https://localhost:8002";
        machine.try_sh(&format!("{health} --ca-file /root/{authority}")).status.success()
    };
    certify("first.pem");
    machine.sh("echo CHORUS_TLS_CERTIFICATE=/etc/chorus/web/tls.pem >> /etc/chorus/n2.env");
    machine.sh("echo CHORUS_TLS_KEY=/etc/chorus/web/tls.key >> /etc/chorus/n2.env");
    machine.sh("systemctl restart chorus@n2");
    wait_for("n2 to be reached by https", || is_believed("first.pem").then_some(()));
    certify("second.pem");
    assert!(!is_believed("second.pem"), "it is not read yet");
    machine.sh("systemctl reload chorus@n2");
    wait_for("n2 to show the second certificate", || is_believed("second.pem").then_some(()));
    assert!(!is_believed("first.pem"), "the first is gone");
    machine.sh("sed -i /TLS/d /etc/chorus/n2.env && systemctl restart chorus@n2");
    machine.status("chorus@n2", takes_part);
}

/// Puts a file where the nodes may read it, as the documents say.
fn hand_over(machine: &Machine, name: &str, text: &str) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("it is written");
    machine.copy(file.path(), &format!("/root/{name}"));
    machine.sh(&format!("install -g chorus-web -m 640 /root/{name} /etc/chorus/web/"));
}

fn pages_are_served_by_ipv6_too(machine: &Machine) {
    machine.sh("sed -i s/127.0.0.1/[::1]/ /etc/chorus/n2.env && systemctl restart chorus@n2");
    machine.status("chorus@n2", takes_part);
    machine.sh("chorus health --listen '[::1]:8002'");
    machine.sh("sed -i 's/[[]::1[]]/127.0.0.1/' /etc/chorus/n2.env && systemctl restart chorus@n2");
    machine.status("chorus@n2", takes_part);
}

fn the_sandbox_is_tight(machine: &Machine) {
    let judged = machine.sh("systemd-analyze security chorus@n1 --no-pager");
    let last = judged.lines().find(|line| line.contains("Overall exposure level")).expect("a judgement");
    let exposure: f64 = last
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no number in: {last}"));
    println!("measured: systemd-analyze security: {exposure} (promised {EXPOSURE_MAX})");
    assert!(exposure <= EXPOSURE_MAX, "{judged}");
}

fn a_node_that_stands_still_is_started_again(machine: &Machine) {
    // Shorter than delivered, so that the test need not wait half a minute.
    machine.sh("mkdir -p /run/systemd/system/chorus@n2.service.d");
    machine
        .sh("printf '[Service]\\nWatchdogSec=3\\n' > /run/systemd/system/chorus@n2.service.d/watchdog.conf");
    machine.sh("systemctl daemon-reload && systemctl restart chorus@n2");
    machine.status("chorus@n2", takes_part);
    let before = machine.property("chorus@n2", "MainPID");
    let begun = Instant::now();
    machine.sh(&format!("kill -STOP {before}"));
    wait_for("the watchdog to start n2 again", || {
        let pid = machine.property("chorus@n2", "MainPID");
        (pid != "0" && pid != before).then_some(())
    });
    machine.status("chorus@n2", takes_part);
    println!("measured: a node that was stopped is back after {:?} (watchdog 3 s)", begun.elapsed());
    told(machine, "n2", "Watchdog timeout");
    // As delivered again: a disk that stalls for 3 s is nothing to die of.
    machine.sh("rm -r /run/systemd/system/chorus@n2.service.d");
    machine.sh("systemctl daemon-reload && systemctl restart chorus@n2");
    machine.status("chorus@n2", takes_part);
}

fn a_stop_hands_over(machine: &Machine) {
    // A line of status is up to a second old: who is stopped may have ceased to lead.
    let led = (0..TRIES).any(|_| leader_is_stopped(machine, &leader(machine)));
    assert!(led, "whoever was stopped had ceased to lead, {TRIES} times");
}

/// Stops it, and asserts that it hands over, if it leads when that comes; starts it again. Whether it led.
fn leader_is_stopped(machine: &Machine, leader: &str) -> bool {
    let unit = format!("chorus@{leader}");
    let start = machine.property(&unit, "InvocationID");
    let begun = Instant::now();
    machine.sh(&format!("systemctl stop {unit}"));
    let took = begun.elapsed();
    println!("measured: systemctl stop of the leader: {took:?} (promised 10 s)");
    assert!(took < Duration::from_secs(10));
    let words = || machine.sh(&format!("journalctl _SYSTEMD_INVOCATION_ID={start}"));
    let led = wait_for("the journal to have the end of the leader", || {
        let words = words();
        let (before, _) = words.split_once(": stopping")?;
        let last = before.lines().rfind(|line| line.contains(" in term "))?;
        Some(last.contains(": leads in term "))
    });
    if led {
        wait_for("the journal to tell that it handed over", || {
            words().contains("handing leadership over has ended").then_some(())
        });
    }
    machine.sh(&format!("systemctl start {unit}"));
    machine.status(&unit, takes_part);
    led
}

/// As after a power outage, when the machine is there before its network is. Here the setting changes, not the network.
fn an_address_may_come_late(machine: &Machine) {
    machine.sh("sed -i s/127.0.0.1/192.0.2.7/ /etc/chorus/n3.env");
    machine.try_sh("systemctl restart chorus@n3");
    // While it starts the status is that of a process which has not ended.
    wait_for("n3 to be started again and again, and to end with 2", || {
        let tries: u32 = machine.property("chorus@n3", "NRestarts").parse().expect("a number");
        (tries >= 2 && machine.property("chorus@n3", "ExecMainStatus") == "2").then_some(())
    });
    told(machine, "n3", "192.0.2.7:8003 is not an address of this machine");
    machine.sh("sed -i s/192.0.2.7/127.0.0.1/ /etc/chorus/n3.env");
    machine.status("chorus@n3", |line| takes_part(line) && hears_all(line));
}

fn a_full_disk_ends_a_node_for_good(machine: &Machine) {
    let others = ["n1", "n2"];
    machine.sh("systemctl stop chorus@n3 && cp -a /var/lib/private/chorus/n3 /root/n3");
    machine.sh("mount -t tmpfs -o size=6m,mode=0700 tmpfs /var/lib/private/chorus/n3");
    machine.sh("echo CHORUS_DISK_RESERVE=0 >> /etc/chorus/n3.env");
    machine.sh("cp -a /root/n3/. /var/lib/private/chorus/n3/ && systemctl start chorus@n3");
    machine.sh(&format!(
        "cd /var/lib/private/chorus/n3 && free=$(df --output=avail --block-size=1K . | tail -1) && \
         if ((free > {ROOM_KIB})); then head -c $(((free - {ROOM_KIB}) * 1024)) /dev/zero > filler; fi"
    ));
    let value = "x".repeat(60_000);
    let full = (0..VALUES_MAX).any(|n| {
        put(machine, 8_001, &format!("fill/{n}"), &value);
        machine.property("chorus@n3", "ActiveState") == "failed"
    });
    assert!(full, "{VALUES_MAX} values of 60 kB fill a disk of 6 MB");
    assert_eq!(machine.property("chorus@n3", "ExecMainStatus"), "74");
    assert_eq!(machine.property("chorus@n3", "SubState"), "failed", "it is not started again");
    told(machine, "n3", "the node stops, because what it says must be on disk");
    assert!(machine.sh("systemctl cat chorus@n3").contains("# 74: the disk failed or is full"));
    for node in others {
        machine.status(&format!("chorus@{node}"), |line| line.contains("2 of 3 voters heard"));
    }
    machine.sh("umount /var/lib/private/chorus/n3 && systemctl reset-failed chorus@n3");
}

fn data_outlives_a_removal_and_not_a_purge(machine: &Machine) {
    machine.sh("dpkg --remove chorus");
    let left = machine.sh("systemctl list-units --no-legend 'chorus@*'");
    assert!(!left.contains("running"), "{left}");
    machine.sh("test -f /var/lib/private/chorus/n1/log.db && test -f /etc/chorus/key/cluster.key");
    machine.sh("dpkg --purge chorus");
    machine.sh("test ! -e /var/lib/private/chorus && test ! -e /var/lib/chorus && test ! -e /etc/chorus");
}

/// Whether a node leads or follows, by its line of status.
fn takes_part(line: &str) -> bool {
    line.starts_with("leads in term ") || line.starts_with("follows ")
}

fn hears_all(line: &str) -> bool {
    line.contains("3 of 3 voters heard")
}

/// Waits until a node's journal, which is written by another process, has these words.
fn told(machine: &Machine, node: &str, words: &str) {
    wait_for(&format!("the journal of {node} to have: {words}"), || {
        machine.sh(&format!("journalctl --unit=chorus@{node}")).contains(words).then_some(())
    });
}

/// The leader, as the units' lines of status have it.
fn leader(machine: &Machine) -> String {
    wait_for("one of three to lead", || {
        ["n1", "n2", "n3"]
            .into_iter()
            .find(|node| machine.property(&format!("chorus@{node}"), "StatusText").starts_with("leads "))
            .map(str::to_owned)
    })
}

/// An answer with its head. A bare Debian has no client of HTTP but its shell.
fn get(machine: &Machine, port: u16, path: &str) -> String {
    ask(machine, port, &format!("GET {path} HTTP/1.0\\r\\nHost: 127.0.0.1:{port}\\r\\n\\r\\n"))
}

/// Puts; the index of the entry.
fn put(machine: &Machine, port: u16, key: &str, value: &str) -> u64 {
    let answer = put_by(machine, port, "", key, value);
    assert_eq!(status(&answer), "201", "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let body: Value = serde_json::from_str(body).expect("a pair as JSON");
    body["index"].as_u64().expect("its index")
}

/// The same with one more line in the request's head, or none; its answer. While nobody leads it is asked again, which
/// stores nothing twice.
fn put_by(machine: &Machine, port: u16, line: &str, key: &str, value: &str) -> String {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let id = REQUESTS.fetch_add(1, Ordering::Relaxed);
    let body = format!(r#"{{"value":"{value}"}}"#);
    let request = format!(
        "PUT /api/v1/store/{key} HTTP/1.0\\r\\nHost: 127.0.0.1:{port}\\r\\nContent-Type: application/json\\r\\n\
         Idempotency-Key: put-{id}\\r\\n{line}Content-Length: {}\\r\\n\\r\\n{body}",
        body.len()
    );
    wait_for("a leader who takes a value", || {
        let answer = ask(machine, port, &request);
        (!["503", "504"].contains(&status(&answer))).then_some(answer)
    })
}

/// The status of an answer.
fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

fn ask(machine: &Machine, port: u16, request: &str) -> String {
    let line = format!("exec 3<>/dev/tcp/127.0.0.1/{port} && printf '{request}' >&3 && timeout 20 cat <&3");
    said(machine.try_sh(&line), "a question over HTTP")
}
