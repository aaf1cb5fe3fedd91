//! Whether the nodes' pages can be reached from here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::reach::Reach;
use super::super::{Failure, web};
use super::station::Station;

/// How long a page may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// The pages of one node.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) node: String,
    pub(super) url: String,
    /// What kept them from being reached.
    pub(super) trouble: Option<String>,
}

/// Asks the pages of every node that said where they are.
pub(super) async fn try_all(reach: &Reach, stations: &[Station]) -> Result<Vec<Page>, Failure> {
    let neighbours = stations.iter().flat_map(|station| station.neighbours.values());
    let urls: BTreeMap<String, String> = neighbours
        .filter_map(|neighbour| {
            let told = neighbour.hello.as_ref().and_then(|hello| hello.public_url.clone());
            let url = told.or_else(|| neighbour.report.as_ref()?.url.clone())?;
            Some((neighbour.name.clone(), url))
        })
        .collect();
    let http = web::built(reach.client(ANSWER_WAIT, urls.values().map(String::as_str))?)?;
    let asked = urls.into_iter().map(async |(node, url)| {
        let answer = http.get(format!("{url}/livez")).send().await;
        let trouble = match answer {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answers {}", answer.status())),
            Err(error) if error.is_timeout() => Some("it does not answer in time".to_owned()),
            Err(_) => Some("nobody can be reached there".to_owned()),
        };
        Page { node, url, trouble }
    });
    Ok(futures_util::future::join_all(asked).await)
}
