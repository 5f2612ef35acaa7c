//! A session and its cloud: uploads, asks, answers, replay.

use std::time::Duration;

use super::{Draft, OpenAsk, Phase, REPLAYS_MAX, Session, Surroundings};
use crate::{
    edge::{
        Ablation, EdgeConfig,
        outlook::{AskCost, Flight, Passage},
        session::second_source,
    },
    frame::{Answer, Ask, Confirmed, Feed, ToCloud},
    ids::{Position, TokenId},
    policy::Mode,
    sampling::{Choice, Scored},
    states::StateBlock,
};

/// Why a cloud is given up that has no room for the session.
const FORGETS: &str = "it forgets the session as fast as it is replayed";

impl Session {
    /// Keeps new states and, where the stream is ready, sends them while the second stage computes.
    pub(super) fn upload(&mut self, block: StateBlock, around: &mut Surroundings<'_>) {
        self.uplink.keep(block);
        self.upload_rest(around);
    }

    /// Sends what this stream's cloud does not have, if it is to have it by itself and the stream is ready.
    pub(super) fn upload_rest(&mut self, around: &mut Surroundings<'_>) {
        if self.uploads_by_itself() {
            self.send_positions(around);
        }
    }

    /// Whether what is computed goes up as it comes.
    pub(super) fn uploads_by_itself(&self) -> bool {
        let by_itself = matches!(self.request.mode, Mode::Collaborative | Mode::Exact);
        by_itself && !self.request.without.uploads_late() && self.uplink.can_send()
    }

    /// Asks for the next token. The guess, if there is one, is the next token for the time being.
    pub(super) fn ask(&mut self, guess: Option<Scored>, around: &mut Surroundings<'_>) {
        self.begin_upload(around);
        if !self.uplink.is_open() {
            return self.go_alone(guess, around);
        }
        let ask = self.open_ask(guess.as_ref().map(|guess| guess.choice), around);
        self.asks.push_back(ask);
        if self.uplink.can_send() {
            self.send_ask(ask, around);
        }
        if let Some(scored) = guess {
            self.draft(Draft::of_edge(scored, second_source(around.config), true, self.policy));
        }
        self.go_on(around);
    }

    fn open_ask(&mut self, guess: Option<Choice>, around: &Surroundings<'_>) -> OpenAsk {
        self.asked_to = self.length();
        OpenAsk {
            position: self.last_position(),
            guess,
            policy: self.policy,
            since: around.now,
            replays: 0,
            direct: self.uplink.is_up(),
            first: self.stats.asks == 0,
        }
    }

    /// Where nothing leaves before the first ask: this is it.
    pub(super) fn begin_upload(&mut self, around: &mut Surroundings<'_>) {
        if self.uplink.begin(around.now) {
            self.connect_or_say(around);
        }
    }

    fn send_ask(&mut self, ask: OpenAsk, around: &mut Surroundings<'_>) {
        if self.has_no_context_there() {
            self.forget_there(around);
        }
        self.send_positions(around);
        self.stats.asks += 1;
        // A guess is a token id; who keeps it back says himself when it was wrong.
        let guess = ask.guess.filter(|_| !around.config.upload.private).map(|guess| guess.token);
        let frame = Ask { epoch: self.epoch, position: ask.position, guess };
        self.uplink.transmit(ToCloud::Ask(frame), around.out);
    }

    /// Uploads what this stream's cloud does not have.
    pub(super) fn send_positions(&mut self, around: &mut Surroundings<'_>) {
        match self.feed() {
            Feed::States(_) => {
                let told: &[TokenId] = if self.request.tells_tokens() { &self.tokens } else { &[] };
                self.uplink.send_states(self.epoch, told, &mut self.stats, around.out);
            }
            Feed::Tokens => self.uplink.send_tokens(self.epoch, &self.tokens, &mut self.stats, around.out),
        }
    }

    /// The naive split has no context manager.
    pub(super) fn has_no_context_there(&self) -> bool {
        self.request.mode == Mode::Naive || self.request.without == Ablation::ContextManager
    }

    /// Without a context manager the cloud starts from nothing for every token.
    fn forget_there(&mut self, around: &mut Surroundings<'_>) {
        self.epoch.0 += 1;
        self.uplink.transmit(ToCloud::Truncate { epoch: self.epoch, length: 0 }, around.out);
        self.uplink.rewind(0);
    }

