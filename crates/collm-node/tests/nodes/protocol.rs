//! Each side against a counterpart that this file plays: what goes over the wire and when, and what happens to peers that
//! break the rules.

use std::time::Duration;

use collm_core::{
    edge::{EdgeConfig, Request as EdgeRequest, Source},
    frame::{Answer, Ask, Confirmed, Feed, Identity, Open, PROTOCOL, Refusal, RefusalCode, ToCloud, ToEdge},
    ids::{Epoch, Position, SessionId, TokenId},
    limits::Limits,
    policy::{Mode, RunAhead},
    sampling::Sampling,
    states::Encoding,
    upload::UploadSettings,
};
use collm_engine::{
    Head,
    scripted::{ScriptedEngine, WIDTH},
};
use collm_node::{CloudEndpoint, CloudOptions};
use collm_wire::{
    SESSION_METADATA,
    proto::{
        self, CloudFrame, EdgeFrame,
        cloud_client::CloudClient,
        cloud_frame::Frame,
        cloud_server::{Cloud, CloudServer},
        edge_frame,
    },
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{
    Code, Request, Response, Status, Streaming,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Server},
};
use tonic_prost::ProstCodec;

use crate::world::{
    GatedEngine, LOCAL, RunningCloud, answer, cloud_options, edge_config, edge_of, edge_with, identity, request,
    script, sizes, start_edge, truth,
};

// The edge against a cloud played here.

#[tokio::test]
async fn frames_flow_before_the_cloud_has_answered_anything() {
    let mut cloud = PlayedCloud::start(Play::Silent).await;
    let edge = edge_of(Some(cloud.url.clone())).await;
    let request = request(1, Mode::Collaborative);
    let session = request.session;
    let _stream = edge.submit(request).await.expect("taken");
    assert_eq!(cloud.heard.recv().await, Some(Heard::Metadata(session.to_string())));
    assert!(matches!(cloud.frame().await, edge_frame::Frame::Open(_)));
    assert!(matches!(cloud.frame().await, edge_frame::Frame::States(_)));
    // Not even response headers have been sent.
    cloud.until(|frame| matches!(frame, edge_frame::Frame::Ask(_))).await;
}

#[tokio::test]
async fn dropping_an_answer_closes_its_session_in_the_cloud() {
    let mut cloud = PlayedCloud::start(Play::Silent).await;
    let (engine, _gate) = GatedEngine::new(ScriptedEngine::edge(script(), sizes()));
    let edge = start_edge(edge_config(), Some(CloudEndpoint::new(cloud.url.clone())), engine).await;
    let stream = edge.submit(request(1, Mode::Collaborative)).await.expect("taken");
    cloud.until(|frame| matches!(frame, edge_frame::Frame::States(_))).await;
    drop(stream);
    cloud.until(|frame| matches!(frame, edge_frame::Frame::Close(_))).await;
}

#[tokio::test]
async fn refusals_are_named_and_cost_no_answer() {
    for code in [RefusalCode::Protocol, RefusalCode::Busy, RefusalCode::Superseded] {
        let refusal = Refusal { code, message: format!("this is {code:?}") };
        let cloud = PlayedCloud::start(Play::Say(ToEdge::Refused(refusal).into())).await;
        let edge = edge_of(Some(cloud.url.clone())).await;
        let ended = answer(&edge, request(1, Mode::Collaborative)).await;
        assert_eq!(ended.losses[0], format!("the cloud refused: this is {code:?}"));
        assert_eq!(ended.tokens.len(), 60);
    }
}

/// About what no edge asks.
fn unasked() -> Answer {
    Answer {
        epoch: Epoch(0),
        position: Position(900),
        token: TokenId(1),
        log_probs: None,
        confirmed: vec![],
        confidence: 0.5,
        compute: Default::default(),
        queued: Default::default(),
        unasked: Default::default(),
        unasked_rows: 0,
        rows: 0,
    }
}

