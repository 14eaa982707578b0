//! What the admin listener answers.

use super::*;

async fn ask(admin: &Admin, method: &str, path: &str) -> (u16, String, Option<String>) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .unwrap();
    let response = admin.answer(request).await;
    let allow = response.headers().get("allow");
    let allow = allow.map(|value| value.to_str().unwrap().to_owned());
    let body = String::from_utf8(response.body().to_vec()).unwrap();
    (response.status().as_u16(), body, allow)
}

#[tokio::test]
async fn it_is_ready_once_everything_is_up_and_not_while_draining() {
    let readiness = Readiness::new();
    let admin = Admin::new(Arc::clone(&readiness), Metrics::new());
    assert_eq!(ask(&admin, "GET", "/livez").await.0, 200);
    assert_eq!(
        ask(&admin, "GET", "/readyz").await.1,
        "waiting for the listeners\n"
    );
    readiness.listening();
    let (status, words, _) = ask(&admin, "GET", "/readyz").await;
    assert_eq!((status, words.as_str()), (503, "waiting for the store\n"));
    readiness.store_reached();
    assert_eq!(ask(&admin, "GET", "/readyz").await.0, 200);
    assert!(
        ask(&admin, "GET", "/metrics")
            .await
            .1
            .contains("\nsidegate_ready 1\n")
    );
    readiness.drain();
    let (status, words, _) = ask(&admin, "GET", "/readyz").await;
    assert_eq!((status, words.as_str()), (503, "draining\n"));
    assert_eq!(ask(&admin, "GET", "/livez").await.0, 200);
}

#[tokio::test]
async fn other_methods_are_405_with_allow_and_other_paths_404() {
    let admin = Admin::new(Readiness::new(), Metrics::new());
    for path in ["/livez", "/readyz", "/metrics"] {
        let (status, _, allow) = ask(&admin, "POST", path).await;
        assert_eq!(
            (status, allow.as_deref()),
            (405, Some("GET,HEAD")),
            "{path}"
        );
    }
    for path in ["/", "/livez/", "/v1/clients"] {
        assert_eq!(ask(&admin, "GET", path).await.0, 404, "{path}");
    }
    assert_eq!(ask(&admin, "HEAD", "/livez").await.0, 200);
}
