//! The page at `/`: a conversation with the edge that shows where every token came from.
//!
//! Its files are in `static/` as the browser gets them: HTML, CSS and JavaScript modules, compiled into the binary. It is a
//! client of `/v1/generate`, `/ready` and `/metrics` like any other. Deliberately absent: a build step, anything from other
//! hosts (the content security policy forbids it), and state of its own.

use axum::{
    Router,
    http::{
        HeaderName,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
            X_FRAME_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
    routing::get,
};

/// Nothing but this origin's own files and API, no inline code or style, no text made into markup, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// One file of the page.
#[derive(Debug, Clone, Copy)]
struct Asset {
    path: &'static str,
    media_type: &'static str,
    content: &'static str,
}

const ASSETS: &[Asset] = &[
    Asset { path: "/", media_type: HTML, content: include_str!("static/index.html") },
    Asset { path: "/page/page.css", media_type: CSS, content: include_str!("static/page.css") },
    Asset { path: "/page/icon.svg", media_type: SVG, content: include_str!("static/icon.svg") },
    Asset { path: "/page/main.js", media_type: JAVASCRIPT, content: include_str!("static/main.js") },
    Asset { path: "/page/answer.js", media_type: JAVASCRIPT, content: include_str!("static/answer.js") },
    Asset { path: "/page/charts.js", media_type: JAVASCRIPT, content: include_str!("static/charts.js") },
    Asset { path: "/page/edge.js", media_type: JAVASCRIPT, content: include_str!("static/edge.js") },
    Asset { path: "/page/format.js", media_type: JAVASCRIPT, content: include_str!("static/format.js") },
    Asset { path: "/page/link.js", media_type: JAVASCRIPT, content: include_str!("static/link.js") },
    Asset { path: "/page/tooltip.js", media_type: JAVASCRIPT, content: include_str!("static/tooltip.js") },
    Asset { path: "/page/transcript.js", media_type: JAVASCRIPT, content: include_str!("static/transcript.js") },
];

/// The page and its files.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    ASSETS.iter().fold(Router::new(), |router, &asset| router.route(asset.path, get(async move || asset)))
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let headers: [(HeaderName, &str); 6] = [
            (CONTENT_TYPE, self.media_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
            // The files belong to one binary and to each other: after an upgrade none may come from a cache unasked.
            (CACHE_CONTROL, "no-cache"),
        ];
        (headers, self.content).into_response()
    }
}
