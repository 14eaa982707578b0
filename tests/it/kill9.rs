//! `kill -9` at any moment loses nothing that was acknowledged (contract §10).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Backend, Call, Program, SECRET, Sidegate, program};

const TOKENS: &str = "/api/oauth2/server/tokens";

/// Issues tokens until the sidecar is gone and gives those that were acknowledged; every third is revoked.
async fn use_it(caller: Call, stop: Arc<AtomicBool>) -> (Vec<String>, Vec<String>) {
    let (mut live, mut revoked) = (Vec::new(), Vec::new());
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let target =
            format!("{TOKENS}?grant_type=client_credentials&client_id=demo&client_secret={SECRET}");
        let Some(answer) = caller.try_get(&target).await else {
            break;
        };
        let token = answer.json()["access_token"].as_str().unwrap().to_owned();
        if n % 3 != 0 {
            live.push(token);
            continue;
        }
        match caller
            .try_get(&format!("{TOKENS}/revoke?token={token}"))
            .await
        {
            Some(answer) => {
                assert_eq!(answer.json()["code"], 0);
                revoked.push(token);
            }
            // Perhaps done, perhaps not: nothing was said.
            None => break,
        }
    }
    (live, revoked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_token_works_after_the_restart_and_every_revoked_one_does_not() {
    let backend = Backend::recording().await;
    let mut sidecar = Sidegate::before(&backend)
        .client("demo", "sudo")
        .config("[rate_limits.failed-credentials]\nrate = \"100000/s\"\nburst = 100000\n")
        .spawn()
        .await;
    for _ in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut using = tokio::task::JoinSet::new();
        for _ in 0..8 {
            using.spawn(use_it(sidecar.call(), Arc::clone(&stop)));
        }
        crate::harness::eventually("tokens are issued", async || {
            sidecar
                .log("audit")
                .iter()
                .filter(|line| line["event"] == "token_issued")
                .count()
                > 60
        })
        .await;

        let folder = sidecar.kill().await;
        stop.store(true, Ordering::SeqCst);
        let acknowledged = using.join_all().await;

        sidecar = Program::serve(folder, program()).await;
        let mut count = 0;
        for (live, revoked) in acknowledged {
            for token in live {
                sidecar
                    .call()
                    .bearer(&token)
                    .get("/")
                    .await
                    .expect_status(200);
                count += 1;
            }
            for token in revoked {
                sidecar
                    .call()
                    .bearer(&token)
                    .get("/")
                    .await
                    .expect_refusal(401, "invalid_token");
            }
        }
        assert!(count > 10, "{count}");
    }
}

#[tokio::test]
async fn what_commands_did_survives_too_and_a_stale_socket_is_no_obstacle() {
    let backend = Backend::recording().await;
    let sidecar = Sidegate::before(&backend).spawn().await;
    let secret = sidecar
        .run(&["client", "add", "kept", "--scope", "read"])
        .await
        .expect_code(0);
    let token = sidecar
        .run(&["token", "issue", "--client", "kept"])
        .await
        .expect_code(0);
    let folder = sidecar.kill().await;
    assert!(folder.path().join("control.sock").exists());

    let sidecar = Program::serve(folder, program()).await;
    sidecar
        .call()
        .bearer(token.word())
        .get("/")
        .await
        .expect_status(200);
    let target = format!(
        "{TOKENS}?grant_type=client_credentials&client_id=kept&client_secret={}",
        secret.word()
    );
    sidecar.get(&target).await.expect_status(200);
    // Its socket took the name of the dead one.
    assert!(!folder_has(&sidecar, "control-2.sock"));
    sidecar.run(&["drain"]).await.expect_code(0);
}

fn folder_has(sidecar: &Program, name: &str) -> bool {
    sidecar.folder().join(name).exists()
}
