//! Playing dead, and coming back.

use std::time::{Duration, Instant};

use chorus::node::Ended;
use chorus_proto::message::{Ask, Done, Message, NodeReport};
use chorus_proto::wire::control::Verb;

use super::cluster::{Cluster, PATIENCE, control_key, quote, refusal, request_id};
use super::control::{answer_to, node_id};
use super::controller::Controller;

/// Commands this start of a node; what it answers.
async fn command(controller: &mut Controller, verb: Verb, report: &NodeReport, id: &str) -> Message {
    let boot = report.boot.expect("STATUS names the boot");
    let control = control_key().sign(verb, node_id(&report.id), boot, request_id(id));
    controller.ask(&verb.message(control), answer_to(id)).await
}

fn is_done(answer: &Message) -> bool {
    matches!(answer, Message::Done(_))
}

#[tokio::test]
async fn a_leader_that_plays_dead_serves_what_it_holds_and_nothing_that_needs_the_others() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    cluster.post(leader, "before", "said before").await;
    let mut controller = Controller::new(cluster.hub.join());
    let report = controller.report_of(3, &cluster.places[leader].config.name, "status").await;
    let answer = command(&mut controller, Verb::PlayDead, &report, "die").await;
    assert!(is_done(&answer), "{answer:?}");

    // Whoever was told sees it.
    let view = cluster.handle(leader).view.borrow().clone();
    assert_eq!((view.nodes[leader].role.as_str(), &view.leader), ("silent", &None));
    assert!(view.why.as_deref().is_some_and(|why| why.contains("plays dead")), "{view:?}");
    let refused = refusal(cluster.handle(leader).submit(quote("into-silence", "unheard")).await);
    assert_eq!(refused.code, "playing_dead");
    let read = cluster.handle(leader).read_index().await.expect_err("nobody confirms");
    assert_eq!(read.code, "playing_dead");
    assert_eq!(cluster.quotes(leader), ["said before"]);

    // It answers controllers, also to what only a leader does.
    let reports = controller.status(3, "again").await;
    assert_eq!((reports[leader].role.as_str(), &reports[leader].leader), ("silent", &None));
    controller.say(&Message::Ping(Ask { request_id: request_id("ping") }));
    for _ in 0..3 {
        assert!(is_done(&controller.hear().await.message));
    }
    let lead = command(&mut controller, Verb::TryLead, &report, "lead").await;
    assert!(matches!(&lead, Message::Refused(refused) if refused.code == "playing_dead"), "{lead:?}");
    let follow = command(&mut controller, Verb::Follow, &report, "follow").await;
    assert!(is_done(&follow), "{follow:?}");
    let twice = command(&mut controller, Verb::PlayDead, &report, "die-twice").await;
    assert!(is_done(&twice), "{twice:?}");

    // The others go on without it, and it does not notice.
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    let next = cluster.leader_of(&others).await;
    cluster.post(next, "meanwhile", "said meanwhile").await;
    assert_eq!(cluster.quotes(leader), ["said before"]);
    let silent = &cluster.places[leader].metrics.text();
    assert!(silent.contains("chorus_role{role=\"silent\"} 1"), "{silent}");

    let answer = command(&mut controller, Verb::Revive, &report, "live").await;
    assert!(is_done(&answer), "{answer:?}");
    let again = cluster.leader().await;
    cluster.post(leader, "after", "said after").await;
    assert_eq!(cluster.agree(&[0, 1, 2]).await, ["said before", "said meanwhile", "said after"]);
    assert!(again != leader || cluster.handle(leader).view.borrow().term > view.term, "the old term is over");
    let answer = command(&mut controller, Verb::Revive, &report, "live-twice").await;
    assert!(is_done(&answer), "{answer:?}");
}