    /// Lets the cloud generate.
    pub(super) fn follow(&mut self, around: &mut Surroundings<'_>) {
        self.phase = Phase::Following(around.now);
        self.send_positions(around);
        self.stats.asks += 1;
        self.stats.round_trips_waited += 1;
        let generate = ToCloud::Generate {
            epoch: self.epoch,
            position: self.last_position(),
            tokens_max: self.tokens_left(around.config),
            stop: self.request.stop.clone(),
        };
        self.uplink.transmit(generate, around.out);
    }

    pub(super) fn opened(&mut self, held: u32, around: &mut Surroundings<'_>) {
        let Some(waited) = self.uplink.opened(held) else {
            return self.break_off("it holds positions that it was never sent", around);
        };
        around.breaker.succeed();
        self.alone = false;
        if !waited {
            return;
        }
        self.upload_rest(around);
        self.send_score(around);
        self.send_asks(around);
    }

    fn send_asks(&mut self, around: &mut Surroundings<'_>) {
        for index in 0..self.asks.len() {
            self.send_ask(self.asks[index], around);
        }
    }

    pub(super) fn answered(&mut self, answer: Answer, around: &mut Surroundings<'_>) {
        if answer.epoch < self.epoch {
            return;
        }
        if answer.token.0 >= around.config.identity.vocabulary {
            return self.break_off("a token outside the vocabulary", around);
        }
        let asked = self.is_answer_to_asks(&answer, around.config);
        let is_next = answer.confirmed.is_empty() && answer.position == self.last_position();
        let generated = is_next && matches!(self.phase, Phase::Following(_));
        if !(asked || generated) {
            return self.break_off("an answer to a question that was not asked", around);
        }
        around.breaker.prove();
        self.stats.count_answer(&answer);
        let flight = self.departures.land(around.now);
        if asked {
            self.asks_answered(answer, flight, around);
        } else {
            self.generated(answer, around);
        }
    }

    /// Whether it is about the oldest asks, of which it confirms no guess but those that the cloud was told.
    fn is_answer_to_asks(&self, answer: &Answer, config: &EdgeConfig) -> bool {
        let confirmed = answer.confirmed.len();
        let was_told = |ask: &OpenAsk| ask.guess.is_some() && !config.upload.private;
        let is_asked = self.asks.get(confirmed).is_some_and(|ask| ask.position == answer.position);
        is_asked && self.asks.iter().take(confirmed).all(was_told)
    }

    /// The oldest asks are answered: those that it confirms, and one more.
    fn asks_answered(&mut self, answer: Answer, flight: Flight, around: &mut Surroundings<'_>) {
        let oldest = self.asks[0];
        let Answer { compute, queued, .. } = answer;
        self.stop_waiting(around.now, compute + queued);
        let flight = Some(flight).filter(|_| oldest.direct);
        let asks = answer.asks() as u32;
        let after = around.now - oldest.since;
        around.outlook.passed(around.now, Passage { after, asks, compute, queued, flight });
        self.learn_of_cloud(oldest.first.then_some(answer.position), &answer, around);
        // The oldest is the one that was waited for.
        let mut spent = Some((answer.rows, compute));
        for Confirmed { confidence, log_probs } in answer.confirmed {
            let ask = self.asks.pop_front().expect("checked by the caller");
            let token = ask.guess.expect("checked by the caller").token;
            let scored = Scored { choice: Choice { token, confidence }, log_probs };
            self.drafts[0] = self.decided(ask, scored, spent.take(), around);
            if !self.settle(around) {
                return;
            }
        }
        let ask = self.asks.pop_front().expect("checked by the caller");
        let choice = Choice { token: answer.token, confidence: answer.confidence };
        let answered = self.decided(ask, Scored { choice, log_probs: answer.log_probs }, spent, around);
        match ask.guess {
            Some(guess) if guess.token == choice.token => {
                self.drafts[0] = answered;
                if self.settle(around) && matches!(self.phase, Phase::Standing(_)) {
                    self.go_on(around);
                }
            }
            Some(_) => self.roll_back(ask.position, answered, around),
            None => self.go_on_with(answered, around),
        }
    }

    /// The cloud's token after an ask. What was spent on it, as rows and compute time, is told of the oldest of a run.
    fn decided(
        &self,
        ask: OpenAsk,
        scored: Scored,
        spent: Option<(u32, Duration)>,
        around: &mut Surroundings<'_>,
    ) -> Draft {
        let choice = scored.choice;
        let round_trip = around.now - ask.since;
        around.outlook.answered(round_trip, ask.guess.map(|guess| (guess.confidence, guess.token == choice.token)));
        self.learn_of_asking(ask, choice, spent.unwrap_or_default(), around);
        let sure = ask.guess.map(|guess| guess.confidence);
        Draft::of_cloud(scored, Some(round_trip), ask.policy, sure)
    }

