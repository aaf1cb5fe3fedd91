//! The stack of `compose`: started from nothing, hurt, healed, taken down and started again.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use crate::engine::{self, Engine, said, wait_for};
use crate::image;
use crate::pages::Pages;
use crate::program::house;
use crate::python::python;

/// The nodes and their ports on this machine.
const NODES: [(&str, u16); 5] = [("n1", 8_000), ("n2", 8_001), ("n3", 8_002), ("n4", 8_003), ("n5", 8_004)];

#[test]
fn five_containers_found_a_cluster_and_keep_every_quote_through_a_kill_a_cut_and_a_restart() {
    let test =
        "stack::five_containers_found_a_cluster_and_keep_every_quote_through_a_kill_a_cut_and_a_restart";
    engine::with_networks(test, |engine| {
        image::build(&engine);
        image::is_as_promised(&engine);
        let stack = Stack::new(&engine);
        five_found_a_cluster(&stack);
        let mut quotes = Vec::new();
        a_quote_at_each_port_is_on_every_page(&stack, &mut quotes);
        a_killed_leader_is_started_again(&stack, &mut quotes);
        a_node_that_was_cut_off_catches_up(&stack, &mut quotes);
        the_controller_commands(&stack);
        down_and_up_keep_the_data(&stack, &quotes);
        stack.compose("five", &["down", "--volumes"]);
        three_and_one_start_too(&stack);
        image::is_ready_at_once(&engine, &stack.keys());
    });
}

#[test]
fn compose_of_both_generations_takes_the_file_in_every_profile() {
    for profile in ["five", "three", "lan"] {
        let env = format!("compose/{profile}.env");
        let loaded = Command::new("docker-compose")
            .args([
                "--file",
                "compose/compose.yaml",
                "--env-file",
                &env,
                "--profile",
                profile,
                "config",
                "--quiet",
            ])
            .current_dir(house())
            .output();
        said(loaded.expect("Debian's docker-compose"), profile);
    }
    // What version 2 takes, by a library of its specification.
    let here = house().join("daemon/tests/engine");
    let read = Command::new(python("compose-venv", &here.join("requirements.txt")))
        .args([here.join("specification.py"), house().join("compose/compose.yaml")])
        .output();
    let services = said(read.expect("python runs"), "the specification of compose");
    assert_eq!(services.trim(), "controller n1 n2 n3 n4 n5 node");
}

fn five_found_a_cluster(stack: &Stack<'_>) {
    let begun = Instant::now();
    stack.compose("five", &["up", "--detach"]);
    let leader = stack.leader(&NODES);
    println!("measured: five containers from nothing to a leader: {:?}, {leader} leads", begun.elapsed());
    for (_, port) in NODES {
        let page = stack.pages.get(port, "/").expect("a page");
        assert!(page.status == 200 && page.text.contains("<form"), "{page:?}");
    }
}

fn a_quote_at_each_port_is_on_every_page(stack: &Stack<'_>, quotes: &mut Vec<String>) {
    for (node, port) in NODES {
        stack.post(port, &format!("Posted at {node}."), quotes);
    }
    stack.shows_everywhere(quotes);
}

fn a_killed_leader_is_started_again(stack: &Stack<'_>, quotes: &mut Vec<String>) {
    let leader = stack.leader(&NODES);
    let (_, other) = NODES.into_iter().find(|(node, _)| *node != leader).expect("five have a follower");
    let before = stack.state(&leader, "Pid");
    let begun = Instant::now();
    said(Command::new("kill").args(["-KILL", &before]).output().expect("kill runs"), "kill");
    stack.post(other, "While the leader was dead.", quotes);
    println!("measured: kill -9 of the leader's container, to the next stored quote: {:?}", begun.elapsed());
    wait_for("the engine to start the leader again", || {
        let now = stack.state(&leader, "Pid");
        (now != "0" && now != before).then_some(())
    });
    stack.shows_everywhere(quotes);
    wait_for("the engine to find it healthy", || {
        (stack.state(&leader, "Health.Status") == "healthy").then_some(())
    });
}

fn a_node_that_was_cut_off_catches_up(stack: &Stack<'_>, quotes: &mut Vec<String>) {
    let leader = stack.leader(&NODES);
    let (cut, port) =
        NODES.into_iter().rev().find(|(node, _)| *node != leader).expect("five have a follower");
    let (_, other) = NODES.into_iter().find(|(node, _)| *node != cut).expect("five have others");
    let (network, container) = (stack.network("wire"), stack.container(cut));
    stack.engine.docker(&["network", "disconnect", &network, &container]);
    wait_for("the node to miss its leader", || {
        stack.pages.json(port, "/api/v1/cluster")?["leader"].is_null().then_some(())
    });
    let refused = stack.pages.post_quote(port, "Nobody hears this.").expect("its page is there");
    assert!(refused.status == 503 && refused.text.contains("no_leader"), "{refused:?}");
    stack.post(other, "While one was cut off.", quotes);
    let address = format!("10.213.77.1{}", &cut[1..]);
    let begun = Instant::now();
    stack.engine.docker(&["network", "connect", "--ip", &address, &network, &container]);
    stack.shows_everywhere(quotes);
    println!(
        "measured: a container that is connected again shows what it missed after {:?}",
        begun.elapsed()
    );
}

