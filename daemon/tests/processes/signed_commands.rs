//! What only the control key may say: commands that it did not say, or said to an earlier start, or said once already,
//! move nothing, and stand in the log.

use chorus_proto::message::{Control, MemberChange, Message, NodeReport};
use chorus_proto::types::{Boot, NodeId, RequestId};
use chorus_proto::wire::control::{ControlKey, Verb};

use crate::client::dropped;
use crate::cluster::Cluster;
use crate::playdead::allowed;
use crate::voice::{Voice, key, request_id};
use crate::wait::wait_for;

const VERBS: [Verb; 6] =
    [Verb::Follow, Verb::TryLead, Verb::PlayDead, Verb::Revive, Verb::Members, Verb::Shutdown];

/// A command of that verb. MEMBERS takes the vote of a node that has none: it is done as soon as it is obeyed.
fn sign(key: &ControlKey, verb: Verb, id: NodeId, boot: Boot, request_id: RequestId) -> Control {
    match verb {
        Verb::Members => key.sign_change(id, boot, request_id, removal("n9")),
        _ => key.sign(verb, id, boot, request_id),
    }
}

fn removal(name: &str) -> MemberChange {
    MemberChange { add: false, name: name.parse().expect("a name"), node: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_altered_or_unsigned_command_is_refused_and_logged() {
    let cluster = Cluster::start_with(3, allowed().calm()).await;
    let leader = cluster.leader().await;
    let mut voice = Voice::new(&cluster, 0xBAD);
    let control_key = ControlKey::new(&key(&cluster.control_key_file()));
    let stranger = ControlKey::new(&[66; 32]);
    // The leader has something to lose by any of them; a follower could only gain.
    for target in [leader, cluster.others(leader)[0]] {
        let report = voice.report(cluster.name(target));
        let (id, boot) = id_and_boot(&report);
        for verb in VERBS {
            let name = |what: &str| request_id(&format!("{what}-{}-{target}", verb.name()));
            let good = |what: &str| sign(&control_key, verb, id, boot, name(what));
            let change = good("change").change;
            let other_verb = if verb == Verb::Follow { Verb::TryLead } else { Verb::Follow };
            let other_verb = |what: &str| Control {
                change: change.clone(),
                ..control_key.sign(other_verb, id, boot, name(what))
            };
            let mut wrong = vec![
                (sign(&stranger, verb, id, boot, name("stranger")), "bad_signature"),
                (Control { signature: vec![0; 64], ..good("unsigned") }, "bad_signature"),
                (other_verb("other-verb"), "bad_signature"),
                (Control { request_id: name("renamed"), ..good("signed-as-another") }, "bad_signature"),
                (
                    Control { target: id, ..sign(&control_key, verb, NodeId(7), boot, name("redirected")) },
                    "bad_signature",
                ),
                (
                    Control { target_boot: boot, ..sign(&control_key, verb, id, Boot(1), name("moved")) },
                    "bad_signature",
                ),
                (sign(&control_key, verb, id, Boot(boot.0 - 1), name("earlier")), "wrong_boot"),
                (sign(&control_key, verb, id, Boot(boot.0 + 1), name("later")), "wrong_boot"),
            ];
            if verb == Verb::Members {
                let altered = Control { change: Some(removal("n2")), ..good("altered") };
                wrong.push((altered, "bad_signature"));
            }
            for (control, code) in wrong {
                let asked = control.request_id.clone();
                let datagram = voice.seal(&verb.message(control));
                voice.send_to_group(&datagram);
                let Message::Refused(refused) = voice.answer() else { panic!("{asked:?} was obeyed") };
                assert_eq!((&refused.request_id, refused.code.as_str()), (&asked, code));
                let words = [verb.name(), asked.as_str(), "refused", code];
                assert_eq!(lines(&cluster, target, &words), 1, "{words:?} stands in the log");
            }
            // What cannot be a signature is no message: dropped before anybody asks what it wants, and counted.
            let before = dropped(&cluster.client(target)).await["malformed"];
            let datagram = voice.seal(&verb.message(Control { signature: Vec::new(), ..good("bare") }));
            voice.send_to_group(&datagram);
            wait_for("it to be dropped", async || {
                (dropped(&cluster.client(target)).await["malformed"] > before).then_some(())
            })
            .await;
        }
    }
    assert_eq!(lines(&cluster, leader, &["obeys a command"]), 0);
    assert_eq!(cluster.leader().await, leader, "nothing was moved");
    for k in 0..cluster.len() {
        assert_ne!(voice.report(cluster.name(k)).role, "silent");
    }
    wait_for("the drops to be told", async || {
        (lines(&cluster, leader, &["dropped datagrams", "malformed"]) > 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_command_is_obeyed_once_also_after_the_targets_restart() {
    let mut cluster = Cluster::start_with(3, allowed().calm()).await;
    let target = cluster.leader().await;
    let name = cluster.name(target).to_owned();
    let mut voice = Voice::new(&cluster, 0x600D);
    let control_key = ControlKey::new(&key(&cluster.control_key_file()));
    let report = voice.report(&name);
    let (id, boot) = id_and_boot(&report);
    let mut recorded = Vec::new();
    for verb in VERBS {
        let control = sign(&control_key, verb, id, boot, request_id(verb.name()));
        let datagram = voice.seal(&verb.message(control.clone()));
        voice.send_to_group(&datagram);
        let Message::Done(done) = voice.answer() else { panic!("{} was not obeyed", verb.name()) };
        assert_eq!(done.request_id.as_str(), verb.name());
        if verb != Verb::Shutdown {
            // The very bytes again, from elsewhere: heard by all, and dropped by all.
            let before = dropped(&cluster.client(target)).await["replay"];
            Voice::new(&cluster, 0xE7E).send_to_group(&datagram);
            wait_for("the replay to be dropped", async || {
                (dropped(&cluster.client(target)).await["replay"] > before).then_some(())
            })
            .await;
            // Sealed anew by somebody with the secret: answered the same, and nothing is done.
            let mut thief = Voice::new(&cluster, 0x1000 + recorded.len() as u64);
            let again = thief.seal(&verb.message(control.clone()));
            thief.send_to_group(&again);
            assert_eq!(thief.answer(), Message::Done(done), "a repeated command is answered the same");
        }
        assert_eq!(lines(&cluster, target, &["obeys a command", verb.name()]), 1);
        assert_eq!(lines(&cluster, target, &["has ended", verb.name(), "done"]), 1);
        recorded.push((verb, control, datagram));
    }
    assert_eq!(cluster.wait_gone(target).await, Some(0));

    cluster.spawn(target);
    let leader = cluster.leader().await;
    cluster.settled().await;
    let now = voice.report(&name);
    assert_ne!(now.boot, Some(boot), "another start");
    // Who replays hears the answers, if any: the target answers the address that the bytes come from.
    let mut replayer = Voice::new(&cluster, 0xE7E2);
    for (verb, control, datagram) in &recorded {
        let signed_again = replayer.seal(&verb.message(control.clone()));
        for bytes in [datagram, &signed_again] {
            let before = lines(&cluster, target, &["has ended", verb.name(), "refused", "wrong_boot"]);
            replayer.send_to_group(bytes);
            wait_for("the earlier start's command to be refused", async || {
                let after = lines(&cluster, target, &["has ended", verb.name(), "refused", "wrong_boot"]);
                (after == before + 1).then_some(())
            })
            .await;
        }
    }
    for verb in VERBS {
        assert_eq!(lines(&cluster, target, &["obeys a command", verb.name()]), 1, "before, and never again");
    }
    assert_eq!(cluster.leader().await, leader, "nothing was moved");
    assert_ne!(voice.report(&name).role, "silent");
    cluster.client(target).quote("after", "Ada", "Still here.").await;
}

fn id_and_boot(report: &NodeReport) -> (NodeId, Boot) {
    let id = u64::from_str_radix(&report.id, 16).expect("16 hexadecimal digits");
    (NodeId(id), report.boot.expect("STATUS names the boot"))
}

/// How many lines of a node's log have all these words.
fn lines(cluster: &Cluster, k: usize, words: &[&str]) -> usize {
    let talk = cluster.talk(k);
    talk.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}