#[tokio::test]
async fn a_cloud_that_breaks_the_rules_is_left_alone() {
    let mut impossible: CloudFrame = ToEdge::Answer(unasked()).into();
    let Some(Frame::Answer(answer_frame)) = &mut impossible.frame else { unreachable!("made an answer") };
    answer_frame.confidence = f32::NAN;
    let cases = [
        (ToEdge::Answer(unasked()).into(), "an answer to a question that was not asked"),
        (impossible, "unusable frame: confidence is NaN"),
        (CloudFrame { frame: None }, "unusable frame"),
    ];
    for (frame, expected) in cases {
        let cloud = PlayedCloud::start(Play::Say(frame)).await;
        let edge = edge_of(Some(cloud.url.clone())).await;
        let ended = answer(&edge, request(1, Mode::Collaborative)).await;
        assert!(ended.losses[0].contains(expected), "{:?} lacks {expected:?}", ended.losses);
        assert_eq!(ended.tokens.len(), 60);
    }
}

/// A request whose first guess is right, and what a cloud says of its first two at once.
fn confirmed_request() -> (EdgeRequest, Answer) {
    let is_right = |asking: &EdgeRequest| truth(&asking.prompt, 1) == [script().guess(Head::Exit2, &asking.prompt).0];
    let asking = (1..).map(|number| request(number, Mode::Exact)).find(is_right).expect("most guesses are right");
    let (confirmed, token) = (Confirmed { confidence: 0.5, log_probs: None }, truth(&asking.prompt, 2)[1]);
    let position = Position(asking.prompt.len() as u32);
    let answer = Answer { position, token, confirmed: vec![confirmed], ..unasked() };
    (EdgeRequest { run_ahead: RunAhead::Always(2), ..asking }, answer)
}

#[tokio::test]
async fn a_cloud_confirms_guesses_and_none_that_it_was_not_told() {
    for (private, answered) in [(false, 2), (true, 0)] {
        let (asking, confirmation) = confirmed_request();
        let cloud = PlayedCloud::start(Play::AfterAsks(2, ToEdge::Answer(confirmation).into())).await;
        let upload = UploadSettings { private, ..UploadSettings::PAPER };
        let config = EdgeConfig { upload, ask_deadline: Duration::from_millis(300), ..edge_config() };
        let edge = edge_with(config, Some(cloud.url.clone())).await;
        let ended = answer(&edge, asking).await;
        let of_cloud = ended.tokens.iter().filter(|token| token.source == Source::Cloud).count();
        assert_eq!(of_cloud, answered, "private: {private}, {:?}", ended.losses);
        let broke_off = ended.losses[0].contains("an answer to a question that was not asked");
        assert_eq!((broke_off, ended.tokens.len()), (private, 60), "{:?}", ended.losses);
    }
}

// The cloud against an edge that does not fit.

#[tokio::test]
async fn the_other_half_of_another_pair_is_refused() {
    let cloud = RunningCloud::start().await;
    let stranger = Identity { pair: "77".repeat(8), ..identity() };
    let edge = edge_with(EdgeConfig { identity: stranger, ..edge_config() }, Some(cloud.url())).await;
    let ended = answer(&edge, request(1, Mode::Collaborative)).await;
    assert!(ended.losses[0].contains("use both files of one split"), "{:?}", ended.losses);
    assert_eq!((ended.tokens.len(), ended.is_degraded()), (60, true));
    assert_eq!(ended.finished.stats.connections, 1, "what will not change is not tried again");
}

#[tokio::test]
async fn frames_over_a_limit_are_refused_and_cost_no_answer() {
    let rows = Limits { upload_rows_max: 4, ..Limits::DEFAULT };
    let bytes = Limits { frame_bytes_max: 150, ..Limits::DEFAULT };
    for (limits, expected) in [(rows, "8 rows exceed the limit of 4"), (bytes, "a message is not a frame")] {
        let cloud = RunningCloud::start_with(CloudOptions { limits, ..cloud_options() }).await;
        let edge = edge_of(Some(cloud.url())).await;
        let ended = answer(&edge, request(1, Mode::Collaborative)).await;
        assert!(ended.losses[0].contains(expected), "{:?} lacks {expected:?}", ended.losses);
        assert_eq!((ended.tokens.len(), ended.is_degraded()), (60, true));
    }
}

// The cloud against an edge played here.

