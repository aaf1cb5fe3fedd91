//! `bench reads`: pairs of the store by key, local or linearizable.

use bytes::Bytes;
use clap::Args;
use hyper::Method;
use serde::Deserialize;

use super::arena::Arena;
use super::kept;
use super::options::{Common, Consistency, Load, refused};
use super::progress::shown;
use super::report::Report;
use super::writer::Run;
use crate::cli::{Failure, controller};
use crate::load::{Acknowledged, Answer, Client, Connection};

/// Measure how fast pairs are read by key; every answer must be what was written
#[derive(Debug, Args)]
pub(super) struct Reads {
    /// What a read promises
    #[arg(long, value_enum, default_value_t = Consistency::Both)]
    consistency: Consistency,
    /// How many different pairs are read
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    keys: u64,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    pub(super) common: Common,
}

impl Reads {
    pub(super) fn both(load: &Load, common: &Common) -> Self {
        Self { consistency: Consistency::Both, keys: 100, load: load.clone(), common: common.clone() }
    }

    pub(super) async fn measure(self, arena: &Arena) -> Result<Vec<Report>, Failure> {
        let run = Run::new(controller::random()?, self.load.size);
        let written = kept::furnish(arena, &run, self.keys).await?;
        let mut reports = Vec::new();
        if self.consistency != Consistency::Linearizable {
            reports.push(self.read(arena, &run, &written, "local").await?);
        }
        if self.consistency != Consistency::Local {
            reports.push(self.read(arena, &run, &written, "linearizable").await?);
        }
        let check = kept::check_pairs(arena, &run, &written, &[]).await?;
        reports.iter_mut().for_each(|report| report.check = check.clone());
        kept::clean(arena, &run, self.keys, self.common.keep).await?;
        Ok(reports)
    }

    async fn read(
        &self,
        arena: &Arena,
        run: &Run,
        written: &Acknowledged,
        consistency: &'static str,
    ) -> Result<Report, Failure> {
        let chosen = arena.chosen(&self.load.nodes)?;
        let pairs: Vec<(String, u64, String)> = written
            .iter()
            .filter_map(|(key, index)| Some((key.to_owned(), index, run.value(run.number(key)?))))
            .collect();
        let pairs = std::sync::Arc::new(pairs);
        let mut readers = Vec::new();
        for k in 0..usize::from(self.load.clients) {
            let mut connection = Connection::to(&chosen[k % chosen.len()].url);
            connection.open().await.map_err(refused)?;
            // A local read may run ahead of what its node has applied of the pairs: it names the last of them.
            let query = match consistency {
                "local" => format!("consistency=local&min_index={}", written.last_index()),
                _ => "consistency=linearizable".to_owned(),
            };
            readers.push(Reader { connection, pairs: std::sync::Arc::clone(&pairs), query });
        }
        let (_, load) = shown(consistency, readers, self.load.until()).await;
        Ok(Report {
            bench: "reads",
            what: consistency.to_owned(),
            nodes: chosen.iter().map(|node| node.name.clone()).collect(),
            leader: arena.leader.clone(),
            cluster_nodes: arena.nodes.len(),
            clients: self.load.clients.into(),
            size: self.load.size,
            load,
            repeated: 0,
            more: Vec::new(),
            beside: Vec::new(),
            tables: Vec::new(),
            check: crate::load::Verdict::default(),
        })
    }
}

/// One client.
struct Reader {
    connection: Connection,
    /// Key, index and value of what was written.
    pairs: std::sync::Arc<Vec<(String, u64, String)>>,
    query: String,
}

#[derive(Deserialize)]
struct Pair<'a> {
    #[serde(borrow)]
    value: std::borrow::Cow<'a, str>,
    index: u64,
}

impl Client for Reader {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let which = usize::try_from(n).unwrap_or(usize::MAX) % self.pairs.len();
        let (key, index, value) = &self.pairs[which];
        let path = format!("/api/v1/store/{key}?{}", self.query);
        let answer: Answer =
            self.connection.ask(Method::GET, &path, None, None).await.map_err(|error| error.to_string())?;
        judge(&answer.body, *index, value).map_err(|why| format!("{path}: {} {why}", answer.status))
    }
}

/// What was read must be what was written.
fn judge(body: &Bytes, index: u64, value: &str) -> Result<(), String> {
    match serde_json::from_slice::<Pair<'_>>(body) {
        Ok(pair) if pair.index == index && pair.value == value => Ok(()),
        Ok(pair) => {
            Err(format!("is of entry {} with other contents, and entry {index} was written", pair.index))
        }
        Err(_) => Err(String::from_utf8_lossy(body).into_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_not_what_was_written_is_no_answer() {
        let body = Bytes::from_static(br#"{"key":"k","value":"v","index":7}"#);
        assert_eq!(judge(&body, 7, "v"), Ok(()));
        assert!(judge(&body, 8, "v").is_err(), "a later write");
        assert!(judge(&body, 7, "w").is_err(), "another value");
        assert!(
            judge(&Bytes::from_static(b"{\"code\":\"no_leader\"}"), 7, "v")
                .unwrap_err()
                .contains("no_leader")
        );
    }
}
