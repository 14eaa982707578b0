//! One connection: its times, its ends, what stays in flight.

use futures_util::future::BoxFuture;
use http::StatusCode;
use http_body_util::BodyExt as _;
use tokio::time::advance;

use super::super::tests_support::{Answers, Client, End, TestBody, echo, full, pieces};
use super::*;

const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345";

fn settings() -> Settings {
    Settings::default()
}

fn streams() -> Settings {
    Settings {
        stream_idle_timeout: Duration::from_secs(5),
        ..settings()
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A handler that leaves the body unread and answers what `make` makes.
fn answering(make: impl Fn() -> TestBody + Send + Sync + 'static) -> impl Handler {
    Answers(move |_| -> BoxFuture<'static, _> {
        let response = Response::new(make());
        Box::pin(async move { response })
    })
}

/// A handler that thinks for so long.
fn thinking(time: Duration) -> impl Handler {
    Answers(move |request: Request<Received>| -> BoxFuture<'static, _> {
        Box::pin(async move {
            let _ = request.into_body().collect().await;
            tokio::time::sleep(time).await;
            Response::new(full("done\n"))
        })
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_nothing_is_closed_after_header_read_timeout() {
    let start = Instant::now();
    let mut client = Client::connect(&settings(), echo());
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 10);
    assert_eq!(client.connections.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_dribbles_in_is_closed_after_header_read_timeout() {
    let start = Instant::now();
    let mut client = Client::connect(&settings(), echo());
    client.settle().await;
    for byte in GET.bytes().take(9) {
        client.send([byte]).await;
        advance(seconds(1)).await;
    }
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_later_head_has_header_read_timeout_from_its_first_byte() {
    let mut client = Client::connect(&settings(), echo());
    client.send(GET).await;
    client.read_until("/a 0\n").await;
    advance(seconds(60)).await;
    client.settle().await;
    let start = Instant::now();
    client.send("G").await;
    client.settle().await;
    advance(seconds(6)).await;
    client.send("E").await;
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_idle_timeout_after_its_last_answer() {
    let mut client = Client::connect(&settings(), echo());
    client.send(GET).await;
    client.read_until("/a 0\n").await;
    client.settle().await;
    advance(seconds(70)).await;
    client.send(GET).await;
    client.read_until("/a 0\n").await;
    let start = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn no_time_of_ours_runs_while_the_handler_thinks() {
    for settings in [settings(), streams()] {
        let mut client = Client::connect(&settings, thinking(seconds(1000)));
        client.send(POST).await;
        client.settle().await;
        client.send("67890").await;
        assert!(
            client
                .read_until("done\n")
                .await
                .starts_with("HTTP/1.1 200")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_answered_in_order() {
    let mut client = Client::connect(&settings(), echo());
    let requests = ["/1", "/2", "/3"].map(|path| GET.replace("/a", path));
    client.send(requests.concat()).await;
    for path in ["/1", "/2", "/3"] {
        client.read_until(&format!("\r\n\r\n{path} 0\n")).await;
    }
    assert_eq!(client.slot.phase(), Phase::Idle);
    client.send(POST).await;
    client.send("67890GET /b HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.read_until("/p 10\n").await;
    client.read_until("/b 0\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_flight_until_its_answer_is_written() {
    let mut client = Client::connect(&settings(), answering(|| pieces(vec!["a"], End::Never)));
    client.send(GET).await;
    client.read_until("a\r\n").await;
    assert_eq!(client.slot.idle_since(), None);
    advance(seconds(1000)).await;
    client.settle().await;
    assert!(!client.served.is_finished());

    // More than the wire holds: the body has ended long before it is written.
    let large = || full(vec![b'x'; 1 << 20]);
    let mut client = Client::connect(&settings(), answering(large));
    client.send(GET).await;
    client.read_until("\r\n\r\n").await;
    client.settle().await;
    assert_eq!(client.slot.idle_since(), None);
    let mut rest = vec![0; 1 << 20];
    tokio::io::AsyncReadExt::read_exact(&mut client.wire, &mut rest)
        .await
        .unwrap();
    client.settle().await;
    assert!(client.slot.idle_since().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_body_still_read_after_its_answer_is_in_flight() {
    let early = Answers(|request: Request<Received>| -> BoxFuture<'static, _> {
        tokio::spawn(request.into_body().collect());
        Box::pin(async { Response::new(full("early\n")) })
    });
    let mut client = Client::connect(&settings(), early);
    client.send(POST).await;
    client.read_until("early\n").await;
    for byte in [b'6', b'7', b'8', b'9'] {
        client.settle().await;
        assert_eq!(client.slot.idle_since(), None);
        advance(seconds(100)).await;
        client.send([byte]).await;
    }
    client.send("0").await;
    client.settle().await;
    assert_eq!(client.slot.phase(), Phase::Idle);
    let start = Instant::now();
    client.send(GET).await;
    client.read_until("early\n").await;
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 75);
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_head_leaves_the_connection_idle() {
    let mut client = Client::connect(&settings(), echo());
    client.send(GET.replace("GET", "HEAD")).await;
    client.read_until("\r\n\r\n").await;
    client.settle().await;
    assert_eq!(client.slot.phase(), Phase::Idle);
    client.send(GET).await;
    client.read_until("/a 0\n").await;
}

#[tokio::test(start_paused = true)]
async fn a_request_body_that_stops_is_ended_by_stream_idle_timeout() {
    let mut client = Client::connect(&streams(), echo());
    client.send(POST).await;
    client.settle().await;
    advance(seconds(4)).await;
    client.send("6").await;
    client.settle().await;
    let start = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 5);

    let mut client = Client::connect(&settings(), echo());
    client.send(POST).await;
    client.settle().await;
    advance(seconds(100_000)).await;
    client.settle().await;
    client.send("67890").await;
    client.read_until("/p 10\n").await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_is_ended_by_stream_idle_timeout() {
    let silent = || answering(|| pieces(vec!["a"], End::Never));
    let mut client = Client::connect(&streams(), silent());
    client.send(GET).await;
    client.read_until("a\r\n").await;
    let start = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 5);

    // A client that does not read.
    let mut client = Client::connect(&streams(), answering(|| full(vec![b'x'; 1 << 20])));
    client.send(GET).await;
    let start = Instant::now();
    (&mut client.served).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_never_looks_whole() {
    let broken = || answering(|| pieces(vec!["part"], End::Error));
    let mut client = Client::connect(&settings(), broken());
    client.send(GET).await;
    let got = client.read_to_end().await;
    assert!(got.ends_with("4\r\npart\r\n"), "{got}");
    assert!(!client.was_reset());

    let mut client = Client::connect(&settings(), broken());
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    let got = client.read_to_end().await;
    assert!(got.ends_with("\r\n\r\npart"), "{got}");
    assert!(client.was_reset());
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_to_http_1_0_ends_in_order() {
    let mut client = Client::connect(&settings(), answering(|| pieces(vec!["all"], End::Whole)));
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert!(client.read_to_end().await.ends_with("\r\n\r\nall"));
    (&mut client.served).await.unwrap();
    assert!(!client.was_reset());
}

#[tokio::test(start_paused = true)]
async fn an_answer_cut_by_the_deadline_resets_http_1_0() {
    let mut client = Client::connect(&settings(), answering(|| pieces(vec!["a"], End::Never)));
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    client.read_until("\r\n\r\na").await;
    client.drain.stop(Instant::now());
    client.connections.wake_all();
    assert_eq!(client.read_to_end().await, "");
    assert!(client.was_reset());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_came_as_http_1_0_is_framed_for_the_client() {
    let old = Answers(|_| -> BoxFuture<'static, _> {
        let mut response = Response::new(pieces(vec!["a"], End::Whole));
        *response.version_mut() = Version::HTTP_10;
        Box::pin(async move { response })
    });
    let mut client = Client::connect(&settings(), old);
    client.send(GET).await;
    let got = client.read_until("\r\n0\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 200"), "{got}");
}

#[tokio::test(start_paused = true)]
async fn after_an_answer_before_the_body_the_rest_is_thrown_away_within_bounds() {
    let refusing = || {
        Answers(|_| -> BoxFuture<'static, _> {
            let mut response = Response::new(full("no\n"));
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            Box::pin(async move { response })
        })
    };
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n";
    let mut client = Client::connect(&settings(), refusing());
    client.send(head).await;
    client.settle().await;
    for _ in 0..100 {
        client.send([b'x'; 10_000]).await; // would fail if the other side were closed
    }
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 413"));
    let start = Instant::now();
    (&mut client.served).await.unwrap();
    assert_eq!(start.elapsed().as_secs(), 2);

    let mut client = Client::connect(&settings(), refusing());
    client.send(head).await;
    client.read_to_end().await;
    let sent = tokio::io::copy(&mut tokio::io::repeat(b'x'), &mut client.wire).await;
    assert!(sent.is_err(), "a client that sends for ever is cut off");
    assert_eq!(start.elapsed().as_secs(), 2);
}

#[tokio::test(start_paused = true)]
async fn heads_up_to_the_limits_pass_and_above_are_431() {
    let settings = Settings {
        max_header_bytes: 1000,
        max_headers: 10,
        ..settings()
    };
    let head = |bytes: usize| {
        let empty = "GET / HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n".len();
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n",
            "a".repeat(bytes - empty)
        )
    };
    let lines = |n: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{}\r\n",
            "A: b\r\n".repeat(n - 1)
        )
    };
    for (head, passes) in [
        (head(1000), true),
        (head(1001), false),
        (head(60_000), false),
        (lines(10), true),
        (lines(11), false),
    ] {
        let mut client = Client::connect(&settings, echo());
        client.send(&head).await;
        if passes {
            client.read_until("/ 0\n").await;
        } else {
            assert!(client.read_to_end().await.starts_with("HTTP/1.1 431"));
        }
    }
    // One byte too many without an end is not waited for.
    let mut client = Client::connect(&settings, echo());
    client.send(&head(2000).as_bytes()[..1001]).await;
    assert!(client.read_to_end().await.starts_with("HTTP/1.1 431"));
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_closed_for_room_serves_nothing_more() {
    let mut client = Client::connect(&settings(), echo());
    client.send(GET).await;
    client.read_until("/a 0\n").await;
    client.settle().await;
    client.connections.close_longest_idle();
    client.send(GET).await;
    let start = Instant::now();
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(client.connections.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_ends_its_request() {
    let (gone, went) = tokio::sync::oneshot::channel::<()>();
    let gone = std::sync::Mutex::new(Some(gone));
    let handler = Answers(move |_| -> BoxFuture<'static, _> {
        let gone = gone.lock().unwrap().take();
        Box::pin(async move {
            let _held = gone;
            std::future::pending().await
        })
    });
    let mut client = Client::connect(&settings(), handler);
    client.send(GET).await;
    client.settle().await;
    drop(client);
    assert!(went.await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_shuts_its_side_is_answered_for_a_second() {
    let requests = [GET.to_owned(), format!("{POST}67890"), GET.repeat(2)];
    for (request, answers) in requests.into_iter().zip([1, 1, 2]) {
        let start = Instant::now();
        let handler = thinking(Duration::from_millis(400));
        let mut client = Client::connect(&settings(), handler);
        client.send(request).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.wire)
            .await
            .unwrap();
        let got = client.read_to_end().await;
        assert_eq!(got.matches("done\n").count(), answers, "{got}");
        assert_eq!(start.elapsed().as_millis() / 100, 4 * answers as u128);
    }
    // Then the request ends, and a body that was not whole is known not to be.
    for (request, mut client, ending) in [
        (GET, Client::connect(&settings(), thinking(seconds(5))), ""),
        (
            POST,
            Client::connect(&settings(), echo()),
            "the body broke off\n",
        ),
    ] {
        let start = Instant::now();
        client.send(request).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.wire)
            .await
            .unwrap();
        let got = client.read_to_end().await;
        assert!(
            got.ends_with(ending) && got.is_empty() == ending.is_empty(),
            "{got}"
        );
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_handler_ends_its_connection_only() {
    let handler = Answers(|_| -> BoxFuture<'static, _> { Box::pin(async { panic!("a bug") }) });
    let mut client = Client::connect(&settings(), handler);
    client.send(GET).await;
    assert_eq!(client.read_to_end().await, "");
    assert_eq!(client.connections.open(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_draining_answers_close_the_connection() {
    let mut client = Client::connect(&settings(), echo());
    client.send(GET).await;
    client.read_until("/a 0\n").await;
    client.drain.begin();
    client.connections.wake_all();
    client.settle().await;
    assert!(
        !client.served.is_finished(),
        "idle ones stay until the stop"
    );
    client.send(GET).await;
    let got = client.read_to_end().await.to_lowercase();
    assert!(got.contains("\r\nconnection: close\r\n") && got.ends_with("/a 0\n"));
    (&mut client.served).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stop_closes_idle_connections_at_once() {
    let mut client = Client::connect(&settings(), echo());
    client.send(GET).await;
    client.read_until("/a 0\n").await;
    client.settle().await;
    let start = Instant::now();
    client.drain.stop(start + seconds(30));
    client.connections.wake_all();
    assert_eq!(client.read_to_end().await, "");
    assert!(start.elapsed() < seconds(1));
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_requests_in_flight_finish_until_the_deadline() {
    let start = Instant::now();
    let mut client = Client::connect(&settings(), thinking(seconds(20)));
    let mut late = Client::connect(&settings(), thinking(seconds(40)));
    for client in [&mut client, &mut late] {
        client.send(GET).await;
        client.settle().await;
        client.drain.stop(start + seconds(30));
        client.connections.wake_all();
    }
    let got = client.read_to_end().await.to_lowercase();
    assert!(got.contains("\r\nconnection: close\r\n") && got.ends_with("done\n"));
    assert_eq!(start.elapsed().as_secs(), 20);
    assert_eq!(late.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_came_with_the_stop_has_a_second_for_its_request() {
    let start = Instant::now();
    let mut client = Client::connect(&settings(), echo());
    let mut silent = Client::connect(&settings(), echo());
    for client in [&client, &silent] {
        client.drain.stop(start + seconds(30));
        client.connections.wake_all();
    }
    client.send(GET).await;
    assert!(client.read_to_end().await.ends_with("/a 0\n"));
    assert_eq!(silent.read_to_end().await, "");
    assert_eq!(start.elapsed().as_secs(), 1);
}
