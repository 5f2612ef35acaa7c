//! Streams: frames on their way, and how each end learns of their end.

use std::time::Duration;

use collm_core::{
    cloud::PeerId,
    edge::StreamId,
    frame::{Open, ToCloud, ToEdge},
    time::Time,
};

use super::{Entry, Happening, World};
use crate::{
    stream::{Lane, Stream, down_bytes, up_bytes},
    uploads::Uploads,
};

impl World {
    pub(super) fn connect(&mut self, edge: usize, id: StreamId, open: Open) {
        let cloud = self.random.within(0..=self.clouds.len() as u64 - 1) as usize;
        let host = &self.clouds[cloud];
        let held = Lane::default();
        let stream = Stream {
            edge,
            cloud,
            generation: host.generation,
            peer: PeerId(self.next_peer),
            edge_holds: true,
            cloud_holds: host.life.is_some(),
            black_hole: self.now < host.stalled_until,
            cut: host.life.is_none(),
            up: held,
            down: held,
            uploads: Uploads::new(id.attempt, open.epoch.0),
        };
        let is_refused = stream.cut && !stream.black_hole;
        self.peers.insert(stream.peer, id);
        self.next_peer += 1;
        assert!(self.streams.insert(id, stream).is_none(), "stream {id:?} is opened twice");
        self.note(Entry::Connected(id));
        if is_refused {
            self.schedule(self.now + self.plan.link.latency * 2, Happening::EndAtEdge(id, "connection refused".into()));
        }
        self.transmit(id, ToCloud::Open(open));
    }

    pub(super) fn transmit(&mut self, id: StreamId, frame: ToCloud) {
        self.note(Entry::Transmitted(id, frame.clone()));
        let stream = self.streams.get_mut(&id).expect("frames follow a connect");
        assert!(stream.edge_holds, "a frame on a stream that the edge knows is gone: {frame:?}");
        stream.uploads.transmitted(&frame);
        if self.plan.edges[stream.edge].config.upload.private {
            assert!(!carries_tokens(&frame), "tokens leave a private edge: {frame:?}");
        }
        self.edges[stream.edge].edge.handle_sent(self.now, id, up_bytes(&frame) as u64);
        if !stream.carries() {
            return;
        }
        stream.up.hold_until(self.clouds[stream.cloud].held_until);
        let at = stream.up.arrival(self.now, up_bytes(&frame), &self.plan.link, &mut self.random);
        self.schedule(at, Happening::ArriveAtCloud(id, frame));
    }

    pub(super) fn answer_peer(&mut self, peer: PeerId, frame: ToEdge) {
        // Rogue peers have no stream, and nobody reads what they are told.
        let Some(id) = self.peers.get(&peer).copied() else { return };
        let stream = self.streams.get_mut(&id).expect("peers are of streams");
        assert!(stream.cloud_holds, "a frame on a stream that the cloud knows is gone: {frame:?}");
        if !stream.carries() {
            return;
        }
        stream.down.hold_until(self.clouds[stream.cloud].held_until);
        let at = stream.down.arrival(self.now, down_bytes(&frame), &self.plan.link, &mut self.random);
        self.schedule(at, Happening::ArriveAtEdge(id, frame));
    }

    /// After everything transmitted so far the cloud's end is told.
    pub(super) fn edge_leaves(&mut self, id: StreamId) {
        self.note(Entry::Left(id));
        let unnoticed = self.unnoticed();
        let stream = self.streams.get_mut(&id).expect("only what was connected is left");
        assert!(std::mem::replace(&mut stream.edge_holds, false), "stream {id:?} is left twice");
        let at = if stream.carries() {
            stream.up.hold_until(self.clouds[stream.cloud].held_until);
            stream.up.arrival(self.now, 0, &self.plan.link, &mut self.random)
        } else {
            self.now + unnoticed
        };
        self.schedule(at, Happening::EndAtCloud(id));
    }

    /// After everything transmitted so far the edge's end is told.
    pub(super) fn cloud_leaves(&mut self, peer: PeerId) {
        let Some(id) = self.peers.get(&peer).copied() else { return };
        let stream = self.streams.get_mut(&id).expect("peers are of streams");
        assert!(std::mem::replace(&mut stream.cloud_holds, false), "stream {id:?} is left twice");
        if stream.carries() {
            stream.down.hold_until(self.clouds[stream.cloud].held_until);
            let at = stream.down.arrival(self.now, 0, &self.plan.link, &mut self.random);
            self.schedule(at, Happening::EndAtEdge(id, "the cloud ended the stream".into()));
        }
    }

