//! A controller on the hub.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chorus::transport::{Destination, HubEnd, Transport};
use chorus_proto::message::{Message, NodeReport, Recipient, Report};
use chorus_proto::types::{Boot, NodeName};
use chorus_proto::wire::{Endpoint, Opened, Secret, Under};

use super::cluster::{PATIENCE, SECRET};

/// Who is not answered says it again: a leader that is only just elected, or about to go, may have passed it over.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Speaks under the common tag and hears what it is answered.
pub(crate) struct Controller {
    transport: Transport,
    endpoint: Endpoint,
}

impl Controller {
    pub(crate) fn new(end: HubEnd) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
        Self::begun(end, u64::try_from(now.as_micros()).expect("the clock is before the year 580,000"))
    }

    /// One that began at this time, in microseconds of Unix time.
    pub(crate) fn begun(end: HubEnd, at_us: u64) -> Self {
        let boot = Boot(at_us);
        let endpoint = Endpoint::controller(Secret::from(SECRET), u64::from(end.address().port()), boot, 5);
        Self { transport: Transport::Hub(end), endpoint }
    }

    pub(crate) fn say(&mut self, message: &Message) {
        let datagram = self.endpoint.seal(Under::Common, &Recipient::Everyone, message).expect("it fits");
        self.transport.send(Destination::Group, &datagram).expect("a hub takes everything");
    }

    /// The next thing that was said to this controller alone.
    pub(crate) async fn hear(&mut self) -> Opened {
        tokio::time::timeout(PATIENCE, async {
            loop {
                self.transport.readable().await.expect("a hub never closes");
                let mut buffer = [0; 1_500];
                while let Some(arrived) = self.transport.try_receive(&mut buffer) {
                    if let (true, Ok(opened)) =
                        (arrived.direct, self.endpoint.open(&mut buffer[..arrived.length]))
                    {
                        return opened;
                    }
                }
            }
        })
        .await
        .expect("an answer in time")
    }

    /// Whether nothing more comes for a while.
    pub(crate) async fn silence(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(300), self.hear()).await.is_err()
    }

    /// Says it until the answer that `wanted` takes has come; what else comes is passed over.
    pub(crate) async fn ask<T>(
        &mut self,
        message: &Message,
        mut wanted: impl FnMut(Opened) -> Option<T>,
    ) -> T {
        let began = Instant::now();
        loop {
            self.say(message);
            let answered = async {
                loop {
                    if let Some(answer) = wanted(self.hear().await) {
                        return answer;
                    }
                }
            };
            if let Ok(answer) = tokio::time::timeout(SAY_AGAIN, answered).await {
                return answer;
            }
            assert!(began.elapsed() < PATIENCE, "no answer to {message:?}");
        }
    }

    /// What each of so many nodes says about itself.
    pub(crate) async fn status(&mut self, nodes: usize, request_id: &str) -> Vec<NodeReport> {
        let request_id = super::cluster::request_id(request_id);
        self.say(&Message::Status(chorus_proto::message::Ask { request_id: request_id.clone() }));
        let mut reports: Vec<NodeReport> = Vec::new();
        while reports.len() < nodes {
            if let Message::Done(done) = self.hear().await.message
                && done.request_id == request_id
                && let Report::Node(report) = done.result
            {
                reports.push(*report);
            }
        }
        reports.sort_by(|one, other| one.name.cmp(&other.name));
        reports
    }

    pub(crate) async fn report_of(&mut self, nodes: usize, name: &NodeName, request_id: &str) -> NodeReport {
        let mut reports = self.status(nodes, request_id).await;
        let place = reports.iter().position(|report| report.name == *name).expect("the node answers");
        reports.swap_remove(place)
    }
}
