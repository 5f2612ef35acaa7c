//! The emulated link at `/link`: there where an edge has one, and nowhere else.

use std::sync::Arc;

use axum::{Router, http::StatusCode};
use collm_http::{Api, router};
use collm_link::{Link, LinkSpec};
use serde_json::{Value, json};

use crate::edge::{Letters, answer, api, card, defaults, edge, get, post, refused, text};

async fn linked(keys: &[&str]) -> (Router, Link) {
    let spec = LinkSpec { up: "30mbit".parse().expect("a bandwidth"), ..LinkSpec::PERFECT };
    // Nobody connects: where it leads does not matter.
    let link = Link::start("127.0.0.1:0", "127.0.0.1:1", spec).await.expect("a free port");
    let api = Api::new(edge().await, Arc::new(Letters::new()), card(), defaults())
        .with_keys(keys.iter().map(ToString::to_string))
        .with_emulated_link(link.control().clone());
    (router(api), link)
}

async fn shown(api: &Router) -> Value {
    serde_json::from_str(&text(get(api, "/link").await).await).expect("JSON")
}

#[tokio::test]
async fn it_is_cut_and_restored() {
    let (api, link) = linked(&[]).await;
    assert_eq!(shown(&api).await, json!({"cut": false, "rtt_ms": 0.0, "up": "30mbit", "down": "unlimited"}));
    for cut in [true, false] {
        assert_eq!(answer(&api, "/link", json!({ "cut": cut })).await["cut"], cut);
        assert_eq!((shown(&api).await["cut"].as_bool(), link.control().is_cut()), (Some(cut), cut));
        let props: Value = serde_json::from_str(&text(get(&api, "/props").await).await).expect("JSON");
        assert_eq!(props["link"]["cut"], cut);
    }
}

#[tokio::test]
async fn what_it_is_asked_is_said_in_full() {
    let (api, link) = linked(&[]).await;
    for body in [json!({}), json!({"cut": "yes"}), json!({"cut": true, "for": "ever"})] {
        let (status, code, _) = refused(post(&api, "/link", body.to_string()).await).await;
        assert_eq!((status, code.as_str()), (StatusCode::BAD_REQUEST, "invalid_request"), "{body}");
    }
    assert!(!link.control().is_cut());
}

#[tokio::test]
async fn it_is_for_those_who_may_ask() {
    let (api, link) = linked(&["secret"]).await;
    assert_eq!(get(&api, "/link").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(post(&api, "/link", r#"{"cut": true}"#).await.status(), StatusCode::UNAUTHORIZED);
    assert!(!link.control().is_cut());
}

#[tokio::test]
async fn a_real_way_to_the_cloud_cannot_be_cut() {
    let api = api().await;
    assert_eq!(get(&api, "/link").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(post(&api, "/link", r#"{"cut": true}"#).await.status(), StatusCode::NOT_FOUND);
    assert!(!text(get(&api, "/props").await).await.contains("link"));
}
