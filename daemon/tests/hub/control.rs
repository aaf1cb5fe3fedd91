//! What a controller asks, and what it is answered.

use chorus::node::Ended;
use chorus_proto::message::{Ask, Done, Message, Report, Retrieve, Store};
use chorus_proto::types::{Index, NodeId};
use chorus_proto::wire::control::{ControlKey, Verb};

use super::cluster::{Cluster, control_key, request_id, wait_for};
use super::controller::Controller;

fn put(id: &str, key: &str, value: &str) -> Message {
    Message::Store(Store {
        request_id: request_id(id),
        repeated: false,
        term: None,
        command: None,
        parts: None,
        board: Some("store".to_owned()),
        op: Some("put".to_owned()),
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    })
}

#[tokio::test]
async fn every_node_answers_status_and_ping() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let reports = controller.status(3, "status").await;
    for (place, report) in reports.iter().enumerate() {
        assert_eq!(report.name, cluster.places[place].config.name);
        assert_eq!(report.role, if place == leader { "leader" } else { "follower" });
        assert_eq!(report.leader.as_ref(), Some(&cluster.places[leader].config.name));
        assert!(report.boot.is_some() && report.cluster.is_some() && report.voter);
        assert_eq!(report.pid, Some(std::process::id()));
    }
    controller.say(&Message::Ping(Ask { request_id: request_id("ping") }));
    let mut answered = Vec::new();
    while answered.len() < 3 {
        let opened = controller.hear().await;
        assert!(matches!(&opened.message, Message::Done(Done { result: Report::Obeyed { .. }, .. })));
        answered.push(opened.sender);
    }
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered.len(), 3);
}

#[tokio::test]
async fn the_leader_stores_and_shows_the_log_and_the_others_say_who_leads() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let mut informed = 0;
    let stored = controller
        .ask(&put("put-1", "colour", "green"), |opened| match opened.message {
            Message::LeaderInfo(info) => {
                assert_eq!(info.leader_name.as_ref(), Some(&cluster.places[leader].config.name));
                assert_eq!(info.request_id, Some(request_id("put-1")));
                informed += 1;
                None
            }
            Message::Done(done) => Some(done),
            other => panic!("{other:?}"),
        })
        .await;
    let Report::Stored { index, outcome } = stored.result.clone() else { panic!("{stored:?}") };
    assert_eq!(outcome, "created");
    // The leader answered last or not: the other two say so in any order.
    while informed < 2 {
        informed += u32::from(matches!(controller.hear().await.message, Message::LeaderInfo(_)));
    }
    // The same again is answered the same, and stored once.
    let again = controller
        .ask(&put("put-1", "colour", "green"), |opened| match opened.message {
            Message::Done(done) => Some(done),
            _ => None,
        })
        .await;
    assert_eq!(again, stored);

    let retrieve = Retrieve { request_id: request_id("log"), after: Index(0), limit: 100 };
    let log = controller
        .ask(&Message::Retrieve(retrieve), |opened| match opened.message {
            Message::Done(done) if done.request_id == request_id("log") => Some(done),
            _ => None,
        })
        .await;
    let Report::Log { entries, next, commit_index } = log.result else { panic!("{log:?}") };
    assert_eq!((entries[0].command.as_str(), entries[1].command.as_str()), ("founding", "noop"));
    let stored = entries.iter().filter(|line| line.board == "store").collect::<Vec<_>>();
    assert_eq!(stored.len(), 1);
    assert_eq!((stored[0].key.as_deref(), stored[0].value.as_deref()), (Some("colour"), Some("green")));
    assert_eq!(stored[0].index, index);
    assert_eq!((next, commit_index >= index), (None, true));
}

#[tokio::test]
async fn a_store_that_makes_no_sense_is_refused_by_name() {
    let cluster = Cluster::start(3, 0.0);
    cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let Message::Store(good) = put("x", "key", "value") else { panic!("a STORE") };
    for (id, store) in [
        ("board", Store { board: Some("nothing".to_owned()), ..good.clone() }),
        ("op", Store { op: Some("explode".to_owned()), ..good.clone() }),
        ("value", Store { value: None, ..good.clone() }),
    ] {
        let store = Store { request_id: request_id(id), ..store };
        let refused = controller
            .ask(&Message::Store(store), |opened| match opened.message {
                Message::Refused(refused) if refused.request_id == request_id(id) => Some(refused),
                Message::Done(done) => panic!("{done:?}"),
                _ => None,
            })
            .await;
        assert_eq!((refused.code.as_str(), refused.retry_ms), ("invalid", None), "{refused:?}");
    }
}

#[tokio::test]
async fn a_store_that_may_have_been_recorded_long_ago_is_refused_unless_its_id_tells_when_it_was_made() {
    let cluster = Cluster::start(1, 0.0);
    cluster.leader().await;
    let began = 1_700_000_000_000_000;
    let mut controller = Controller::begun(cluster.hub.join(), began);
    let answer = async |controller: &mut Controller, id: &str| {
        controller.ask(&put(id, "colour", "green"), answer_to(id)).await
    };
    let Message::Refused(refused) = answer(&mut controller, "a-name").await else { panic!("it was taken") };
    assert_eq!((refused.code.as_str(), refused.retry_ms), ("request_expired", None));
    let id = uuid::Uuid::now_v7().to_string();
    let stored = answer(&mut controller, &id).await;
    assert!(matches!(stored, Message::Done(_)), "{stored:?}");
    let mut begins_now = Controller::new(cluster.hub.join());
    let stored = answer(&mut begins_now, "a-name").await;
    assert!(matches!(stored, Message::Done(_)), "{stored:?}");
}

