//! Listening, watching, and who may ask.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, StatusCode},
};
use collm_http::{Api, ServeError, router, serve};
use collm_node::access::Access;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

use tower::ServiceExt;

use crate::edge::{Letters, api, api_of, card, defaults, edge, get, post, refused, text};

#[tokio::test]
async fn watchers_learn_how_it_is() {
    let edge = edge().await;
    let api = api_of(edge.clone());
    assert_eq!(get(&api, "/health").await.status(), StatusCode::OK);
    let ready = get(&api, "/ready").await;
    assert_eq!(ready.status(), StatusCode::OK);
    assert_eq!(text(ready).await, r#"{"status":"ready","cloud":"none"}"#);
    assert_eq!(text(get(&api, "/metrics").await).await, "collm_up 1\n");
    edge.drain().await;
    // The driver has told the drain of its end before its queue closes.
    while get(&api, "/ready").await.status() == StatusCode::OK {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&api, "/health").await.status(), StatusCode::OK);
    let (status, code, _) = refused(post(&api, "/v1/generate", json!({"prompt": "A"}).to_string()).await).await;
    assert_eq!((status, code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "stopping"));
}

#[tokio::test]
async fn it_serves_until_told_to_stop() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(serve(listener, api().await, Access::default(), async { drop(stopped.await) }));
    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.write_all(b"GET /health HTTP/1.1\r\nhost: collm\r\nconnection: close\r\n\r\n").await.expect("it reads");
    let mut reply = String::new();
    client.read_to_string(&mut reply).await.expect("it answers");
    assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.ends_with("ok"), "{reply}");
    stop.send(()).expect("it runs");
    serving.await.expect("no panic").expect("it stops");
}

#[tokio::test]
async fn it_is_not_exposed_by_accident() {
    let listener = TcpListener::bind("0.0.0.0:0").await.expect("a free port");
    let served = serve(listener, api().await, Access::default(), std::future::pending()).await;
    assert!(matches!(served, Err(ServeError::Exposed(_))));
}

fn ask(method: &str, path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::empty()).expect("a request")
}

async fn guarded() -> Router {
    let keys = ["first".to_owned(), "second".to_owned()];
    router(Api::new(edge().await, Arc::new(Letters::new()), card(), defaults()).with_keys(keys))
}

#[tokio::test]
async fn keys_are_asked_for() {
    let api = guarded().await;
    let status = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        api.clone().oneshot(ask(method, path, headers)).await.expect("infallible").status()
    };
    for key in ["Bearer first", "bearer second"] {
        assert_eq!(status("GET", "/v1/models", &[("authorization", key)]).await, StatusCode::OK, "{key}");
    }
    for wrong in ["Bearer third", "Bearer firs", "Bearer firstt", "Bearer ", "Basic first", "first"] {
        assert_eq!(status("GET", "/v1/models", &[("authorization", wrong)]).await, StatusCode::UNAUTHORIZED, "{wrong}");
    }
    for path in ["/v1/models", "/v1/models/letters", "/props", "/metrics"] {
        assert_eq!(status("GET", path, &[]).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/v1/chat/completions", "/v1/completions", "/v1/generate", "/tokenize", "/detokenize"] {
        assert_eq!(status("POST", path, &[]).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    for path in ["/health", "/ready"] {
        assert_eq!(status("GET", path, &[]).await, StatusCode::OK, "{path}");
    }
    let (_, code, message) = refused(get(&api, "/v1/models").await).await;
    assert_eq!(code, "invalid_api_key");
    assert!(message.contains("Authorization: Bearer"));
}

#[tokio::test]
async fn requests_have_names() {
    let api = api().await;
    let given = api.clone().oneshot(ask("GET", "/health", &[("x-request-id", "mine")])).await.expect("infallible");
    assert_eq!(given.headers()["x-request-id"], "mine");
    let (one, other) = (get(&api, "/health").await, get(&api, "/nowhere").await);
    assert_ne!(one.headers()["x-request-id"], other.headers()["x-request-id"]);
}

#[tokio::test]
async fn only_pages_of_known_origins_may_ask() {
    let origin = "https://known.example";
    let known = [HeaderValue::from_static(origin)];
    let api = router(Api::new(edge().await, Arc::new(Letters::new()), card(), defaults()).with_origins(known));
    for (from, allowed) in [(origin, Some(origin)), ("https://stranger.example", None)] {
        let preflight = [("origin", from), ("access-control-request-method", "POST")];
        let response = api.clone().oneshot(ask("OPTIONS", "/v1/generate", &preflight)).await.expect("infallible");
        let answer = response.headers().get("access-control-allow-origin");
        assert_eq!(answer.map(|value| value.to_str().expect("text")), allowed, "{from}");
    }
}
