// The state of the way to the cloud, as the edge's counters and the answers on this page tell it.
//
// The edge has no probe of its own: it knows of the cloud what it learnt when it last asked.

import { metrics, readiness } from "./edge.js";
import { byId } from "./format.js";

const INTERVAL_MS = 5000;

const TEXTS = {
  unknown: "edge ready",
  answering: "cloud answers",
  lost: "cloud lost, the edge goes on alone",
  none: "no cloud configured",
  stopping: "the edge is stopping",
  locked: "this edge asks for a key",
  unreachable: "the edge cannot be reached",
};

/** What the last ask led to, and the counts it was read from. */
let cloud = "unknown";
let counted = null;

/** Shows what an event of an answer says of the cloud. */
export function noteEvent(event) {
  if (event.type === "degraded") note("lost", event.reason);
  if (event.type === "token" && event.token.source === "cloud") note("answering");
}

/** Shows that there is no cloud to hear of. */
export function noteNoCloud() {
  note("none");
}

/** Looks at the edge from now on, as long as someone looks at the page. */
export async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, INTERVAL_MS);
}

/** Looks at the edge now. */
export async function look() {
  const edge = await readiness();
  if (edge !== "ready") return show(edge);
  try {
    learn(await counts());
  } catch (error) {
    return show(error.asksForKey ? "locked" : "unreachable");
  }
  show(cloud);
}

/** Answers to others count as well. Where both counts rose since the last look, nobody knows which rose last. */
function learn(counts) {
  const answered = counted && counts.decided > counted.decided;
  const lost = counted && counts.lost > counted.lost;
  if (answered && !lost) cloud = "answering";
  if (lost && !answered) cloud = "lost";
  counted = counts;
}

async function counts() {
  const samples = await metrics();
  const sum = (name, label) =>
    samples
      .filter((sample) => sample.name === name && sample.labels.includes(label))
      .reduce((total, sample) => total + sample.value, 0);
  return { decided: sum("collm_tokens_total", 'source="cloud"'), lost: sum("collm_fallbacks_total", "") };
}

function note(state, reason) {
  cloud = state;
  show(state, reason);
}

function show(state, reason = TEXTS[state]) {
  const link = byId("link");
  link.title = reason;
  // A status that is set again is read out again.
  if (byId("link-text").textContent === TEXTS[state]) return;
  link.dataset.state = state;
  byId("link-text").textContent = TEXTS[state];
}