#[tokio::test]
async fn a_node_told_to_lead_leads_and_a_leader_told_to_follow_hands_over() {
    let cluster = Cluster::start_patient(3);
    let leader = cluster.leader().await;
    let chosen = (leader + 1) % 3;
    let mut controller = Controller::new(cluster.hub.join());
    let name = &cluster.places[chosen].config.name;
    let report = controller.report_of(3, name, "status").await;
    let (id, boot) = (node_id(&report.id), report.boot.expect("STATUS names the boot"));

    let command = control_key().sign(Verb::TryLead, id, boot, request_id("lead"));
    let done = controller.ask(&Message::TryLead(command.clone()), answer_to("lead")).await;
    assert!(matches!(done, Message::Done(_)), "{done:?}");
    assert_eq!(cluster.leader().await, chosen);
    // The same command again is answered the same and moves nothing.
    assert_eq!(controller.ask(&Message::TryLead(command), answer_to("lead")).await, done);

    let command = control_key().sign(Verb::Follow, id, boot, request_id("follow"));
    let done = controller.ask(&Message::Follow(command), answer_to("follow")).await;
    assert!(matches!(done, Message::Done(_)), "{done:?}");
    assert_ne!(cluster.leader().await, chosen);
}

#[tokio::test]
async fn a_learner_told_to_lead_says_at_once_that_it_does_not_vote() {
    let mut cluster = Cluster::prepare(2, 1, 0.0);
    cluster.run(0);
    cluster.run(1);
    assert_eq!(cluster.leader().await, 0);
    let mut controller = Controller::new(cluster.hub.join());
    wait_for("the learner to know who votes", || async {
        let view = cluster.handle(1).view.borrow().clone();
        view.nodes.iter().any(|node| node.name.as_str() == "n1" && node.voter).then_some(())
    })
    .await;
    let report = controller.report_of(2, &cluster.places[1].config.name, "status").await;
    let (id, boot) = (node_id(&report.id), report.boot.expect("STATUS names the boot"));
    let command = control_key().sign(Verb::TryLead, id, boot, request_id("lead"));
    let answer = controller.ask(&Message::TryLead(command), answer_to("lead")).await;
    let Message::Refused(refused) = answer else { panic!("{answer:?}") };
    assert_eq!((refused.code.as_str(), refused.retry_ms), ("not_a_voter", None));
    assert!(refused.detail.contains("`chorus members add n2` first"), "{refused:?}");
}

#[tokio::test]
async fn a_command_that_is_not_signed_for_this_start_is_not_obeyed() {
    let cluster = Cluster::start_patient(3);
    let leader = cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let report = controller.report_of(3, &cluster.places[leader].config.name, "status").await;
    let (id, boot) = (node_id(&report.id), report.boot.expect("STATUS names the boot"));
    let forged = ControlKey::new(&[66; 32]).sign(Verb::Shutdown, id, boot, request_id("forged"));
    let earlier =
        control_key().sign(Verb::Shutdown, id, chorus_proto::types::Boot(boot.0 - 1), request_id("earlier"));
    for (control, text, code) in [(forged, "forged", "bad_signature"), (earlier, "earlier", "wrong_boot")] {
        let answer = controller.ask(&Message::Shutdown(control), answer_to(text)).await;
        assert!(matches!(&answer, Message::Refused(refused) if refused.code == code), "{answer:?}");
    }
    let nobody = control_key().sign(Verb::Shutdown, NodeId(1), boot, request_id("nobody"));
    controller.say(&Message::Shutdown(nobody));
    assert!(controller.silence().await, "nobody feels meant");
    assert_eq!(cluster.leader().await, leader);
}

#[tokio::test]
async fn a_node_told_to_shut_down_answers_and_leaves() {
    let mut cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    let mut controller = Controller::new(cluster.hub.join());
    let report = controller.report_of(3, &cluster.places[leader].config.name, "status").await;
    let boot = report.boot.expect("STATUS names the boot");
    let command = control_key().sign(Verb::Shutdown, node_id(&report.id), boot, request_id("bye"));
    let answer = controller.ask(&Message::Shutdown(command), answer_to("bye")).await;
    assert!(matches!(answer, Message::Done(_)), "{answer:?}");
    let running = cluster.places[leader].running.take().expect("the node runs");
    assert_eq!(running.ended.await.expect("it says how it ended"), Ended::Shutdown);
    let rest = cluster.running();
    let next = cluster.leader_of(&rest).await;
    assert_ne!(next, leader);
    wait_for("the node that left is shown as dead", || async {
        let view = cluster.handle(next).view.borrow().clone();
        (view.nodes[leader].role == "dead").then_some(())
    })
    .await;
}

pub(crate) fn node_id(text: &str) -> NodeId {
    NodeId(u64::from_str_radix(text, 16).expect("16 hexadecimal digits"))
}

pub(crate) fn answer_to(text: &str) -> impl FnMut(chorus_proto::wire::Opened) -> Option<Message> {
    let wanted = request_id(text);
    move |opened| match &opened.message {
        Message::Done(Done { request_id, .. }) if *request_id == wanted => Some(opened.message),
        Message::Refused(refused) if refused.request_id == wanted => Some(opened.message),
        _ => None,
    }
}
