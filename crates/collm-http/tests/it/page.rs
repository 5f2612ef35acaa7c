//! The page's files as a browser gets them. What they do is tested in a browser, by `tests/browser/page.mjs`.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use axum::{
    Router,
    http::{
        HeaderMap, StatusCode,
        header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    },
};
use collm_http::{Api, router};

use crate::edge::{Letters, api, card, defaults, edge, get, text};

/// The name of a language, not a place to fetch from.
const SVG_NAMESPACE: &str = "http://www.w3.org/2000/svg";

struct File {
    headers: HeaderMap,
    content: String,
}

/// Every file that the page at `/` leads to, by path.
async fn crawl(api: &Router) -> BTreeMap<String, File> {
    let mut files = BTreeMap::new();
    let mut next = vec!["/".to_owned()];
    while let Some(path) = next.pop() {
        if files.contains_key(&path) {
            continue;
        }
        let response = get(api, &path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers().clone();
        let content = text(response).await;
        next.extend(references(&content));
        files.insert(path, File { headers, content });
    }
    files
}

/// What a file of the page loads: by attributes in HTML, by imports in JavaScript.
fn references(content: &str) -> Vec<String> {
    let after = |mark: &str| -> Vec<String> {
        content.split(mark).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())).collect()
    };
    let modules = after("from \"./").into_iter().map(|name| format!("/page/{name}"));
    [after(" src=\""), after(" href=\"")].concat().into_iter().chain(modules).collect()
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        None => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "js")) => "text/javascript; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        Some(_) => panic!("{path} is of a kind that the page does not have"),
    }
}

#[tokio::test]
async fn every_file_leads_from_the_page_and_says_what_it_is() {
    let files = crawl(&api().await).await;
    for (path, file) in &files {
        assert_eq!(file.headers[CONTENT_TYPE], media_type(path), "{path}");
        assert_eq!(file.headers[X_CONTENT_TYPE_OPTIONS], "nosniff", "{path}");
    }
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/static");
    assert_eq!(files.len(), fs::read_dir(sources).expect("the page's sources").count());
}

#[tokio::test]
async fn the_policy_admits_this_origin_alone() {
    for (path, file) in crawl(&api().await).await {
        let policy = file.headers[CONTENT_SECURITY_POLICY].to_str().expect("ASCII");
        let directives: Vec<(&str, &str)> = policy.split(';').filter_map(|part| part.trim().split_once(' ')).collect();
        assert!(directives.contains(&("default-src", "'none'")), "{path}: {policy}");
        assert!(directives.contains(&("script-src", "'self'")), "{path}: {policy}");
        let known = ["'none'", "'self'", "'script'"];
        assert!(directives.iter().all(|(_, sources)| known.contains(sources)), "{path}: {policy}");
    }
}

#[tokio::test]
async fn nothing_refers_to_another_host() {
    for (path, file) in crawl(&api().await).await {
        let content = file.content.replace(SVG_NAMESPACE, "");
        for mark in ["http:", "https:", "ws:", "wss:", "\"//", "'//", "url(", "@import"] {
            assert!(!content.contains(mark), "{path} has {mark}");
        }
    }
}

#[tokio::test]
async fn who_has_no_key_yet_can_load_it() {
    let api = Api::new(edge().await, Arc::new(Letters::new()), card(), defaults()).with_keys(["secret".to_owned()]);
    let api = router(api);
    assert_eq!(get(&api, "/props").await.status(), StatusCode::UNAUTHORIZED);
    crawl(&api).await;
}
