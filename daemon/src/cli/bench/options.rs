//! What the benchmarks take.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::cli::Failure;
use crate::cli::place::Place;
use crate::config;
use crate::load::Until;

/// No benchmark asks for more, whatever its duration: what was acknowledged is kept in memory for the check.
const COUNT_MAX: u64 = 1_000_000;
/// No benchmark goes on for longer.
const DURATION_MAX: Duration = Duration::from_secs(600);
/// If neither count nor duration is said.
const DURATION_USUAL: Duration = Duration::from_secs(5);

/// How much, and of whom.
#[derive(Clone, Debug, Args)]
pub(super) struct Load {
    /// Clients, each in a closed loop on a connection of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) clients: u16,
    /// End after so many requests of all clients together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MAX))]
    pub(super) count: Option<u64>,
    /// End after so long, at most 10m [default: 5s without --count]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) duration: Option<Duration>,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(super) size: u32,
    /// Which nodes are asked: all, leader, followers, or names as in n1,n2
    #[arg(long, value_name = "WHICH", default_value = "all")]
    pub(super) nodes: Which,
}

/// Which cluster, and what becomes of the traces.
#[derive(Clone, Debug, Args)]
pub(super) struct Common {
    /// One JSON object on a line for each measurement
    #[arg(long)]
    pub(super) json: bool,
    /// Leave there what was written
    #[arg(long)]
    pub(super) keep: bool,
    /// Measure a cluster of so many nodes that is started for it on this machine, and removed afterwards
    #[arg(long, value_name = "NODES", value_parser = clap::value_parser!(u16).range(1..=9))]
    pub(super) fresh: Option<u16>,
    /// Where the data of that cluster is meanwhile: the disk that is measured [default: the system's temporary
    /// directory]
    #[arg(long, value_name = "DIR", requires = "fresh")]
    pub(super) fresh_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Which nodes are asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Which {
    /// Every one that runs.
    All,
    /// The one that leads when the measurement begins.
    Leader,
    /// All but that one.
    Followers,
    /// Those of these names.
    Named(Vec<String>),
}

/// What a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Consistency {
    /// What the node has applied.
    Local,
    /// All that was acknowledged anywhere before the read began.
    Linearizable,
    /// One after the other.
    Both,
}

impl Load {
    /// When it is enough.
    pub(super) fn until(&self) -> Until {
        let unsaid = if self.count.is_some() { DURATION_MAX } else { DURATION_USUAL };
        Until { count: self.count.unwrap_or(COUNT_MAX), duration: self.duration.unwrap_or(unsaid) }
    }

    /// The same, with so many clients and at most so many requests.
    pub(super) fn with(&self, clients: u16, count_max: u64) -> Self {
        let count = Some(self.count.unwrap_or(count_max).min(count_max));
        Self { clients, count, duration: Some(self.until().duration), ..self.clone() }
    }
}

impl std::str::FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "leader" => Ok(Self::Leader),
            "followers" => Ok(Self::Followers),
            names if !names.is_empty() && names.split(',').all(|name| !name.is_empty()) => {
                Ok(Self::Named(names.split(',').map(ToOwned::to_owned).collect()))
            }
            _ => Err("nodes are all, leader, followers, or names as in n1,n2".to_owned()),
        }
    }
}

/// How long a benchmark may take.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let duration = config::duration(text)?;
    if duration.is_zero() || duration > DURATION_MAX {
        return Err("a benchmark takes more than nothing and at most 10m".to_owned());
    }
    Ok(duration)
}

/// The sentence for what the load's own connections met.
pub(super) fn refused(error: impl std::fmt::Display) -> Failure {
    Failure::refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_named_or_described() {
        assert_eq!("followers".parse(), Ok(Which::Followers));
        assert_eq!("n1,n3".parse(), Ok(Which::Named(vec!["n1".to_owned(), "n3".to_owned()])));
        for wrong in ["", "n1,", ",n1"] {
            assert!(wrong.parse::<Which>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_benchmark_ends_by_itself() {
        let load = Load { clients: 1, count: None, duration: None, size: 1, nodes: Which::All };
        assert_eq!(load.until(), Until { count: COUNT_MAX, duration: DURATION_USUAL });
        let counted = Load { count: Some(7), ..load.clone() };
        assert_eq!(counted.until(), Until { count: 7, duration: DURATION_MAX });
        assert_eq!(load.with(2, 9).until(), Until { count: 9, duration: DURATION_USUAL });
        assert!(duration("11m").is_err() && duration("0s").is_err() && duration("10m").is_ok());
    }
}
