//! Accept loops: bounds, back-off, and how they end.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream as Socket;
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};

use super::super::tests_support::{Answers, End, echo, full, pieces};
use super::super::{Received, bind, bind_one};
use super::*;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";

struct Server {
    addr: SocketAddr,
    connections: Arc<Connections>,
    drain: Drain,
    workers: Workers,
}

impl Server {
    fn start<H: Handler>(settings: Settings, make: impl Fn() -> H + Send + Sync + 'static) -> Self {
        let drain = Drain::new();
        Self::start_in(settings, drain, |_| {}, make)
    }

    fn start_in<H: Handler>(
        settings: Settings,
        drain: Drain,
        before: impl FnOnce(SocketAddr),
        make: impl Fn() -> H + Send + Sync + 'static,
    ) -> Self {
        let settings = Settings {
            listen: vec![([127, 0, 0, 1], 0).into()],
            workers: 2,
            ..settings
        };
        let listeners = bind(&settings).unwrap();
        let addr = listeners.addrs()[0];
        before(addr);
        let connections =
            Connections::new(settings.max_connections, settings.max_connections_per_ip);
        let workers = start(listeners, &settings, &connections, &drain, move |_| make()).unwrap();
        Self {
            addr,
            connections,
            drain,
            workers,
        }
    }

    fn connect(&self) -> Socket {
        connect(self.addr)
    }

    /// Asks, and waits until the server has noticed that its answer is written.
    fn ask(&self, socket: &mut Socket, idle: usize) {
        ask(socket);
        while self.connections.idle() != idle {
            std::thread::yield_now();
        }
    }

    fn stopped(self) {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.workers.stopped());
    }
}

fn connect(addr: SocketAddr) -> Socket {
    let socket = Socket::connect(addr).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    socket
}

/// Asks and reads the answer; the connection stays.
fn ask(socket: &mut Socket) -> String {
    socket.write_all(GET).unwrap();
    let mut got = Vec::new();
    while !got.ends_with(b"/a 0\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        got.push(byte[0]);
    }
    String::from_utf8(got).unwrap()
}

fn rest(socket: &mut Socket) -> std::io::Result<String> {
    let mut got = String::new();
    socket.read_to_string(&mut got).map(|_| got)
}

