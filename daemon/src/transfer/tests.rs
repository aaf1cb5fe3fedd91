use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde_bytes::ByteArray;

use super::channel::Channel;
use super::words::{Ask, encode};
use super::*;

const CLUSTER: Cluster = Cluster { id: [7; 16], epoch: 3 };
const PATIENCE: Duration = Duration::from_secs(20);

fn quick() -> Limits {
    Limits { wait_max: Duration::from_millis(500), bytes_per_s: 1 << 30, ..Limits::default() }
}

fn node(secret: u8, limits: Limits) -> Transfer {
    let mut transfer =
        Transfer::start((Ipv4Addr::LOCALHOST, 0).into(), Secret::from([secret; 32]), limits).unwrap();
    transfer.set_cluster(Some(CLUSTER));
    transfer
}

/// Bytes that do not repeat.
fn bytes(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Offers these bytes, in a file without a name.
fn offer(source: &Transfer, bytes: &[u8]) -> FileDigest {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    let digest = *blake3::hash(bytes).as_bytes();
    drop(source.offer(digest, file, bytes.len() as u64));
    digest
}

struct Puller {
    transfer: Transfer,
    directory: tempfile::TempDir,
}

impl Puller {
    fn new(secret: u8) -> Self {
        Self { transfer: node(secret, quick()), directory: tempfile::tempdir().unwrap() }
    }

    fn begin(
        &self,
        address: SocketAddr,
        digest: FileDigest,
        size: usize,
    ) -> (Fetching, mpsc::Receiver<Result<PathBuf, FetchError>>) {
        let directory = self.directory.path().to_owned();
        let wanted = Wanted { address, digest, size: size as u64, directory };
        let (done, end) = mpsc::channel();
        (self.transfer.fetch(CLUSTER, wanted, move |came| done.send(came).unwrap()), end)
    }

    fn fetch(&self, address: SocketAddr, digest: FileDigest, size: usize) -> Result<PathBuf, FetchError> {
        let (_fetching, end) = self.begin(address, digest, size);
        end.recv_timeout(PATIENCE).expect("a fetch ends")
    }
}

/// Stands between the two and does something with what the source says: for each connection apart, a piece of bytes and
/// how many came before it; false cuts the connection.
fn between(
    source: SocketAddr,
    meddle: impl Fn(usize, &mut [u8], usize) -> bool + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let meddle = Arc::new(meddle);
    thread::spawn(move || {
        for (number, puller) in listener.incoming().enumerate() {
            let mut puller = puller.unwrap();
            let mut source = TcpStream::connect(source).unwrap();
            let (mut from, mut to) = (puller.try_clone().unwrap(), source.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let meddle = Arc::clone(&meddle);
            thread::spawn(move || {
                let (mut buffer, mut before) = (vec![0; 10_000], 0);
                while let Ok(count @ 1..) = source.read(&mut buffer) {
                    if !meddle(number, &mut buffer[..count], before)
                        || puller.write_all(&buffer[..count]).is_err()
                    {
                        break;
                    }
                    before += count;
                }
                // Either may be gone already.
                let _gone = (puller.shutdown(Shutdown::Both), source.shutdown(Shutdown::Both));
            });
        }
    });
    address
}

#[test]
fn a_file_arrives_whole_and_alone_in_its_directory() {
    let (source, puller) = (node(1, quick()), Puller::new(1));
    for size in [0, 1, 65_519, 65_520, (3 << 20) + 17] {
        let bytes = bytes(size);
        let digest = offer(&source, &bytes);
        let path = puller.fetch(source.address(), digest, size).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(fs::read_dir(puller.directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn strangers_get_nothing() {
    let mut source = node(1, quick());
    let bytes = bytes(1_000);
    let digest = offer(&source, &bytes);
    let other_secret = Puller::new(2).fetch(source.address(), digest, bytes.len());
    assert!(matches!(other_secret, Err(FetchError::Channel(_))), "{other_secret:?}");

    source.set_cluster(Some(Cluster { epoch: CLUSTER.epoch + 1, ..CLUSTER }));
    let other_epoch = Puller::new(1).fetch(source.address(), digest, bytes.len());
    assert!(matches!(other_epoch, Err(FetchError::Channel(_))), "{other_epoch:?}");

    source.set_cluster(None);
    let nobodys = Puller::new(1).fetch(source.address(), digest, bytes.len());
    assert!(matches!(nobodys, Err(FetchError::Channel(_))), "{nobodys:?}");

    // Whoever just talks hears not one byte.
    source.set_cluster(Some(CLUSTER));
    let mut stranger = TcpStream::connect(source.address()).unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    stranger.write_all(&[0; 48]).unwrap();
    let mut heard = Vec::new();
    // Closed or reset: it comes to the same.
    let _reset = stranger.read_to_end(&mut heard);
    assert!(heard.is_empty(), "{heard:?}");

    let member = Puller::new(1);
    let path = member.fetch(source.address(), digest, bytes.len()).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn a_recorded_beginning_opens_nothing() {
    let (source, puller) = (node(1, quick()), Puller::new(1));
    let bytes = bytes(100_000);
    let digest = offer(&source, &bytes);
    // What a member says, word for word.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (_fetching, end) = puller.begin(listener.local_addr().unwrap(), digest, bytes.len());
    let (mut member, _) = listener.accept().unwrap();
    let mut hello = [0; 48];
    member.read_exact(&mut hello).unwrap();
    let mut real = TcpStream::connect(source.address()).unwrap();
    real.write_all(&hello).unwrap();
    let mut answer = [0; 48];
    real.read_exact(&mut answer).unwrap();
    member.write_all(&answer).unwrap();
    let mut ask = [0; 256];
    let asked = member.read(&mut ask).unwrap();
    drop((real, member));

    let mut replay = TcpStream::connect(source.address()).unwrap();
    replay.set_read_timeout(Some(PATIENCE)).unwrap();
    replay.write_all(&hello).unwrap();
    replay.write_all(&ask[..asked]).unwrap();
    // The answer of the handshake, which says nothing without the ephemeral key; then the end.
    let mut heard = Vec::new();
    let _reset = replay.read_to_end(&mut heard);
    assert_eq!(heard.len(), 48);
    drop(listener);
    assert!(end.recv_timeout(PATIENCE).unwrap().is_err());
}

#[test]
fn one_bit_on_the_way_is_noticed_and_fetched_again() {
    let (source, puller) = (node(1, quick()), Puller::new(1));
    let bytes = bytes(2 << 20);
    let digest = offer(&source, &bytes);
    let flipped = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&flipped);
    let address = between(source.address(), move |connection, piece, before| {
        let at = 1 << 20;
        if connection == 0 && (before..before + piece.len()).contains(&at) {
            piece[at - before] ^= 1;
            count.fetch_add(1, Ordering::Relaxed);
        }
        true
    });
    let path = puller.fetch(address, digest, bytes.len()).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert_eq!(flipped.load(Ordering::Relaxed), 1);
}

#[test]
fn what_is_broken_off_goes_on_where_it_ended() {
    let source = node(1, quick());
    let bytes = bytes(6 << 20);
    let digest = offer(&source, &bytes);
    let said = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&said);
    // Each connection ends after 2 MiB, the first three at least.
    let address = between(source.address(), move |connection, piece, before| {
        count.fetch_add(piece.len(), Ordering::Relaxed);
        connection >= 3 || before < 2 << 20
    });
    let puller = Puller::new(1);
    let path = puller.fetch(address, digest, bytes.len()).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    let said = said.load(Ordering::Relaxed);
    assert!(said < 2 * bytes.len(), "{said} bytes were said for a file of {}", bytes.len());
}

#[test]
fn a_part_on_disk_is_gone_on_with_and_a_wrong_one_is_thrown_away() {
    let (source, puller) = (node(1, quick()), Puller::new(1));
    let bytes = bytes(3 << 20);
    let digest = offer(&source, &bytes);
    let name = format!("{}.part", blake3::Hash::from(digest).to_hex());
    let part = puller.directory.path().join(name);
    let said = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&said);
    let address = between(source.address(), move |_, piece, _| {
        count.fetch_add(piece.len(), Ordering::Relaxed);
        true
    });
    fs::write(&part, &bytes[..2 << 20]).unwrap();
    fs::write(puller.directory.path().join("older.part"), b"of another download").unwrap();
    let path = puller.fetch(address, digest, bytes.len()).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
    assert_eq!(fs::read_dir(puller.directory.path()).unwrap().count(), 1);
    let said = said.load(Ordering::Relaxed);
    assert!(said < (1 << 20) + 10_000, "{said} bytes were said for the last MiB");

    // What power loss may leave: the right length, other bytes.
    fs::write(&part, vec![0; 2 << 20]).unwrap();
    let wrong = puller.fetch(source.address(), digest, bytes.len());
    assert!(matches!(wrong, Err(FetchError::Different(_))), "{wrong:?}");
    assert!(!part.exists());
    let path = puller.fetch(source.address(), digest, bytes.len()).unwrap();
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn what_is_not_offered_is_refused_at_once() {
    let (source, puller) = (node(1, quick()), Puller::new(1));
    let bytes = bytes(1_000);
    let first = offer(&source, &bytes);
    let gone = puller.fetch(source.address(), [9; 32], 1_000);
    assert!(matches!(gone, Err(FetchError::Refused(No::Gone))), "{gone:?}");
    let other_size = puller.fetch(source.address(), first, 999);
    assert!(matches!(other_size, Err(FetchError::Different(_))), "{other_size:?}");
    for more in 1..=2 {
        offer(&source, &bytes[more..]);
    }
    let left = puller.fetch(source.address(), first, 1_000);
    assert!(matches!(left, Err(FetchError::Refused(No::Gone))), "{left:?}");
}

#[test]
fn nobody_is_there() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    let nobody = Puller::new(1).fetch(address, [1; 32], 1);
    assert!(matches!(nobody, Err(FetchError::Channel(ChannelError::Broken(_)))), "{nobody:?}");
}

#[test]
fn several_fetch_at_once_and_one_more_than_may_is_told_so() {
    let limits = Limits { connections: 2, bytes_per_s: 4 << 20, ..quick() };
    let source = node(1, limits);
    // So much that both are still under way when the third comes, also on a busy machine.
    let bytes = bytes(8 << 20);
    let digest = offer(&source, &bytes);
    let pullers: Vec<Puller> = (0..3).map(|_| Puller::new(1)).collect();
    let begun = Instant::now();
    let first: Vec<_> =
        pullers[..2].iter().map(|puller| puller.begin(source.address(), digest, bytes.len())).collect();
    while first.iter().any(|(fetching, _)| fetching.received() == 0) {
        assert!(begun.elapsed() < PATIENCE, "nothing came");
        thread::sleep(Duration::from_millis(1));
    }
    let third = pullers[2].fetch(source.address(), digest, bytes.len());
    assert!(matches!(third, Err(FetchError::Refused(No::Busy))), "{third:?}");
    for (_fetching, end) in &first {
        let path = end.recv_timeout(PATIENCE).unwrap().unwrap();
        assert_eq!(fs::read(path).unwrap(), bytes);
    }
    // 16 MiB at 4 MiB/s: the pace is that of all together.
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(3_500), "it took {took:?}");
}

#[test]
fn whoever_does_not_take_what_he_asked_for_is_cut_off() {
    let source = node(1, Limits { connections: 1, ..quick() });
    let bytes = bytes(64 << 20);
    let digest = offer(&source, &bytes);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let key = Secret::from([1; 32]).transfer_key(CLUSTER);
    let idle = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(source.address()).await.unwrap();
        let mut channel = Channel::initiate(stream, &key, PATIENCE).await.unwrap();
        channel.send(&encode(&Ask { digest: ByteArray::new(digest), offset: 0 })).await.unwrap();
        channel.receive(256, &mut Vec::new()).await.unwrap();
        channel
    });
    // The only place is taken until the source has lost its patience.
    let begun = Instant::now();
    let puller = Puller::new(1);
    let path = loop {
        match puller.fetch(source.address(), digest, bytes.len()) {
            Ok(path) => break path,
            Err(FetchError::Refused(No::Busy)) if begun.elapsed() < PATIENCE => {}
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(fs::metadata(path).unwrap().len(), bytes.len() as u64);
    drop(idle);
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = Transfer::start(address, Secret::from([1; 32]), quick()).unwrap_err();
    assert!(matches!(error, TransferError::InUse { .. }));
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[test]
fn a_fetch_that_panics_is_heard_of() {
    let (source, mut puller) = (node(1, quick()), Puller::new(1));
    let digest = offer(&source, b"what nobody may fetch without a key");
    puller.transfer.set_secrets(Vec::new());
    let ended = puller.fetch(source.address(), digest, 35);
    assert!(matches!(ended, Err(FetchError::Panicked)), "{ended:?}");
}
