//! `chorus key`: a cluster's keys, and another one while the cluster runs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chorus_proto::message::{Message, NodeReport, Recipient};
use chorus_proto::types::KeyId;
use chorus_proto::wire::Secret;
use chorus_proto::wire::control::Verb;
use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::control::{Said, command_of};
use super::controller::{Controller, Heard, request_id};
use super::patience::{insist, until};
use super::place::{Cluster, Place};
use super::survey::Survey;
use super::table::table;
use super::{Failure, output};
use crate::exchange::{ExchangeError, Question};
use crate::keys::{self, CLUSTER_KEY, CONTROL_KEY, CONTROL_PUB};

/// How long a look at who is there may take.
const LOOK_WAIT: Duration = Duration::from_millis(1_500);
/// How long everybody may take to answer `list`.
const LIST_WAIT: Duration = Duration::from_millis(600);
/// How long a node may take to hand out a key.
const FETCH_WAIT: Duration = Duration::from_secs(3);

/// A cluster's keys
#[derive(Debug, Subcommand)]
pub(super) enum Key {
    /// Make cluster.key, control.key and control.pub in a directory; never overwrites
    Generate {
        /// Where to; made if it is not there
        dir: PathBuf,
    },
    /// Give a running cluster another cluster.key; the one before it stays valid until it is retired
    Rotate(Rotate),
    /// Save the key in force of a running cluster to a file; never overwrites
    Fetch(Fetch),
    /// Refuse an older key from now on: whoever holds no other is shut out
    Retire(Retire),
    /// Show which key each node holds
    List(List),
}

/// How long to wait.
#[derive(Debug, Args)]
struct Patience {
    /// Give up after so long
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    wait: String,
}

/// `chorus key rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    place: Place,
}

/// `chorus key fetch`.
#[derive(Debug, Args)]
pub(super) struct Fetch {
    /// The file to make
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

/// `chorus key retire`.
#[derive(Debug, Args)]
pub(super) struct Retire {
    /// The number of the key, as `key list` shows it
    number: u32,
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    place: Place,
}

/// `chorus key list`.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    place: Place,
}

impl Key {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Generate { dir } => generate(&dir),
            Self::Rotate(rotate) => rotate.run().await,
            Self::Fetch(fetch) => fetch.run().await,
            Self::Retire(retire) => retire.run().await,
            Self::List(list) => list.run().await,
        }
    }
}

fn generate(dir: &Path) -> Result<(), Failure> {
    keys::generate(dir)?;
    for name in [CLUSTER_KEY, CONTROL_KEY, CONTROL_PUB] {
        output::data(&dir.join(name).display().to_string())?;
    }
    output::talk(
        "Copy cluster.key and control.pub to every node. Whoever has cluster.key is a member; whoever has \
         control.key commands the nodes.",
    );
    Ok(())
}

impl Rotate {
    async fn run(self) -> Result<(), Failure> {
        let until = until(&self.patience.wait)?;
        let cluster = self.place.find()?;
        let mut keeper = Keeper::open(&cluster)?;
        let before = keeper.leader(until).await?.key_in_force.ok_or_else(no_keys)?;
        let detail = keeper.command(Verb::Rotate, before + 1, until).await?;
        output::data(&detail)?;
        let (key, secret) = keeper.fetch_after(before, until.max(Instant::now() + FETCH_WAIT)).await?;
        match keys::replace(cluster.key_file(), before, secret.bytes()) {
            Ok(older) => output::talk(&format!(
                "{} holds key {key} now, {} the one before it. That stays valid until `chorus key retire {before}`: \
                 put the new one in the key files of the other machines first.",
                cluster.key_file().display(),
                older.display()
            )),
            Err(error) => output::talk(&format!(
                "Key {key} is in force, but its file cannot be replaced here: {error}. `chorus key fetch FILE` saves the key \
                 where you like; put it in the key files, then retire key {before}."
            )),
        }
        Ok(())
    }
}

impl Fetch {
    async fn run(self) -> Result<(), Failure> {
        let cluster = self.place.find()?;
        let (key, secret) = Keeper::open(&cluster)?.fetch(Instant::now() + FETCH_WAIT).await?;
        keys::save(&self.file, secret.bytes())?;
        output::data(&format!("{} holds key {key}", self.file.display()))
    }
}

impl Retire {
    async fn run(self) -> Result<(), Failure> {
        let until = until(&self.patience.wait)?;
        let cluster = self.place.find()?;
        let mut keeper = Keeper::open(&cluster)?;
        let survey = keeper.survey(until, Survey::is_complete).await?;
        let in_force = survey.leader().and_then(|leader| leader.key);
        // Whoever speaks under a key that is to go would not hear that it is gone.
        let own = cluster.secret.fingerprint();
        if in_force.is_some_and(|key| key.fingerprint != own) {
            return Err(Failure::refused(format!(
                "{} holds an older key than the one in force: `chorus key fetch FILE` saves that; name it with --key-file",
                cluster.key_file().display()
            )));
        }
        let missing: Vec<&str> = survey.missing().into_iter().map(|name| name.as_str()).collect();
        let detail = keeper.command(Verb::Retire, self.number, until).await?;
        output::data(&detail)?;
        if !missing.is_empty() {
            output::talk(&format!(
                "{} did not answer: if the present key is not there yet, it needs it in its key file",
                missing.join(", ")
            ));
        }
        Ok(())
    }
}