    pub(super) fn arrive_at_cloud(&mut self, id: StreamId, frame: ToCloud) {
        let stream = &self.streams[&id];
        let (cloud, peer) = (stream.cloud, stream.peer);
        if stream.carries() && stream.cloud_holds && self.lives(cloud, stream.generation) {
            let life = self.clouds[cloud].life.as_mut().expect("it lives");
            life.cloud.handle_frame(self.now, peer, frame);
            self.drain_cloud(cloud);
        }
    }

    /// Stragglers of a stream that the edge has left are delivered too: it must know them by their attempt.
    pub(super) fn arrive_at_edge(&mut self, id: StreamId, frame: ToEdge) {
        let stream = self.streams.get_mut(&id).expect("frames are of streams");
        if !stream.carries() {
            return;
        }
        if stream.edge_holds {
            stream.uploads.heard(&frame);
        }
        self.hand_to_edge(id, frame);
    }

    pub(super) fn hand_to_edge(&mut self, id: StreamId, frame: ToEdge) {
        self.note(Entry::Heard(id, frame.clone()));
        let edge = self.streams[&id].edge;
        self.edges[edge].edge.handle_frame(self.now, id, frame);
        self.drain_edge(edge);
    }

    pub(super) fn end_at_cloud(&mut self, id: StreamId) {
        let stream = self.streams.get_mut(&id).expect("only streams end");
        let was_held = std::mem::replace(&mut stream.cloud_holds, false);
        let (cloud, generation, peer) = (stream.cloud, stream.generation, stream.peer);
        if was_held && self.lives(cloud, generation) {
            let life = self.clouds[cloud].life.as_mut().expect("it lives");
            life.cloud.handle_link_down(self.now, peer);
            self.drain_cloud(cloud);
        }
    }

    pub(super) fn end_at_edge(&mut self, id: StreamId, why: String) {
        let stream = self.streams.get_mut(&id).expect("only streams end");
        let edge = stream.edge;
        if std::mem::replace(&mut stream.edge_holds, false) {
            self.note(Entry::LinkDown(id));
            self.edges[edge].edge.handle_link_down(self.now, id, why);
            self.drain_edge(edge);
        }
    }

    /// How long an end does not notice that its stream is down.
    pub(super) fn unnoticed(&mut self) -> Duration {
        self.random.span_ms(self.plan.link.unnoticed_ms.clone())
    }

    /// Loses a stream with all that is in flight; each end learns of it in its own time.
    pub(super) fn cut(&mut self, id: StreamId) {
        let (at_edge, at_cloud) = (self.plan.link.latency, self.unnoticed());
        let stream = self.streams.get_mut(&id).expect("only streams are cut");
        stream.cut = true;
        if stream.edge_holds && !stream.black_hole {
            self.schedule(self.now + at_edge, Happening::EndAtEdge(id, "connection reset".into()));
        }
        self.schedule(self.now + at_cloud, Happening::EndAtCloud(id));
    }

    /// Streams of a cloud that some end still believes in.
    pub(super) fn live_streams(&self, cloud: Option<usize>) -> Vec<StreamId> {
        let is_meant = |stream: &Stream| stream.is_live() && cloud.is_none_or(|cloud| cloud == stream.cloud);
        self.streams.iter().filter(|(_, stream)| is_meant(stream)).map(|(id, _)| *id).collect()
    }

    /// Everything on its way from and to a cloud arrives no earlier than then.
    pub(super) fn hold_frames(&mut self, cloud: usize, until: Time) {
        self.clouds[cloud].held_until = until;
        let is_late = |stream: &StreamId, world: &Self| world.streams[stream].cloud == cloud;
        let queue = std::mem::take(&mut self.queue);
        for ((at, sequence), happening) in queue {
            let stream = match &happening {
                Happening::ArriveAtCloud(stream, _) | Happening::EndAtCloud(stream) => Some(*stream),
                Happening::ArriveAtEdge(stream, _) | Happening::EndAtEdge(stream, _) => Some(*stream),
                _ => None,
            };
            let held = stream.is_some_and(|stream| is_late(&stream, self));
            let at = if held { at.max(until) } else { at };
            self.queue.insert((at, sequence), happening);
        }
    }
}

/// Whether a frame tells tokens of a conversation.
fn carries_tokens(frame: &ToCloud) -> bool {
    match frame {
        ToCloud::States { tokens, .. } => !tokens.is_empty(),
        ToCloud::Ask(ask) => ask.guess.is_some(),
        ToCloud::Tokens { .. } | ToCloud::Generate { .. } => true,
        _ => false,
    }
}
