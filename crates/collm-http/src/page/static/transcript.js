// The conversation as it is shown: questions, answers token by token, and what each answer cost.

import { byId, bytes, element, milliseconds, plural } from "./format.js";
import * as tooltip from "./tooltip.js";

/** Distance from the end at which a reader still counts as following. */
const FOLLOW_PX = 80;

const ENDS = {
  length: "token limit",
  context: "context full",
  stopped: "stopped",
};

const transcript = byId("transcript");
const tokens = new WeakMap();

/** Shows answers from now on; `point` hears of the token that the reader points at, and of none. */
export function start(point) {
  tooltip.attach(transcript, (span) => tokens.get(span), point);
}

export function clear() {
  tooltip.hide();
  transcript.querySelectorAll(".turn").forEach((turn) => turn.remove());
  byId("welcome").hidden = false;
}

export function addQuestion(text) {
  byId("welcome").hidden = true;
  transcript.append(element("article", { class: "turn question", "aria-label": "You" }, element("p", {}, text)));
  transcript.scrollTop = transcript.scrollHeight;
}

/** One answer on the page. */
export class AnswerView {
  /** The cloud is missing, as far as this answer has come. */
  alone = false;

  constructor() {
    this.text = element("p", {
      class: "answer-text",
      tabindex: "0",
      role: "group",
      "aria-label": "Answer; arrow keys go through its tokens",
    });
    this.footer = element("footer", {});
    this.turn = element("article", { class: "turn answer", "aria-label": "Answer", "aria-busy": "true" });
    this.turn.append(this.text, this.footer);
    transcript.append(this.turn);
    keepInView(() => {});
  }

  addToken(token) {
    const span = element("span", { class: "token", "data-source": token.source, tabindex: "-1" }, token.text);
    if (token.degraded) span.dataset.degraded = "";
    tokens.set(span, token);
    const back = this.alone && token.source === "cloud" ? [event("back", "cloud back")] : [];
    if (back.length > 0) this.alone = false;
    keepInView(() => this.text.append(...back, span));
  }

  /** Says in its place that the cloud was lost, and below why. */
  addLoss(reason) {
    this.alone = true;
    keepInView(() => {
      this.text.append(event("lost", "cloud lost"));
      this.turn.insertBefore(element("p", { class: "loss" }, `${reason}; going on alone`), this.footer);
    });
  }

  end(answer) {
    this.turn.removeAttribute("aria-busy");
    const last = [...this.text.querySelectorAll(".token")].at(-1);
    if (last && last.textContent !== answer.tokens.at(-1).text) last.textContent = answer.tokens.at(-1).text;
    keepInView(() => {
      if (answer.error) this.turn.insertBefore(element("p", { class: "error", role: "alert" }, answer.error), this.footer);
      this.footer.append(...facts(answer).map((fact) => element("span", {}, fact)));
    });
  }
}

/** What happened between two tokens. */
function event(kind, text) {
  return element("span", { class: "event", "data-event": kind }, text);
}

/** Changes the transcript, and scrolls to its end if that is where the reader was. */
function keepInView(change) {
  const following = transcript.scrollHeight - transcript.scrollTop - transcript.clientHeight < FOLLOW_PX;
  change();
  if (following) transcript.scrollTop = transcript.scrollHeight;
}

/** What an answer cost, shortest first to read. */
export function facts(answer) {
  const { stats } = answer;
  const list = [answer.mode, plural(answer.tokens.length, "token")];
  if (answer.rate) list.push(`${answer.rate.toFixed(1)} tokens/s`);
  if (stats?.first_token_ms != null) list.push(`first after ${milliseconds(stats.first_token_ms)}`);
  if (answer.waited > 0) list.push(`waited ${milliseconds(answer.waited)}`);
  if (stats?.rollbacks) list.push(plural(stats.rollbacks, "rollback"));
  if (answer.bytes.up > 0) list.push(`↑ ${bytes(answer.bytes.up)} ↓ ${bytes(answer.bytes.down)}`);
  if (answer.tokens.some((token) => token.degraded)) list.push("degraded");
  if (ENDS[answer.ended]) list.push(ENDS[answer.ended]);
  return list;
}
