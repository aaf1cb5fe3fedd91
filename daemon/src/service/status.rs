//! One line that says how a node is, for `systemctl status`.

use crate::node::ClusterView;

/// How this node is, as far as it knows.
pub(super) fn line(view: &ClusterView, applied_index: u64) -> String {
    let own = view.nodes.iter().find(|node| Some(&node.name) == view.node.as_ref());
    let role = own.map_or("", |own| own.role.as_str());
    let why = view.why.as_deref();
    if role == "silent" {
        return "plays dead until revive or a restart".to_owned();
    }
    if view.cluster.is_empty() {
        return format!("no cluster: {}", why.unwrap_or("nothing was heard yet"));
    }
    let Some(leader) = &view.leader else {
        return format!("no leader in term {}: {}", view.term, why.unwrap_or("an election is under way"));
    };
    let (voters, heard) = view
        .nodes
        .iter()
        .filter(|node| node.voter)
        .fold((0, 0), |(voters, heard), node| (voters + 1, heard + u32::from(node.role != "dead")));
    let doing = match role {
        "leader" => "leads".to_owned(),
        "learner" => format!("learner of {leader}"),
        _ => format!("follows {leader}"),
    };
    let place = format!("{doing} in term {}, {heard} of {voters} voters heard", view.term);
    let applied = format!("applied {applied_index} of {}", view.commit_index);
    let parts = [Some(place.as_str()), Some(applied.as_str()), why];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use chorus_proto::message::NodeReport;

    use super::*;

    fn view(role: &str) -> ClusterView {
        let node = |name: &str, role: &str| NodeReport {
            role: role.to_owned(),
            ..NodeReport::unheard(name.parse().unwrap(), String::new())
        };
        ClusterView {
            cluster: "01".repeat(16),
            epoch: 1,
            node: Some("n2".parse().unwrap()),
            leader: Some("n3".parse().unwrap()),
            term: 7,
            commit_index: 12,
            why: None,
            nodes: vec![node("n1", "dead"), node("n2", role), node("n3", "leader")],
            links: Vec::new(),
        }
    }

    #[test]
    fn a_follower_says_whom_it_follows_and_how_far_it_is() {
        assert_eq!(
            line(&view("follower"), 11),
            "follows n3 in term 7, 2 of 3 voters heard; applied 11 of 12"
        );
    }

    #[test]
    fn a_leader_leads() {
        let mut view = view("leader");
        view.leader.clone_from(&view.node);
        assert!(line(&view, 12).starts_with("leads in term 7, "), "{}", line(&view, 12));
    }

    #[test]
    fn what_is_missing_is_said() {
        let why = Some("heard 1 of 3 voters; missing n1, n3".to_owned());
        let alone = ClusterView { leader: None, why: why.clone(), ..view("candidate") };
        assert_eq!(line(&alone, 1), "no leader in term 7: heard 1 of 3 voters; missing n1, n3");
        let new = ClusterView { cluster: String::new(), ..alone };
        assert_eq!(line(&new, 0), "no cluster: heard 1 of 3 voters; missing n1, n3");
    }

    #[test]
    fn what_a_node_suffers_from_is_said_beside_its_leader() {
        let ill = ClusterView { why: Some("applying stops here: upgrade me".to_owned()), ..view("follower") };
        assert!(line(&ill, 3).ends_with("applied 3 of 12; applying stops here: upgrade me"));
    }
}
