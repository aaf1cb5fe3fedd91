//! `chorus quote`: the quote board from a shell.

use std::time::Duration;

use clap::{Args, Subcommand};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Message};

use super::controller::Controller;
use super::place::Place;
use super::web::Web;
use super::{Failure, output};

/// The board, in paths and in the feed.
const BOARD: &str = "quotes";
/// A node says something at least once a second; one that is silent for so long is given up.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Before the nodes are tried from the first again.
const PAUSE: Duration = Duration::from_millis(500);
/// Most quotes that one answer holds.
const PAGE: u64 = 500;

/// The quote board
#[derive(Debug, Subcommand)]
pub(super) enum Quote {
    /// Post a quote
    Post(Post),
    /// Show the latest quotes, newest last
    List(List),
    /// Show the latest quotes and every new one as it comes
    Tail(Tail),
}

/// `quote post`.
#[derive(Debug, Args)]
pub(super) struct Post {
    /// Who said it, at most 80 characters
    author: String,
    /// What was said, at most 2,000 characters
    text: String,
    /// One JSON object on one line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// `quote list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=PAGE))]
    limit: u64,
    /// One JSON object on a line for each quote
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// `quote tail`.
#[derive(Debug, Args)]
pub(super) struct Tail {
    /// How many of those that are there already
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=PAGE))]
    limit: u64,
    /// One JSON object on a line for each quote
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

impl Quote {
    pub(super) async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Post(post) => post.run().await,
            Self::List(list) => {
                let web = find(&list.place).await?;
                show_latest(&web, list.limit, list.json).await.map(drop)
            }
            Self::Tail(tail) => tail.run().await,
        }
    }
}

impl Post {
    async fn run(self) -> Result<(), Failure> {
        let web = find(&self.place).await?;
        let body = json!({ "author": self.author, "text": self.text });
        let answer = web.write(reqwest::Method::POST, &format!("/api/v1/{BOARD}"), &body).await?;
        if self.json {
            return output::data(&answer.to_string());
        }
        output::data(&format!("posted at index {}", answer["index"]))
    }
}

impl Tail {
    async fn run(self) -> Result<(), Failure> {
        let web = find(&self.place).await?;
        let mut feed = Feed { epoch: Value::Null, after: 0, json: self.json };
        feed.after = show_latest(&web, self.limit, self.json).await?;
        loop {
            for url in web.urls() {
                feed.follow(url).await?;
            }
            sleep(PAUSE).await;
        }
    }
}

async fn find(place: &Place) -> Result<Web, Failure> {
    let cluster = place.find()?;
    let mut controller = Controller::open(&cluster)?;
    Web::find(&cluster, &mut controller).await
}

/// Shows the latest quotes, oldest first; up to which index they are complete.
async fn show_latest(web: &Web, limit: u64, json: bool) -> Result<u64, Failure> {
    let answer = web.read(&format!("/api/v1/{BOARD}?limit={}", limit.max(1))).await?;
    let items = answer["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = items.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
    for item in wanted.rev() {
        show(item, json)?;
    }
    Ok(answer["seq"].as_u64().unwrap_or_default())
}

fn show(item: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return output::data(&item.to_string());
    }
    // What somebody posted must not command this terminal.
    let plain = |key: &str| -> String {
        let letters = item[key].as_str().unwrap_or_default().chars();
        letters.map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
    };
    output::data(&format!("{}: {}", plain("author"), plain("text")))
}

/// A place in the feed. It is the same on every node.
struct Feed {
    epoch: Value,
    after: u64,
    json: bool,
}

impl Feed {
    /// Follows the feed of one node as long as it lasts.
    async fn follow(&mut self, url: &str) -> Result<(), Failure> {
        let Some(uri) = url.strip_prefix("http").and_then(|rest| format!("ws{rest}/ws").parse().ok()) else {
            return Ok(());
        };
        let request = ClientRequestBuilder::new(uri).with_sub_protocol("chorus.v1.json");
        let Ok(Ok((mut socket, _))) = timeout(SILENCE_MAX, tokio_tungstenite::connect_async(request)).await
        else {
            return Ok(());
        };
        let mut resumed = false;
        while let Ok(Some(Ok(message))) = timeout(SILENCE_MAX, socket.next()).await {
            let Message::Text(text) = message else { continue };
            let Ok(frame) = serde_json::from_str::<Value>(&text) else { return Ok(()) };
            self.take(&frame)?;
            // After the greeting; after a reset from where it says.
            if !resumed || frame["t"] == "reset" {
                resumed = true;
                let resume =
                    json!({ "t": "resume", "epoch": self.epoch, "after": self.after, "topics": [BOARD] });
                if socket.send(Message::text(resume.to_string())).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// What a frame tells.
    fn take(&mut self, frame: &Value) -> Result<(), Failure> {
        match frame["t"].as_str() {
            Some("hello") if self.epoch.is_null() => self.epoch = frame["epoch"].clone(),
            Some("event") => {
                self.show_items(frame)?;
                self.advance(&frame["seq"]);
            }
            Some("batch") => {
                self.show_items(frame)?;
                self.advance(&frame["to"]);
            }
            Some("tick") => self.advance(&frame["seq"]),
            Some("reset") => {
                output::talk("the feed had to begin anew; quotes in between are not shown");
                self.epoch = Value::Null;
                self.after = frame["seq"].as_u64().unwrap_or(self.after);
            }
            _ => {}
        }
        Ok(())
    }

    fn advance(&mut self, seq: &Value) {
        self.after = self.after.max(seq.as_u64().unwrap_or_default());
    }

    fn show_items(&self, frame: &Value) -> Result<(), Failure> {
        let items = frame["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items
            .iter()
            .filter(|item| item["topic"] == BOARD && item["kind"] == "created")
            .try_for_each(|item| show(&item["item"], self.json))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_in_the_feed_only_moves_forward_until_a_reset() {
        let mut feed = Feed { epoch: Value::Null, after: 4, json: true };
        feed.take(&json!({"t": "hello", "epoch": "c0ffee.1", "seq": 9})).unwrap();
        assert_eq!((feed.epoch.clone(), feed.after), (json!("c0ffee.1"), 4), "a greeting covers nothing");
        feed.take(&json!({"t": "batch", "from": 4, "to": 9, "items": []})).unwrap();
        feed.take(&json!({"t": "event", "prev": 9, "seq": 11, "items": []})).unwrap();
        feed.take(&json!({"t": "tick", "seq": 10})).unwrap();
        assert_eq!(feed.after, 11);
        feed.take(&json!({"t": "reset", "reason": "epoch", "seq": 3})).unwrap();
        assert_eq!((feed.epoch, feed.after), (Value::Null, 3));
    }
}
