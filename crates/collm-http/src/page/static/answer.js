// What is known of one answer while it comes and afterwards. No DOM here.

/** Tokens per second are counted over this long. */
const RATE_WINDOW_MS = 1000;

export class Answer {
  tokens = [];
  losses = [];
  /** The edge's report, once the answer is finished. */
  stats = null;
  /** `stop`, `length`, `context` from the edge; `stopped` or `failed` from here. */
  ended = null;
  error = null;

  constructor({ mode, threshold }, now) {
    this.mode = mode;
    this.threshold = threshold;
    this.startedAt = now;
    this.now = now;
  }

  /** Takes one event of the stream. */
  take(event, now) {
    this.now = now;
    if (event.type === "token") this.tokens.push({ ...event.token, at: now - this.startedAt, answer: this });
    if (event.type === "degraded") this.losses.push(event.reason);
    if (event.type === "finished") this.finish(event.answer);
  }

  finish({ tokens, stats, finish_reason }) {
    this.stats = stats;
    this.ended = finish_reason;
    // What an unfinished character became is known only now.
    if (tokens.length > 0 && tokens.length === this.tokens.length) this.tokens.at(-1).text = tokens.at(-1).text;
  }

  end(how, now, error = null) {
    this.now = now;
    this.ended = how;
    this.error = error;
  }

  get text() {
    return this.tokens.map((token) => token.text).join("");
  }

  get elapsed() {
    return this.now - this.startedAt;
  }

  get waited() {
    return this.tokens.reduce((sum, token) => sum + token.waited_ms, 0);
  }

  /** Bytes to and from the cloud so far. */
  get bytes() {
    const { bytes_up = 0, bytes_down = 0 } = this.stats ?? this.tokens.at(-1) ?? {};
    return { up: bytes_up, down: bytes_down };
  }

  /** Tokens per second from the first token on. */
  get rate() {
    if (this.tokens.length < 2) return null;
    const span = this.tokens.at(-1).at - this.tokens[0].at;
    return span > 0 ? ((this.tokens.length - 1) * 1000) / span : null;
  }

  /** Tokens in the last second, at this many moments from the request to now. */
  rates(moments) {
    return Array.from({ length: moments }, (_, index) => {
      const until = (this.elapsed * (index + 1)) / moments;
      const count = this.tokens.filter(({ at }) => at <= until && at > until - RATE_WINDOW_MS).length;
      return (count * 1000) / RATE_WINDOW_MS;
    });
  }
}

/** Tokens of answers by source; those decided below the threshold for want of the cloud are also in `degraded`. */
export function tally(answers) {
  const counts = { exit1: 0, exit2: 0, cloud: 0, whole: 0, degraded: 0, all: 0 };
  for (const token of answers.flatMap((answer) => answer.tokens)) {
    counts[token.source] += 1;
    counts.degraded += token.degraded;
    counts.all += 1;
  }
  return counts;
}
