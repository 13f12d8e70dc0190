//! What costs the scaler something, and must not cost it without bound.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};
use tonic::Code;

use crate::keda::{Keda, scaler, trigger};
use crate::support::aws::FakeAws;

#[tokio::test]
async fn two_triggers_of_one_scaled_object_are_each_spoken_of_once() {
    let aws = FakeAws::with_table("orders", 1).await;
    aws.script().create_table("customers", 1);
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let (one, other) =
        (trigger("orders", &[("identityOwner", "operator")]), trigger("customers", &[("tlsCertFile", "x")]));
    let wrong = trigger("orders", &[("shardCount", "0")]);
    for _ in 0..5 {
        keda.spec(&one).await.unwrap();
        keda.spec(&other).await.unwrap();
        keda.spec(&wrong).await.expect_err("wrong");
    }
    let said = ["identityOwner", "tlsCertFile", "is refused"].map(|word| scaler.logged(word).len());
    assert_eq!(said, [1; 3], "{}", scaler.log_text());
}

#[tokio::test]
async fn a_table_is_looked_up_for_a_few_consumer_groups_at_most() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let mut keda = Keda::of(&scaler).await;
    let mut codes = Vec::new();
    let names: Vec<String> = (0..200).map(|n| format!("group-{n}")).collect();
    for group in &names {
        let of = trigger("orders", &[("metric", "lag"), ("consumerGroup", group)]);
        let answer = timeout(Duration::from_millis(100), keda.is_active(&of)).await;
        codes.push(answer.ok().and_then(Result::err).map(|status| status.code()));
    }
    let refused = codes.iter().filter(|code| **code == Some(Code::ResourceExhausted)).count();
    assert!(refused >= 100, "{refused} of 200 groups are refused");
    let groups = scaler.status().await["scaler"]["tables"][0]["positions"].as_object().unwrap().len();
    assert!(groups <= 100, "{groups}");
}

#[tokio::test]
async fn clients_that_begin_to_speak_and_fall_silent_do_not_keep_the_port() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let address = scaler.logged("listening")[1]["address"].as_str().unwrap().to_owned();
    let silent: Vec<TcpStream> = (0..256)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
            stream
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    let begun = Instant::now();
    loop {
        let mut keda = Keda::of(&scaler).await;
        let answer = timeout(Duration::from_secs(2), keda.spec(&trigger("orders", &[]))).await;
        if matches!(answer, Ok(Ok(_))) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "KEDA is not let in");
        sleep(Duration::from_millis(200)).await;
    }
    drop(silent);
}

#[tokio::test]
async fn a_stream_whose_client_vanishes_without_a_word_is_closed() {
    let aws = FakeAws::with_table("orders", 1).await;
    let scaler = scaler(&aws).await;
    let address = scaler.logged("listening")[1]["address"].as_str().unwrap().to_owned();
    let line = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut keda = Keda::at(&format!("http://{}", line.local_addr().unwrap()));
    let passing = tokio::spawn(async move {
        let (mut client, mut server) =
            (line.accept().await.unwrap().0, tokio::net::TcpStream::connect(address).await.unwrap());
        let _ = timeout(Duration::from_secs(3), tokio::io::copy_bidirectional(&mut client, &mut server)).await;
        // Both connections stay, and nothing passes.
        std::future::pending::<()>().await;
        drop((client, server));
    });
    let mut stream = keda.stream(&trigger("orders", &[])).await;
    assert!(stream.message().await.unwrap().unwrap().result);
    assert!(scaler.metric("scaler_streams", &[]).await == 1.0);
    sleep(Duration::from_secs(3)).await;
    assert!(scaler.metric("scaler_streams", &[]).await == 1.0);
    let begun = Instant::now();
    while scaler.metric("scaler_streams", &[]).await != 0.0 {
        assert!(begun.elapsed() < Duration::from_secs(70), "it is kept for ever");
        sleep(Duration::from_secs(1)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(10), "the line was not silent but closed");
    passing.abort();
}
