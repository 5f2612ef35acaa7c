//! The link over real sockets: content, order, endings and commands. Timing is tested in virtual time, inside the crate.

use std::{
    io::{ErrorKind, Result},
    net::SocketAddr,
    time::Duration,
};

use collm_link::{Link, LinkSpec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

const LOOPBACK: (&str, u16) = ("127.0.0.1", 0);

/// Fast enough that no test waits, with everything switched on.
fn spec() -> LinkSpec {
    LinkSpec {
        rtt: Duration::from_millis(2),
        jitter: Duration::from_millis(1),
        up: "2gbit".parse().expect("a bandwidth"),
        down: "4gbit".parse().expect("a bandwidth"),
        seed: 1,
    }
}

async fn link_to(to: SocketAddr) -> Link {
    Link::start(LOOPBACK, to.to_string(), spec()).await.expect("a free port")
}

/// Sends back whatever it gets, each connection until the other side closes its half.
async fn echo_server() -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    address
}

/// A connection through the link, and its other end. One byte has passed, so the link holds both.
async fn pair(listener: &TcpListener, link: &Link) -> (TcpStream, TcpStream) {
    let mut near = TcpStream::connect(link.local_addr()).await.expect("the link listens");
    let (mut far, _) = listener.accept().await.expect("the link connects");
    near.write_all(&[0]).await.expect("open");
    far.read_exact(&mut [0]).await.expect("delivered");
    (near, far)
}

async fn listener_and_link() -> (TcpListener, Link) {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
    let link = link_to(listener.local_addr().expect("bound")).await;
    (listener, link)
}

async fn exchange(through: SocketAddr, sent: Vec<u8>) -> Result<Vec<u8>> {
    let (mut from, mut to) = TcpStream::connect(through).await?.into_split();
    let writer = tokio::spawn(async move {
        to.write_all(&sent).await?;
        to.shutdown().await
    });
    let mut received = Vec::new();
    from.read_to_end(&mut received).await?;
    writer.await.expect("no panic")?;
    Ok(received)
}

/// Different for every connection and position.
fn content(connection: u32, bytes: u32) -> Vec<u8> {
    (0..bytes).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8 ^ connection as u8).collect()
}

#[tokio::test]
async fn connections_keep_their_bytes_apart_and_in_order() {
    let link = link_to(echo_server().await).await;
    let through = link.local_addr();
    let mut clients = JoinSet::new();
    for connection in 0..8 {
        clients.spawn(async move {
            let sent = content(connection, 300_000 + connection);
            let received = exchange(through, sent.clone()).await.expect("echoed");
            assert!(received == sent, "connection {connection} got other bytes back");
        });
    }
    clients.join_all().await;
    let counters = link.control().counters();
    assert_eq!((counters.connections, counters.up_bytes, counters.down_bytes), (8, 2_400_028, 2_400_028));
}

#[tokio::test]
async fn a_closed_half_leaves_the_other_open() {
    let (listener, link) = listener_and_link().await;
    let (mut near, mut far) = pair(&listener, &link).await;
    near.write_all(b"question").await.expect("open");
    near.shutdown().await.expect("open");
    let mut question = String::new();
    far.read_to_string(&mut question).await.expect("closed in order");
    far.write_all(b"answer").await.expect("still open");
    drop(far);
    let mut answer = String::new();
    near.read_to_string(&mut answer).await.expect("closed in order");
    assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
}

#[tokio::test]
async fn a_reset_reaches_the_other_end() {
    let (listener, link) = listener_and_link().await;
    let (near, mut far) = pair(&listener, &link).await;
    near.set_zero_linger().expect("a socket");
    drop(near);
    assert_reset(&mut far).await;
}

#[tokio::test]
async fn where_nobody_listens_connections_are_reset() {
    let listener = TcpListener::bind(LOOPBACK).await.expect("a free port");
    let link = link_to(listener.local_addr().expect("bound")).await;
    drop(listener);
    let mut near = TcpStream::connect(link.local_addr()).await.expect("the link listens");
    assert_reset(&mut near).await;
}

#[tokio::test]
async fn a_cut_link_drops_what_is_open_and_what_comes() {
    let (listener, link) = listener_and_link().await;
    let (mut near, mut far) = pair(&listener, &link).await;
    link.control().cut();
    assert_reset(&mut near).await;
    assert_reset(&mut far).await;
    let mut refused = TcpStream::connect(link.local_addr()).await.expect("the port stays taken");
    assert_reset(&mut refused).await;

    link.control().restore();
    let (mut near, mut far) = pair(&listener, &link).await;
    near.write_all(b"back").await.expect("open");
    let mut received = [0; 4];
    far.read_exact(&mut received).await.expect("delivered");
    assert_eq!(&received, b"back");
    assert_eq!(link.control().counters().connections, 2, "a refused connection is not counted");
}

#[tokio::test]
async fn a_cut_counts_even_if_restored_at_once() {
    let (listener, link) = listener_and_link().await;
    let (mut near, _far) = pair(&listener, &link).await;
    link.control().cut();
    link.control().restore();
    assert_reset(&mut near).await;
}

#[tokio::test]
async fn a_stalled_link_accepts_and_delivers_later() {
    let link = link_to(echo_server().await).await;
    link.control().stall();
    let client = tokio::spawn(exchange(link.local_addr(), b"patience".to_vec()));
    while link.control().counters().connections == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(link.control().counters().up_bytes, 0);
    link.control().restore();
    assert_eq!(client.await.expect("no panic").expect("echoed"), b"patience");
}

#[tokio::test]
async fn shutdown_waits_for_those_who_finish_and_resets_the_rest() {
    let (listener, link) = listener_and_link().await;
    let (mut near, _far) = pair(&listener, &link).await;
    let address = link.local_addr();
    link.shutdown(Duration::from_millis(20)).await;
    assert_reset(&mut near).await;
    let error = TcpStream::connect(address).await.expect_err("nobody listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn shutdown_lets_an_exchange_finish() {
    let link = link_to(echo_server().await).await;
    let (mut from, mut to) = TcpStream::connect(link.local_addr()).await.expect("the link listens").into_split();
    to.write_all(b"last ").await.expect("open");
    from.read_exact(&mut [0; 5]).await.expect("echoed");
    let stopping = tokio::spawn(link.shutdown(Duration::from_secs(60)));
    to.write_all(b"words").await.expect("open");
    to.shutdown().await.expect("open");
    let mut received = String::new();
    from.read_to_string(&mut received).await.expect("closed in order");
    assert_eq!(received, "words");
    stopping.await.expect("no panic");
}

#[tokio::test]
async fn delays_beyond_reason_are_refused() {
    let spec = LinkSpec { rtt: Duration::MAX, ..spec() };
    let error = Link::start(LOOPBACK, "127.0.0.1:1", spec).await.expect_err("out of range");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

async fn assert_reset(stream: &mut TcpStream) {
    let error = stream.read(&mut [0; 16]).await.expect_err("the connection was closed in order");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