#[tokio::test]
async fn broken_rules_end_their_own_session_only() {
    let cloud = RunningCloud::start().await;
    let mut client = CloudClient::connect(cloud.url()).await.expect("the cloud listens");
    let bystander = Talk::begin(&mut client, [open(1).into_frame()]).await;
    let cases: [(Vec<EdgeFrame>, Code, &str); 5] = [
        (
            vec![Open { protocol: PROTOCOL + 1, ..open(2) }.into_frame()],
            Code::FailedPrecondition,
            "update the older one",
        ),
        (vec![ask(0).into()], Code::InvalidArgument, "the first frame of a stream must be open"),
        (vec![open(3).into_frame(), EdgeFrame { frame: None }], Code::InvalidArgument, "empty or of a kind"),
        (vec![open(4).into_frame(), open(4).into_frame()], Code::InvalidArgument, "opened a second time"),
        (vec![open(5).into_frame(), states(3, &[1.0, f32::NAN])], Code::InvalidArgument, "hidden states are unusable"),
    ];
    for (frames, code, message) in cases {
        let mut talk = Talk::begin(&mut client, frames).await;
        let (refusal, status) = talk.refused().await;
        assert!(refusal.message.contains(message), "{refusal:?} lacks {message:?}");
        assert_eq!(status.code(), code, "{message}");
    }
    bystander.still_served().await;
}

