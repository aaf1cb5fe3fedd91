//! `bench writes`: pairs put by HTTP, or quotes posted by websocket.

use clap::{Args, ValueEnum};

use super::arena::Arena;
use super::kept;
use super::options::{Common, Load, refused};
use super::progress::shown;
use super::report::Report;
use super::socket::{Poster, Texts};
use super::writer::{Run, Writer};
use crate::cli::{Failure, controller};
use crate::load::Acknowledged;

/// Measure how fast writes are acknowledged, each by its node once that has applied it
#[derive(Debug, Args)]
pub(super) struct Writes {
    /// How they come in: pairs of the store by HTTP, or quotes by websocket
    #[arg(long, value_enum, default_value_t = Via::Http)]
    via: Via,
    #[command(flatten)]
    load: Load,
    #[command(flatten)]
    pub(super) common: Common,
}

/// How writes come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Via {
    /// PUT /api/v1/store/KEY
    Http,
    /// {"t":"post","topic":"quotes"}
    Websocket,
}

/// Longest text of a quote, in bytes.
const QUOTE_BYTES_MAX: u32 = 2_000;

impl Writes {
    pub(super) fn by_http(load: &Load, common: &Common) -> Self {
        Self { via: Via::Http, load: load.clone(), common: common.clone() }
    }

    pub(super) fn by_websocket(load: &Load, common: &Common) -> Self {
        let load = Load { size: load.size.min(QUOTE_BYTES_MAX), ..load.clone() };
        Self { via: Via::Websocket, load, common: common.clone() }
    }

    /// Nobody can take a quote away again.
    pub(super) fn refuse_quotes_for_good(&self) -> Result<(), Failure> {
        if self.via == Via::Http {
            return Ok(());
        }
        if self.common.fresh.is_none() && !self.common.keep {
            return Err(Failure::wrong(
                "the quotes of this benchmark would stay on the board for good: measure a cluster of its own with \
                 --fresh 5, or say --keep",
            ));
        }
        if self.load.size > QUOTE_BYTES_MAX {
            return Err(Failure::wrong(format!(
                "--size is {}: a quote has at most {QUOTE_BYTES_MAX} bytes",
                self.load.size
            )));
        }
        Ok(())
    }

    pub(super) async fn measure(self, arena: &Arena) -> Result<Report, Failure> {
        match self.via {
            Via::Http => self.pairs(arena).await,
            Via::Websocket => self.quotes(arena).await,
        }
    }

    async fn pairs(self, arena: &Arena) -> Result<Report, Failure> {
        let chosen = arena.chosen(&self.load.nodes)?;
        let urls: Vec<&str> = chosen.iter().map(|node| node.url.as_str()).collect();
        let run = Run::new(controller::random()?, self.load.size);
        let mut writers = Vec::new();
        for k in 0..usize::from(self.load.clients) {
            let mut writer = Writer::new(&urls, k, run.clone());
            writer.open().await.map_err(refused)?;
            writers.push(writer);
        }
        let (writers, load) = shown("writes", writers, self.load.until()).await;
        let mut acknowledged = Acknowledged::default();
        let mut count = 0;
        let (mut unanswered, mut repeated) = (Vec::new(), 0);
        for writer in writers {
            count += writer.acknowledged.len() as u64 + u64::from(writer.unanswered.is_some());
            writer.acknowledged.into_iter().for_each(|(key, index)| acknowledged.add(key, index));
            unanswered.extend(writer.unanswered);
            repeated += writer.repeated;
        }
        let check = kept::check_pairs(arena, &run, &acknowledged, &unanswered).await?;
        kept::clean(arena, &run, count, self.common.keep).await?;
        Ok(Report { repeated, check, ..self.report(arena, "PUT by HTTP", load)? })
    }

    async fn quotes(self, arena: &Arena) -> Result<Report, Failure> {
        let chosen = arena.chosen(&self.load.nodes)?;
        let texts = Texts::new(controller::random()?, self.load.size);
        let mut posters = Vec::new();
        for k in 0..usize::from(self.load.clients) {
            let url = &chosen[k % chosen.len()].url;
            posters.push(Poster::open(url, &texts).await?);
        }
        let (posters, load) = shown("posts", posters, self.load.until()).await;
        let mut acknowledged = Acknowledged::default();
        let (mut unanswered, mut repeated) = (Vec::new(), 0);
        for poster in posters {
            poster.acknowledged.into_iter().for_each(|(id, seq)| acknowledged.add(id, seq));
            unanswered.extend(poster.unanswered);
            repeated += poster.repeated;
        }
        let check = kept::check_quotes(arena, &texts, &acknowledged, &unanswered).await?;
        Ok(Report { repeated, check, ..self.report(arena, "post by websocket", load)? })
    }

    fn report(&self, arena: &Arena, what: &str, load: crate::load::Load) -> Result<Report, Failure> {
        let chosen = arena.chosen(&self.load.nodes)?;
        Ok(Report {
            bench: "writes",
            what: what.to_owned(),
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