fn the_controller_commands(stack: &Stack<'_>) {
    let leader = stack.leader(&NODES);
    let (next, _) = NODES.into_iter().find(|(node, _)| *node != leader).expect("five have a follower");
    // It may lose an election; the command then says so, and may be given again.
    wait_for("the node to lead", || {
        let command = ["exec", "-T", "controller", "/chorus", "trylead", next];
        let obeyed = stack.try_compose("five", &command).status.success();
        (obeyed && stack.leader(&NODES) == next).then_some(())
    });
    let said = stack.compose("five", &["logs", "--no-color", "controller"]);
    assert!(said.contains("`help` lists the verbs"), "its shell waits at its prompt: {said}");
    assert_eq!(stack.state("controller", "Status"), "running");
}

fn down_and_up_keep_the_data(stack: &Stack<'_>, quotes: &[String]) {
    let begun = Instant::now();
    stack.compose("five", &["down"]);
    println!("measured: the stack is down after {:?}", begun.elapsed());
    stack.compose("five", &["up", "--detach"]);
    stack.leader(&NODES);
    stack.shows_everywhere(quotes);
}

/// The other profiles: three nodes, and one in the machine's own network.
fn three_and_one_start_too(stack: &Stack<'_>) {
    stack.compose("three", &["up", "--detach"]);
    stack.leader(&NODES[..3]);
    stack.compose("three", &["down", "--volumes"]);
    let env = "NAME=n1\nVOTERS=n1\nINTERFACE=127.0.0.1\nHOST=127.0.0.1\n";
    std::fs::write(stack.home.path().join("compose/lan.env"), env).expect("a file below target");
    stack.compose("lan", &["up", "--detach"]);
    stack.leader(&NODES[..1]);
    stack.compose("lan", &["down", "--volumes"]);
}

/// A copy of `compose` with keys of its own.
struct Stack<'a> {
    engine: &'a Engine,
    pages: Pages,
    home: tempfile::TempDir,
}

impl<'a> Stack<'a> {
    fn new(engine: &'a Engine) -> Self {
        let home = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory below target");
        let copied = Command::new("cp").arg("-r").arg(house().join("compose")).arg(home.path()).output();
        said(copied.expect("cp runs"), "cp");
        Self { engine, pages: Pages::new(), home }
    }

    fn keys(&self) -> PathBuf {
        self.home.path().join("compose/key")
    }

    /// What `./compose/cluster PROFILE ARGS` prints; it must succeed.
    fn compose(&self, profile: &str, args: &[&str]) -> String {
        said(self.try_compose(profile, args), &format!("compose/cluster {profile} {}", args.join(" ")))
    }

    fn try_compose(&self, profile: &str, args: &[&str]) -> Output {
        let mut cluster = self.engine.client(self.home.path().join("compose/cluster"));
        cluster.arg(profile).args(args).env("IMAGE", image::NAME).env("COMPOSE_PROJECT_NAME", "stack");
        cluster.output().expect("sh runs")
    }

    fn container(&self, service: &str) -> String {
        self.compose("five", &["ps", "--quiet", service]).trim().to_owned()
    }

    fn network(&self, name: &str) -> String {
        format!("stack_{name}")
    }

    /// A part of what the engine says of a container's state.
    fn state(&self, service: &str, part: &str) -> String {
        let format = format!("{{{{.State.{part}}}}}");
        self.engine.docker(&["inspect", &self.container(service), "--format", &format]).trim().to_owned()
    }

    /// The leader, once all of these nodes follow the same.
    fn leader(&self, nodes: &[(&str, u16)]) -> String {
        wait_for("one leader of all", || {
            let leader =
                |port: u16| Some(self.pages.json(port, "/api/v1/cluster")?["leader"].as_str()?.to_owned());
            let leaders: Option<Vec<String>> = nodes.iter().map(|(_, port)| leader(*port)).collect();
            let mut leaders = leaders?;
            leaders.dedup();
            if leaders.len() == 1 { leaders.pop() } else { None }
        })
    }

    /// Posts until it is stored, once: a node whose leader is gone says that it has none, or cannot say what became of
    /// the quote.
    fn post(&self, port: u16, text: &str, quotes: &mut Vec<String>) {
        wait_for("a quote to be stored", || {
            let answer = self.pages.post_quote(port, text)?;
            let again = ["no_leader", "outcome_unknown", "catching_up"];
            let again = again.iter().any(|code| answer.text.contains(code));
            assert!(answer.status == 201 || again, "{answer:?}");
            (answer.status == 201).then_some(())
        });
        quotes.push(text.to_owned());
    }

    /// Waits until every node has exactly these, in this order, and looks at its page.
    fn shows_everywhere(&self, quotes: &[String]) {
        for (node, port) in NODES {
            let mut last = Vec::new();
            wait_for(&format!("{node} to have {quotes:?}"), || {
                let told = self.pages.json(port, "/api/v1/quotes?limit=500")?;
                let items = told["items"].as_array().expect("items");
                last =
                    items.iter().rev().filter_map(|item| item["text"].as_str().map(str::to_owned)).collect();
                (last == quotes).then_some(())
            });
            let page = self.pages.get(port, "/").expect("a page");
            let missing: Vec<&String> = quotes.iter().filter(|text| !page.text.contains(*text)).collect();
            assert!(missing.is_empty(), "the page of {node} lacks {missing:?}");
        }
    }
}

impl Drop for Stack<'_> {
    fn drop(&mut self) {
        // Also after a failure, so that nothing starts with the next engine.
        let _gone = self
            .engine
            .client(self.home.path().join("compose/cluster"))
            .args(["five", "down", "--volumes", "--timeout", "1"])
            .env("COMPOSE_PROJECT_NAME", "stack")
            .output();
    }
}