#[tokio::test]
async fn bytes_that_are_no_message_are_refused() {
    let cloud = RunningCloud::start().await;
    let channel = Channel::from_shared(cloud.url()).expect("an address").connect().await.expect("the cloud listens");
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.expect("connected");
    // Its first field is a number where a frame has a message.
    let garbage = tokio_stream::iter([proto::Truncate { epoch: 7, length_positions: 7 }]);
    let codec = ProstCodec::<proto::Truncate, CloudFrame>::default();
    let path = PathAndQuery::from_static("/collm.v1.Cloud/Session");
    let response = grpc.streaming(Request::new(garbage), path, codec).await.expect("a stream");
    let (refusal, _) = refused(&mut response.into_inner()).await;
    assert_eq!(refusal.code, i32::from(proto::RefusalCode::Malformed));
    Talk::begin(&mut CloudClient::new(channel), [open(1).into_frame()]).await.still_served().await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_turned_away() {
    let cloud = RunningCloud::start_with(CloudOptions { peers_max: 1, ..cloud_options() }).await;
    let mut client = CloudClient::connect(cloud.url()).await.expect("the cloud listens");
    let first = Talk::begin(&mut client, [open(1).into_frame()]).await;
    let turned_away = client.session(tokio_stream::pending()).await.expect_err("there is room for one");
    assert_eq!(turned_away.code(), Code::ResourceExhausted);
    first.still_served().await;
}

fn open(session: u128) -> Open {
    Open {
        protocol: PROTOCOL,
        attempt: 1,
        identity: identity(),
        session: SessionId(session),
        epoch: Epoch(0),
        prompt: 1,
        feed: Feed::States(Encoding::F32),
        sampling: Sampling::GREEDY,
        tells_tokens: false,
    }
}

trait IntoFrame {
    fn into_frame(self) -> EdgeFrame;
}

impl IntoFrame for Open {
    fn into_frame(self) -> EdgeFrame {
        ToCloud::Open(self).into()
    }
}

fn ask(position: u32) -> ToCloud {
    ToCloud::Ask(Ask { epoch: Epoch(0), position: Position(position), guess: None })
}

/// Rows of zeros after these values.
fn states(first_position: u32, values: &[f32]) -> EdgeFrame {
    let mut row = [0.0f32; WIDTH];
    row[..values.len()].copy_from_slice(values);
    let rows = row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into();
    EdgeFrame {
        frame: Some(edge_frame::Frame::States(proto::States { epoch: 0, first_position, rows, tokens: vec![] })),
    }
}

/// A stream to a real cloud.
struct Talk {
    outgoing: mpsc::Sender<EdgeFrame>,
    incoming: Streaming<CloudFrame>,
}

impl Talk {
    async fn begin(client: &mut CloudClient<Channel>, frames: impl IntoIterator<Item = EdgeFrame>) -> Self {
        let (outgoing, stream) = mpsc::channel(8);
        for frame in frames {
            outgoing.send(frame).await.expect("the stream is held here");
        }
        let response = client.session(ReceiverStream::new(stream)).await.expect("a stream");
        Self { outgoing, incoming: response.into_inner() }
    }

    async fn refused(&mut self) -> (proto::Refused, Status) {
        refused(&mut self.incoming).await
    }

    /// Handshake passed, and an ask is answered.
    async fn still_served(mut self) {
        let opened = self.incoming.message().await.expect("no error").expect("no end");
        assert!(matches!(opened.frame, Some(Frame::Opened(_))), "{opened:?}");
        for frame in [states(0, &[1.0]), ask(0).into()] {
            self.outgoing.send(frame).await.expect("the stream is open");
        }
        let answer = self.incoming.message().await.expect("no error").expect("no end");
        assert!(matches!(answer.frame, Some(Frame::Answer(_))), "{answer:?}");
    }
}

/// Reads to the end, which must be a refusal.
async fn refused(incoming: &mut Streaming<CloudFrame>) -> (proto::Refused, Status) {
    let mut last = None;
    loop {
        match incoming.message().await {
            Ok(Some(frame)) => last = frame.frame,
            Err(status) => match last {
                Some(Frame::Refused(refused)) => return (refused, status),
                other => panic!("no refusal before {status:?}, but {other:?}"),
            },
            Ok(None) => panic!("a refused stream ends with a status"),
        }
    }
}

/// A cloud played by the test.
struct PlayedCloud {
    url: String,
    heard: mpsc::UnboundedReceiver<Heard>,
}

#[derive(Debug, PartialEq)]
enum Heard {
    /// What [`SESSION_METADATA`] said.
    Metadata(String),
    Frame(EdgeFrame),
}

/// What it does on every stream.
#[derive(Clone)]
enum Play {
    /// Listens, and answers nothing, not even headers.
    Silent,
    /// Says this, and listens.
    Say(CloudFrame),
    /// Says this once so many asks have come, and listens.
    AfterAsks(usize, CloudFrame),
}

struct Player {
    play: Play,
    heard: mpsc::UnboundedSender<Heard>,
}

impl PlayedCloud {
    async fn start(play: Play) -> Self {
        let listener = TcpListener::bind(LOCAL).await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let (sender, heard) = mpsc::unbounded_channel();
        let service = CloudServer::new(Player { play, heard: sender });
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self { url, heard }
    }

    async fn frame(&mut self) -> edge_frame::Frame {
        match self.heard.recv().await {
            Some(Heard::Frame(frame)) => frame.frame.expect("an edge sends no empty frames"),
            other => panic!("expected a frame: {other:?}"),
        }
    }

    /// Hears frames until one fits.
    async fn until(&mut self, fits: impl Fn(&edge_frame::Frame) -> bool) {
        loop {
            if let Heard::Frame(EdgeFrame { frame: Some(frame) }) = self.heard.recv().await.expect("it listens")
                && fits(&frame)
            {
                return;
            }
        }
    }
}

impl Player {
    async fn listen(
        heard: mpsc::UnboundedSender<Heard>,
        mut incoming: Streaming<EdgeFrame>,
        mut at_asks: impl FnMut(usize),
    ) {
        let mut asks = 0;
        while let Ok(Some(frame)) = incoming.message().await {
            if matches!(frame.frame, Some(edge_frame::Frame::Ask(_))) {
                asks += 1;
                at_asks(asks);
            }
            // A test that has seen enough listens no more.
            let _ = heard.send(Heard::Frame(frame));
        }
    }
}

#[tonic::async_trait]
impl Cloud for Player {
    type SessionStream = ReceiverStream<Result<CloudFrame, Status>>;

    async fn session(&self, request: Request<Streaming<EdgeFrame>>) -> Result<Response<Self::SessionStream>, Status> {
        let session = request.metadata().get(SESSION_METADATA).expect("edges name their session");
        let session = session.to_str().expect("it is text").to_owned();
        let _ = self.heard.send(Heard::Metadata(session));
        let (heard, incoming) = (self.heard.clone(), request.into_inner());
        let (asks_before, frame) = match self.play.clone() {
            Play::Silent => {
                Self::listen(heard, incoming, |_| ()).await;
                return Err(Status::cancelled("the edge has left"));
            }
            Play::Say(frame) => (0, frame),
            Play::AfterAsks(asks, frame) => (asks, frame),
        };
        let (say, stream) = mpsc::channel(1);
        let say_at = move |asks| {
            if asks == asks_before {
                say.try_send(Ok(frame.clone())).expect("it says nothing else");
            }
        };
        say_at(0);
        tokio::spawn(Self::listen(heard, incoming, say_at));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
