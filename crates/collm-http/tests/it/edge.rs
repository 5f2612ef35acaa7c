//! The edge under test, whose model writes letters, and how to ask it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header::CONTENT_TYPE},
};
use collm_core::{
    blocks::Blocks,
    edge::{BreakerConfig, EdgeConfig, SecondStage},
    frame::Identity,
    ids::TokenId,
    limits::Limits,
    policy::{Mode, Threshold},
    upload::UploadSettings,
};
use collm_engine::scripted::{Script, ScriptedEngine, Sizes, WIDTH};
use collm_http::{Api, ChatMessage, Defaults, Markup, ModelCard, TextModel, TextModelError, TokenizerInfo, router};
use collm_node::{EdgeHandle, EdgeNode, EdgeOptions, text::Vocabulary};
use serde_json::Value;
use tower::ServiceExt;

pub(crate) const VOCABULARY: u32 = 64;
pub(crate) const CONTEXT: u32 = 128;

/// Tokens are letters: token 1 is `A`, 26 is `Z`, and so on; token 0 ends a turn.
pub(crate) struct Letters(Vec<u8>);

impl Letters {
    pub(crate) fn new() -> Self {
        Self((0..VOCABULARY as u8).map(|token| b'@' + token).collect())
    }
}

impl Vocabulary for Letters {
    fn token_bytes(&self, token: TokenId) -> &[u8] {
        std::slice::from_ref(&self.0[token.0 as usize])
    }

    fn is_end(&self, token: TokenId) -> bool {
        token.0 == 0
    }
}

impl TextModel for Letters {
    fn render_chat(&self, messages: &[ChatMessage]) -> Result<String, TextModelError> {
        match messages {
            [] => Err(TextModelError("there are no messages".into())),
            messages => Ok(messages.iter().map(|message| message.content.as_str()).collect()),
        }
    }

    fn tokenize(&self, text: &str, _markup: Markup) -> Result<Vec<TokenId>, TextModelError> {
        let token = |letter: u8| letter.checked_sub(b'@').filter(|token| u32::from(*token) < VOCABULARY);
        let tokens: Option<_> = text.bytes().map(|letter| token(letter).map(|token| TokenId(token.into()))).collect();
        tokens.ok_or_else(|| TextModelError("only letters".into()))
    }

    fn tokenize_bare(&self, text: &str, markup: Markup) -> Result<Vec<TokenId>, TextModelError> {
        self.tokenize(text, markup)
    }

    fn tokenizer(&self) -> TokenizerInfo {
        TokenizerInfo { eos_token: Some("@".into()), ..TokenizerInfo::default() }
    }

    fn end_tokens(&self) -> &[TokenId] {
        &[TokenId(0)]
    }
}

pub(crate) async fn edge() -> EdgeHandle {
    start(|engine| engine).await
}

/// Whose engine fails at the call with this number, the first being 0.
pub(crate) async fn failing_edge(call: u64) -> EdgeHandle {
    start(move |engine| engine.failing_at(call)).await
}

async fn start(adapt: impl FnOnce(ScriptedEngine) -> ScriptedEngine + Send + 'static) -> EdgeHandle {
    let script = Script { turn_ends: 0.0, ..Script::default() };
    let sizes = Sizes { slots: 2, context: CONTEXT as usize, batch_rows_max: 32 };
    let options = EdgeOptions { config: config(), judges: Default::default(), cloud: None, limits: Limits::DEFAULT };
    let engine = move || Ok::<_, Infallible>(adapt(ScriptedEngine::edge(script, sizes)));
    EdgeNode::start(options, engine).await.expect("a scripted engine always loads")
}

pub(crate) fn config() -> EdgeConfig {
    let identity = Identity {
        pair: "5c".repeat(8),
        source: "a0".repeat(32),
        upload_at: 10,
        width: WIDTH as u32,
        vocabulary: VOCABULARY,
    };
    EdgeConfig {
        identity,
        second: SecondStage::Tail,
        has_exit1: true,
        has_cloud: false,
        layers: 30,
        context: CONTEXT,
        slots: 2,
        waiting_max: 2,
        job_rows_max: 32,
        first_job_rows: 32,
        blocks: Blocks::new(8, 0),
        keep: Duration::from_secs(60),
        upload_rows_max: 32,
        upload: UploadSettings::PAPER,
        ask_deadline: Duration::from_secs(60),
        breaker: BreakerConfig::default(),
    }
}

pub(crate) async fn api() -> Router {
    api_of(edge().await)
}

pub(crate) fn api_of(edge: EdgeHandle) -> Router {
    router(Api::new(edge, Arc::new(Letters::new()), card(), defaults()).with_metrics(|| "collm_up 1\n".into()))
}

pub(crate) fn card() -> ModelCard {
    ModelCard { name: "letters".into(), context: CONTEXT }
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        mode: Mode::Standalone,
        thresholds: Threshold::DEFAULT.into(),
        calibrated: None,
        budget: None,
        threshold_min: Threshold::ALWAYS,
        tokens_max: 10,
    }
}

pub(crate) async fn get(api: &Router, path: &str) -> Response<Body> {
    let request = Request::get(path).body(Body::empty()).expect("a request");
    api.clone().oneshot(request).await.expect("infallible")
}

pub(crate) async fn post(api: &Router, path: &str, body: impl Into<Body>) -> Response<Body> {
    let request = Request::post(path).header(CONTENT_TYPE, "application/json");
    api.clone().oneshot(request.body(body.into()).expect("a request")).await.expect("infallible")
}

pub(crate) async fn text(response: Response<Body>) -> String {
    let bytes = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

pub(crate) async fn answer(api: &Router, path: &str, body: Value) -> Value {
    let response = post(api, path, body.to_string()).await;
    let status = response.status();
    let text = text(response).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    serde_json::from_str(&text).expect("JSON")
}

pub(crate) async fn refused(response: Response<Body>) -> (StatusCode, String, String) {
    let status = response.status();
    let body: Value = serde_json::from_str(&text(response).await).expect("JSON");
    let part = |name: &str| body["error"][name].as_str().expect("a string").to_owned();
    (status, part("code"), part("message"))
}