    /// What an answer says about what the cloud takes for a position. What led to the first, about this position, was the prompt, and what
    /// of the answer nobody asked about; in a follow-up it may be something of the last turn, too. Of what was computed ahead of another
    /// answer, only a single position was surely computed alone.
    fn learn_of_cloud(&self, first: Option<Position>, answer: &Answer, around: &mut Surroundings<'_>) {
        let whole = |compute| self.of_whole_model(compute, around.config);
        let is_foreseen = answer.rows == 0 && answer.unasked_rows == 1;
        match first {
            Some(position) if self.stats.cached_tokens == 0 => {
                let prompt = self.stats.prompt_tokens;
                let of_answer = (position.0 + 1).saturating_sub(prompt);
                around.outlook.cloud_began(prompt, of_answer, whole(answer.engine_time()));
            }
            None if is_foreseen => around.outlook.cloud_took(1, whole(answer.engine_time())),
            Some(_) | None => around.outlook.cloud_took(answer.rows, whole(answer.compute)),
        }
    }

    /// What the answer to an ask says about what asking costs: the time stood still for it if its guess was right, else all the time
    /// since, of which nothing remains, and what the engine takes to end what it is at. The first ask of an answer waits for the whole
    /// prompt and says nothing about the others.
    fn learn_of_asking(&self, ask: OpenAsk, decided: Choice, spent: (u32, Duration), around: &mut Surroundings<'_>) {
        if self.request.mode == Mode::Collaborative {
            let is_right = ask.guess.is_some_and(|guess| guess.token == decided.token);
            let interrupted = match self.phase {
                Phase::Computing(_) => around.outlook.interruption(),
                Phase::Standing(_) | Phase::Following(_) | Phase::Scoring(_) => Duration::ZERO,
            };
            let delay = if is_right { self.waited } else { around.now - ask.since + interrupted };
            let delay = (!ask.first).then_some(delay);
            let (rows, compute) = spent;
            around.outlook.asked(AskCost { delay, rows, compute });
        }
    }

    /// What the cloud would have taken for all layers, where it has computed those from `e1` on.
    fn of_whole_model(&self, compute: Duration, config: &EdgeConfig) -> Duration {
        let (all, from) = (config.layers, config.identity.upload_at);
        match self.feed() {
            Feed::States(_) if from < all => compute * all / (all - from),
            Feed::States(_) | Feed::Tokens => compute,
        }
    }

    /// The cloud made the next token by itself.
    fn generated(&mut self, answer: Answer, around: &mut Surroundings<'_>) {
        self.stop_waiting(around.now, answer.compute + answer.queued);
        self.learn_of_cloud((self.tokens_made() == 0).then_some(answer.position), &answer, around);
        let choice = Choice { token: answer.token, confidence: answer.confidence };
        self.uplink.grown_there();
        let scored = Scored { choice, log_probs: answer.log_probs };
        self.draft(Draft::of_cloud(scored, None, self.policy, None));
        self.settle(around);
    }

    /// Takes the cloud's token where nothing is open any more, and computes the next.
    pub(super) fn go_on_with(&mut self, answered: Draft, around: &mut Surroundings<'_>) {
        self.draft(answered);
        if self.settle(around) {
            self.advance(around);
        }
    }

    pub(super) fn missing(&mut self, held: u32, around: &mut Surroundings<'_>) {
        if !self.uplink.rewind(held) {
            return self.break_off("it misses positions that it was never sent", around);
        }
        for ask in &mut self.asks {
            ask.replays += 1;
        }
        if self.asks.iter().any(|ask| ask.replays > REPLAYS_MAX) {
            return self.break_off(FORGETS, around);
        }
        if matches!(self.phase, Phase::Scoring(_)) {
            return match self.may_score_again() {
                true => self.send_score(around),
                false => self.break_off(FORGETS, around),
            };
        }
        if let Phase::Following(since) = self.phase {
            self.follow(around);
            // Patience does not begin anew, or a cloud that forgets again and again would be waited for without end.
            self.phase = Phase::Following(since);
        }
        self.send_asks(around);
    }
}