#[tokio::test]
async fn what_waits_at_a_leader_that_falls_silent_is_not_acknowledged_before_it_is_committed() {
    // It must not step down, for want of the others, before it falls silent.
    let mut cluster = Cluster::start_patient(3);
    let leader = cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let report = controller.report_of(3, &cluster.places[leader].config.name, "status").await;
    let others: Vec<usize> = (0..3).filter(|place| *place != leader).collect();
    // Nobody else takes the entry, so that it cannot be committed; a read waits for a round that nobody answers.
    for place in &others {
        cluster.stop(*place).await;
    }
    // Looked at now: the first report may be from before the leader's own first entry.
    let wanted = controller.status(1, "before").await[0].last_index.0 + 1;
    let handle = cluster.handle(leader).clone();
    let post = tokio::spawn({
        let handle = handle.clone();
        async move { handle.submit(quote("lonely", "unheard")).await }
    });
    let read = tokio::spawn(async move { handle.read_index().await });
    let began = Instant::now();
    while controller.status(1, "look").await[0].last_index.0 < wanted {
        assert!(began.elapsed() < PATIENCE, "the entry is not on the leader's disk");
    }
    let answer = command(&mut controller, Verb::PlayDead, &report, "die").await;
    assert!(is_done(&answer), "{answer:?}");
    let read = read.await.expect("the task ends").expect_err("a read that nobody confirmed");
    assert_eq!(read.code, "playing_dead");
    let refused = refusal(post.await.expect("the task ends"));
    assert_eq!(refused.code, "outcome_unknown", "it left, and may yet come round");
    // The others have not heard of it: it is cut when the three meet again, and the same id may be tried again.
    for place in &others {
        cluster.run(*place);
    }
    let next = cluster.leader_of(&others).await;
    cluster.post(next, "other", "said instead").await;
    let answer = command(&mut controller, Verb::Revive, &report, "live").await;
    assert!(is_done(&answer), "{answer:?}");
    cluster.post(leader, "lonely", "unheard").await;
    assert_eq!(cluster.agree(&[0, 1, 2]).await, ["said instead", "unheard"]);
}

#[tokio::test]
async fn only_a_node_that_allows_it_plays_dead_and_a_restart_ends_it() {
    let mut cluster = Cluster::prepare(3, 3, 0.0);
    cluster.places[0].config.allow_playdead = false;
    (0..3).for_each(|place| cluster.run(place));
    cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let reports = controller.status(3, "status").await;
    let answer = command(&mut controller, Verb::PlayDead, &reports[0], "refused").await;
    assert!(matches!(&answer, Message::Refused(refused) if refused.code == "not_allowed"), "{answer:?}");
    let again = command(&mut controller, Verb::PlayDead, &reports[0], "refused").await;
    assert_eq!(again, answer, "the same is answered the same");
    assert_ne!(controller.status(3, "look").await[0].role, "silent");

    let answer = command(&mut controller, Verb::PlayDead, &reports[1], "die").await;
    assert!(is_done(&answer), "{answer:?}");
    assert_eq!(controller.status(3, "dead").await[1].role, "silent");
    assert_eq!(cluster.stop(1).await, Ended::Stopped);
    cluster.run(1);
    cluster.leader().await;
    assert_ne!(controller.status(3, "alive").await[1].role, "silent");
}

#[tokio::test]
async fn a_node_that_leaves_says_so_more_than_once() {
    // Its farewell lasts 300 ms: a machine that stands still now and then may cut one or two short.
    let mut said: Vec<usize> = Vec::new();
    while said.len() < 3 && said.iter().all(|times| *times < 3) {
        said.push(farewells().await);
    }
    assert!(said.iter().any(|times| *times >= 3), "once is not enough where datagrams are lost: {said:?}");
}

/// How often a node that leaves says so, after the first time.
async fn farewells() -> usize {
    let mut cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let reports = controller.status(3, "status").await;
    let answer = command(&mut controller, Verb::Shutdown, &reports[0], "bye").await;
    assert!(is_done(&answer), "{answer:?}");
    let running = cluster.places[0].running.take().expect("the node runs");
    assert_eq!(running.ended.await.expect("it says how it ended"), Ended::Shutdown);
    let mut said = 0;
    while let Ok(opened) = tokio::time::timeout(Duration::from_millis(100), controller.hear()).await {
        let bye = request_id("bye");
        said += usize::from(
            matches!(&opened.message, Message::Done(Done { request_id, .. }) if *request_id == bye),
        );
    }
    said
}
