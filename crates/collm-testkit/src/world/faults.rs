//! What goes wrong.

use std::time::Duration;

use collm_core::{cloud::PeerId, edge::StreamId};

use super::{Entry, Happening, World};
use crate::{plan::Fault, rogue};

impl World {
    pub(super) fn suffer(&mut self, fault: Fault) {
        self.note(Entry::Suffered(fault));
        match fault {
            Fault::Cut => self.cut_one(),
            Fault::Kill { cloud, lasting } => self.kill(cloud, lasting),
            Fault::Stall { cloud, lasting } => self.stall(cloud, lasting),
            Fault::Hold { cloud, lasting } => self.hold_frames(cloud, self.now + lasting),
            Fault::Drain { cloud } => self.drain_down(cloud),
            Fault::Cancel(session) => self.cancel(session),
            Fault::RoguePeer { cloud } => self.send_rogue_frames(cloud),
            Fault::RogueFrame => self.send_rogue_answer(),
        }
    }

    fn one_stream(&mut self) -> Option<StreamId> {
        let live = self.live_streams(None);
        (!live.is_empty()).then(|| self.random.pick(&live))
    }

    fn cut_one(&mut self) {
        if let Some(id) = self.one_stream() {
            self.cut(id);
        }
    }

    fn kill(&mut self, cloud: usize, lasting: Duration) {
        for id in self.live_streams(Some(cloud)) {
            self.cut(id);
        }
        self.clouds[cloud].kill();
        self.schedule(self.now + lasting, Happening::StartCloud(cloud));
    }

    /// A stream that has lost frames can never go on, so it stays a black hole until its ends give it up.
    fn stall(&mut self, cloud: usize, lasting: Duration) {
        self.clouds[cloud].stalled_until = self.now + lasting;
        for id in self.live_streams(Some(cloud)) {
            self.streams.get_mut(&id).expect("it is live").black_hole = true;
        }
    }

    fn drain_down(&mut self, cloud: usize) {
        if let Some(life) = &mut self.clouds[cloud].life {
            life.cloud.drain();
            self.drain_cloud(cloud);
        }
    }

    fn send_rogue_frames(&mut self, cloud: usize) {
        if self.clouds[cloud].life.is_none() {
            return;
        }
        self.clouds[cloud].met_rogues = true;
        let peer = PeerId(self.next_peer);
        self.next_peer += 1;
        for frame in rogue::frames_to_cloud(&mut self.random, &self.plan.script) {
            let life = self.clouds[cloud].life.as_mut().expect("checked above");
            life.cloud.handle_frame(self.now, peer, frame);
            self.drain_cloud(cloud);
        }
        let life = self.clouds[cloud].life.as_mut().expect("checked above");
        life.cloud.handle_link_down(self.now, peer);
        self.drain_cloud(cloud);
    }

    /// It must change nothing but that the edge may give the stream up.
    fn send_rogue_answer(&mut self) {
        let Some(id) = self.one_stream() else { return };
        if self.streams[&id].edge_holds {
            let frame = rogue::frame_to_edge(&mut self.random, &self.plan.script);
            self.hand_to_edge(id, frame);
        }
    }
}
