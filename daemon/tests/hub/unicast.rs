//! What goes by unicast when the group does not carry: by itself, and no longer than it must.

use super::cluster::{Cluster, wait_for};

/// Group messages that place has sent again by unicast.
fn copies(cluster: &Cluster, place: usize) -> u64 {
    cluster.places[place].metrics.unicast_copies.get()
}

fn all_copies(cluster: &Cluster) -> u64 {
    (0..cluster.places.len()).map(|place| copies(cluster, place)).sum()
}

/// Posts, and asserts that it costs no copies while the group reaches everybody. Whoever misses its leader is to get some:
/// so campaigns are counted before copies, and after them.
async fn nobody_gets_copies(cluster: &Cluster, leader: usize, posts: usize) {
    let before = campaigns(cluster);
    heard_by(cluster, "multicast").await;
    wait_for("nobody gets copies", || async {
        let to = |place: usize| cluster.places[place].metrics.unicast_copies_to.get();
        (0..5).all(|place| to(place) == 0).then_some(())
    })
    .await;
    let copied = all_copies(cluster);
    for number in 0..posts {
        cluster.post((leader + number) % 5, &format!("q{number}"), "over the group").await;
    }
    cluster.agree(&[0, 1, 2, 3, 4]).await;
    let copied = all_copies(cluster) - copied;
    assert!(copied == 0 || campaigns(cluster) != before, "{copied} copies while the group reached everybody");
}

/// How often a node has missed its leader so far: it doubts the leader's multicast then, and gets copies for a moment.
fn campaigns(cluster: &Cluster) -> u64 {
    cluster.places.iter().map(|place| place.metrics.elections.get()).sum()
}

/// Waits until each place says of each other that it is heard this way.
async fn heard_by(cluster: &Cluster, way: &str) {
    wait_for(&format!("everybody is heard by {way}"), || async {
        let heard = |place: usize| {
            let view = cluster.handle(place).view.borrow().clone();
            let others = view.nodes.iter().filter(|node| Some(&node.name) != view.node.as_ref());
            others.map(|node| node.heard_by.clone()).collect::<Vec<_>>()
        };
        (0..cluster.places.len())
            .flat_map(heard)
            .all(|heard_by| heard_by.as_deref() == Some(way))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn nothing_is_sent_twice_while_the_group_reaches_everybody() {
    let cluster = Cluster::start(5, 0.0);
    let leader = cluster.leader().await;
    nobody_gets_copies(&cluster, leader, 50).await;
}

#[tokio::test]
async fn a_group_that_dies_and_comes_back_costs_no_term() {
    let cluster = Cluster::start_patient(5);
    let leader = cluster.leader().await;
    cluster.post(leader, "before", "over the group").await;
    heard_by(&cluster, "multicast").await;
    let term = cluster.handle(leader).view.borrow().term;
    let all = cluster.addresses();
    cluster.cut_group(&all, &all, true);
    let follower = (leader + 1) % 5;
    cluster.post(follower, "meanwhile", "by unicast").await;
    heard_by(&cluster, "unicast").await;
    cluster.leader().await;
    let later = cluster.handle(leader).view.borrow().term;
    assert!(later <= term + 1, "from term {term} to {later}");
    assert!(all_copies(&cluster) > 0);
    cluster.cut_group(&all, &all, false);
    nobody_gets_copies(&cluster, leader, 20).await;
    assert_eq!(cluster.agree(&[0, 1, 2, 3, 4]).await.len(), 22);
}

#[tokio::test]
async fn a_follower_that_the_group_does_not_reach_follows_by_copies_alone() {
    let cluster = Cluster::start_patient(3);
    let leader = cluster.leader().await;
    heard_by(&cluster, "multicast").await;
    let term = cluster.handle(leader).view.borrow().term;
    let deaf = (leader + 1) % 3;
    cluster.cut_group(&cluster.addresses(), &cluster.addresses()[deaf..=deaf], true);
    for number in 0..20 {
        cluster.post(deaf, &format!("q{number}"), "one does not hear the group").await;
    }
    assert_eq!(cluster.agree(&[0, 1, 2]).await.len(), 20);
    // Before it misses its leader it may hold all of it already, by repairs.
    wait_for("the leader to send copies", || async { (copies(&cluster, leader) > 0).then_some(()) }).await;
    assert_eq!(cluster.leader().await, leader, "nobody else missed it");
    assert_eq!(cluster.handle(leader).view.borrow().term, term);
    let name = cluster.places[leader].config.name.clone();
    wait_for("it to tell that it hears the leader by unicast alone", || async {
        let view = cluster.handle(deaf).view.borrow().clone();
        let told = view.nodes.iter().find(|node| Some(&node.name) == view.node.as_ref()).expect("itself");
        told.unicast_only.contains(&name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_leader_whose_words_to_the_group_are_lost_does_not_end_the_writing() {
    let cluster = Cluster::start(3, 0.0);
    let leader = cluster.leader().await;
    heard_by(&cluster, "multicast").await;
    cluster.cut_group(&cluster.addresses()[leader..=leader], &cluster.addresses(), true);
    for number in 0..20 {
        cluster.post((leader + 1) % 3, &format!("q{number}"), "the leader is mute").await;
    }
    assert_eq!(cluster.agree(&[0, 1, 2]).await.len(), 20);
    // Whether it still leads or not: the others get what it says.
    let copies_to = &cluster.places[leader].metrics.unicast_copies_to;
    wait_for("the mute one sends copies to both", || async { (copies_to.get() == 2).then_some(()) }).await;
}

#[tokio::test]
async fn nodes_that_know_nothing_but_their_peers_found_elect_and_outlive_a_leader() {
    let mut cluster = Cluster::prepare(3, 3, 0.0);
    let addresses = cluster.hub.next_addresses(3);
    cluster.cut_group(&addresses, &addresses, true);
    for place in 0..3 {
        cluster.places[place].config.peers.clone_from(&addresses);
        cluster.run(place);
    }
    let leader = cluster.leader().await;
    for place in 0..3 {
        cluster.post(place, &format!("by-{place}"), "without any multicast").await;
    }
    cluster.stop(leader).await;
    let rest = cluster.running();
    cluster.post(rest[0], "after", "without the first leader").await;
    assert_eq!(cluster.agree(&rest).await.len(), 4);
}
