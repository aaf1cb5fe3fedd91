//! What of etcd's gRPC is measured: Range and Put, and Status to see who leads (rpc.proto of etcd 3.4).
//!
//! A call is one HTTP/2 request on the client's own connection; nothing stands between it and `h2`, so that a call
//! costs the client no more than a request of HTTP/1.1 does on the other side.

use anyhow::{Context as _, Result, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use chorus::load::Client;
use h2::client::SendRequest;
use prost::Message;
use tokio::net::TcpStream;

use crate::load::{Kind, key, value};

/// `RangeRequest` of one key; it is linearizable unless it says otherwise.
#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

/// A connection to one member.
pub(crate) struct Connection {
    authority: String,
    sender: SendRequest<Bytes>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(authority: &str) -> Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(stream).await?;
        // It ends with its sender; what breaks it, the sender is told.
        tokio::spawn(connection);
        Ok(Self { authority: authority.to_owned(), sender })
    }

    /// Whether this member leads; an error while nobody does.
    pub(crate) async fn leads(&mut self) -> Result<bool> {
        let status: StatusResponse = self.call("/etcdserverpb.Maintenance/Status", &Nothing {}).await?;
        ensure!(status.leader != 0, "nobody leads");
        Ok(status.header.is_some_and(|header| header.member_id == status.leader))
    }

    /// Writes, and is answered when that is applied.
    pub(crate) async fn put(&mut self, n: u64) -> Result<()> {
        let request = PutRequest { key: key(n).into(), value: value(n).into() };
        self.call::<Nothing>("/etcdserverpb.KV/Put", &request).await.map(drop)
    }

    async fn read(&mut self, n: u64) -> Result<()> {
        let answer: RangeResponse =
            self.call("/etcdserverpb.KV/Range", &RangeRequest { key: key(n).into() }).await?;
        let found = answer.kvs.first().map(|pair| pair.value.as_slice());
        ensure!(found == Some(value(n).as_bytes()), "{} is not what was written", key(n));
        Ok(())
    }

    async fn call<T: Message + Default>(&mut self, method: &str, request: &impl Message) -> Result<T> {
        // One byte says that it is not compressed, four how long it is.
        let mut frame = BytesMut::with_capacity(5 + request.encoded_len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(request.encoded_len())?);
        request.encode(&mut frame)?;
        let head = http::Request::post(format!("http://{}{method}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        self.sender = self.sender.clone().ready().await?;
        let (answer, mut stream) = self.sender.send_request(head, false)?;
        stream.send_data(frame.freeze(), true)?;
        let mut body = answer.await?.into_body();
        let mut bytes = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            bytes.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?.context("an answer without trailers")?;
        if trailers.get("grpc-status").is_none_or(|status| status != "0") {
            bail!("{method}: {trailers:?}");
        }
        ensure!(bytes.len() >= 5, "{method}: an answer without a message");
        Ok(T::decode(&bytes[5..])?)
    }
}

/// One client.
pub(crate) struct Etcd {
    /// Its connection.
    pub(crate) connection: Connection,
    /// What it asks.
    pub(crate) kind: Kind,
}

impl Client for Etcd {
    async fn ask(&mut self, n: u64) -> Result<(), String> {
        let asked = match self.kind {
            Kind::Read => self.connection.read(n % crate::load::KEYS).await,
            Kind::Write { from } => self.connection.put(from + n).await,
        };
        asked.map_err(|error| format!("etcd: {error:#}"))
    }
}