impl List {
    async fn run(self) -> Result<(), Failure> {
        let cluster = self.place.find()?;
        let mut controller = Controller::open(&cluster)?;
        let until = Instant::now() + LIST_WAIT;
        let survey = Survey::take(&mut controller, cluster.founders(), until, |_| false).await?;
        let told = |key: Option<KeyId>| {
            key.map_or(("-".to_owned(), "-".to_owned()), |key| {
                (key.number.to_string(), key.fingerprint.to_string())
            })
        };
        let row = |node: &NodeReport| {
            let ((number, fingerprint), in_force) = (told(node.key), node.key_in_force);
            let in_force = in_force.map_or("-".to_owned(), |number| number.to_string());
            [node.name.to_string(), number, fingerprint, in_force]
        };
        let rows: Vec<_> = survey.view_with_keys().iter().map(row).collect();
        output::data(&table(["node", "newest key", "fingerprint", "in force"], &rows))?;
        match survey.leader() {
            Some(_) => Ok(()),
            None => {
                Err(Failure::no_leader(format!("no leader on {}: {}", cluster.whereabouts(), survey.why())))
            }
        }
    }
}

/// Speaks with the leader about keys.
struct Keeper<'a> {
    cluster: &'a Cluster,
    controller: Controller,
}

impl<'a> Keeper<'a> {
    fn open(cluster: &'a Cluster) -> Result<Self, Failure> {
        Ok(Self { cluster, controller: Controller::open(cluster)? })
    }

    async fn survey(&mut self, until: Instant, enough: impl Fn(&Survey) -> bool) -> Result<Survey, Failure> {
        let look = until.min(Instant::now() + LOOK_WAIT);
        Survey::take(&mut self.controller, [], look, enough).await
    }

    async fn leader(&mut self, until: Instant) -> Result<NodeReport, Failure> {
        loop {
            let survey = self.survey(until, |survey| survey.leader().is_some()).await?;
            if let Some(leader) = survey.leader() {
                return Ok(leader.clone());
            }
            if Instant::now() >= until {
                let place = self.cluster.whereabouts();
                return Err(Failure::no_leader(format!("no leader on {place}: {}", survey.why())));
            }
        }
    }

    /// Commands whoever leads, again and again, until it is done or refused for good. The number makes that harmless.
    async fn command(&mut self, verb: Verb, number: u32, until: Instant) -> Result<String, Failure> {
        let key = self.cluster.control_key()?;
        insist(until, async || {
            let leader = self.leader(until).await?;
            let sign = |id, boot| key.sign_key(verb, id, boot, request_id(), number);
            match command_of(&mut self.controller, &leader, sign, |control| verb.message(control)).await? {
                Said::Done(detail) => Ok(Ok(detail)),
                Said::Later(reason) => Ok(Err(reason)),
                Said::Never(failure) => Err(failure),
            }
        })
        .await
    }

    /// The key that came into force after the one of number `before`: whoever leads by now may not have applied that yet.
    async fn fetch_after(&mut self, before: u32, until: Instant) -> Result<(KeyId, Secret), Failure> {
        insist(until, async || {
            let (key, secret) = self.fetch(until).await?;
            Ok(if key.number > before {
                Ok((key, secret))
            } else {
                Err(format!("key {key} is in force there"))
            })
        })
        .await
    }

    /// The key in force, from whoever leads.
    async fn fetch(&mut self, until: Instant) -> Result<(KeyId, Secret), Failure> {
        let leader = self.leader(until).await?;
        let mut question = Some(Question::new(request_id(), None).map_err(refused)?);
        let ask = question.as_ref().map(|question| Message::GiveKey(question.ask().clone()));
        let ask = ask.ok_or_else(no_keys)?;
        let judge = |opened: chorus_proto::wire::Opened| match opened.message {
            Message::Key(answer) => match question.take_if(|asked| asked.is_answered_by(&answer)) {
                Some(asked) => Heard::Enough(asked.open(&answer).map(|secret| (answer.key, secret))),
                None => Heard::GoOn,
            },
            _ => Heard::GoOn,
        };
        let recipient = Recipient::Name(leader.name.clone());
        let given = self.controller.ask(&recipient, until, |_| ask.clone(), judge).await?;
        let nobody = || Failure::refused(format!("{} did not hand out the key in time", leader.name));
        given.ok_or_else(nobody)?.map_err(refused)
    }
}

fn refused(error: ExchangeError) -> Failure {
    Failure::refused(error.to_string())
}

fn no_keys() -> Failure {
    Failure::refused("the leader does not tell of its keys: upgrade it first".to_owned())
}