#[test]
fn workers_share_a_port_and_end_with_the_stop() {
    let server = Server::start(Settings::default(), echo);
    let mut sockets: Vec<_> = (0..20).map(|_| server.connect()).collect();
    for socket in &mut sockets {
        assert!(ask(socket).starts_with("HTTP/1.1 200"));
    }
    assert_eq!(
        (server.connections.open(), server.connections.accepted()),
        (20, 20)
    );
    let (addr, connections) = (server.addr, Arc::clone(&server.connections));
    server.drain.stop(Instant::now() + Duration::from_secs(30));
    server.stopped();
    for socket in &mut sockets {
        assert_eq!(rest(socket).unwrap(), "");
    }
    assert_eq!(connections.open(), 0);
    assert_eq!(
        Socket::connect(addr).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

#[test]
fn what_waits_in_the_queue_at_the_stop_is_served() {
    let drain = Drain::new();
    let mut sockets = Vec::new();
    let fill = |addr| {
        for _ in 0..20 {
            let mut socket = connect(addr);
            socket.write_all(GET).unwrap();
            sockets.push(socket);
        }
        // Said before anything was accepted.
        drain.stop(Instant::now() + Duration::from_secs(30));
    };
    let server = Server::start_in(Settings::default(), drain.clone(), fill, echo);
    server.stopped();
    for socket in &mut sockets {
        assert!(rest(socket).unwrap().ends_with("/a 0\n"));
    }
}

#[test]
fn a_second_stop_ends_at_once() {
    let handler = || {
        Answers(|_: Request<Received>| -> BoxFuture<'static, _> {
            Box::pin(std::future::pending())
        })
    };
    let server = Server::start(Settings::default(), handler);
    let mut socket = server.connect();
    socket.write_all(GET).unwrap();
    server
        .drain
        .stop(Instant::now() + Duration::from_secs(3600));
    server.drain.stop(Instant::now());
    server.stopped();
    assert!(!matches!(rest(&mut socket), Ok(got) if !got.is_empty()));
}

#[test]
fn at_max_connections_the_longest_idle_one_is_closed() {
    let settings = Settings {
        max_connections: 2,
        ..Settings::default()
    };
    let server = Server::start(settings, echo);
    let mut first = server.connect();
    server.ask(&mut first, 1);
    let mut second = server.connect();
    server.ask(&mut second, 2);
    let mut third = server.connect();
    server.ask(&mut third, 2);
    assert_eq!(rest(&mut first).unwrap(), "");
    ask(&mut second);
    assert_eq!(
        (
            server.connections.open(),
            server.connections.closed_for_room()
        ),
        (2, 1)
    );
}

#[test]
fn one_address_beyond_its_share_is_closed_at_accept() {
    let settings = Settings {
        max_connections_per_ip: 2,
        ..Settings::default()
    };
    let server = Server::start(settings, echo);
    let mut first = server.connect();
    ask(&mut first);
    let mut second = server.connect();
    ask(&mut second);
    assert_eq!(rest(&mut server.connect()).unwrap(), "");
    assert_eq!(server.connections.refused_per_ip(), 1);
    ask(&mut first);
}

#[test]
fn an_answer_without_length_that_breaks_off_is_a_reset() {
    let broken = || {
        Answers(|_: Request<Received>| -> BoxFuture<'static, _> {
            Box::pin(async { Response::new(pieces(vec!["part"], End::Error)) })
        })
    };
    let server = Server::start(Settings::default(), broken);
    let mut socket = server.connect();
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(
        rest(&mut socket).unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
}

#[test]
fn a_client_that_still_sends_can_read_the_refusal() {
    let refusing = || {
        Answers(|_: Request<Received>| -> BoxFuture<'static, _> {
            Box::pin(async { Response::builder().status(413).body(full("no\n")).unwrap() })
        })
    };
    let server = Server::start(Settings::default(), refusing);
    for head in [
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8388608\r\n\r\n",
        "POST / HTTP/1.1\r\nbroken head\r\n\r\n",
    ] {
        let mut socket = server.connect();
        socket.write_all(head.as_bytes()).unwrap();
        // All of it before the first look at the answer, as simple clients do.
        socket.write_all(&vec![b'x'; 8 << 20]).unwrap();
        let got = rest(&mut socket).unwrap();
        assert!(got.starts_with("HTTP/1.1 4"), "{got}");
    }
}

#[test]
fn a_client_that_shuts_its_side_at_once_is_answered() {
    let server = Server::start(Settings::default(), echo);
    for _ in 0..20 {
        let mut socket = server.connect();
        socket.write_all(&GET.repeat(2)).unwrap();
        socket.shutdown(std::net::Shutdown::Write).unwrap();
        let start = std::time::Instant::now();
        assert_eq!(rest(&mut socket).unwrap().matches("/a 0\n").count(), 2);
        assert!(start.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn connections_inherit_what_the_listener_was_set_to() {
    let listener = bind_one("test", ([127, 0, 0, 1], 0).into()).unwrap();
    let _client = connect(listener.local_addr().unwrap());
    listener.set_nonblocking(false).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    assert!(accepted.nodelay().unwrap());
    assert!(SockRef::from(&accepted).keepalive().unwrap());
}

#[tokio::test]
async fn the_control_plane_serves_a_listener_on_its_own_runtime() {
    let listener = bind_one("test", ([127, 0, 0, 1], 0).into()).unwrap();
    let addr = listener.local_addr().unwrap();
    let (connections, drain) = (Connections::new(10, 0), Drain::new());
    let serving = tokio::spawn({
        let (connections, drain) = (Arc::clone(&connections), drain.clone());
        async move {
            let settings = Settings::default();
            serve_on_current_runtime(listener, Arc::new(echo()), &settings, &connections, &drain)
                .await
        }
    });
    let asked = tokio::task::spawn_blocking(move || ask(&mut connect(addr)));
    assert!(asked.await.unwrap().starts_with("HTTP/1.1 200"));
    drain.stop(Instant::now());
    serving.await.unwrap().unwrap();
}
