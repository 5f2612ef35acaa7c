// The state of the way to the cloud, as the edge and the answers on this page tell it; and, where that way is only emulated,
// the button that cuts it.
//
// The edge has no probe of its own: it knows of the cloud what it learnt when it last asked.

import { cutLink, emulatedLink, readiness } from "./edge.js";
import { byId } from "./format.js";

const INTERVAL_MS = 5000;

const TEXTS = {
  looking: "looking for the edge…",
  untried: "edge ready, cloud not asked yet",
  up: "cloud answers",
  down: "cloud lost, the edge goes on alone",
  none: "no cloud, the edge is alone",
  cut: "link cut, the edge goes on alone",
  stopped: "the edge is stopping",
  locked: "this edge asks for a key",
  unreachable: "the edge cannot be reached",
};

/** What is known, each by itself: the edge's `/ready`, whether it wants a key, and the emulated link if there is one. */
const known = { edge: "looking", cloud: "untried", locked: false, emulated: null };
/** The edge's word on the cloud is from before the link was restored. */
let stale = false;

/** Looks at the edge from now on, as long as someone looks at the page. */
export async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, INTERVAL_MS);
}

/** Looks at the edge now. */
export async function look() {
  const { status, cloud } = await readiness();
  known.edge = status;
  if (cloud) learn(cloud);
  // What cannot be heard now is asked for again.
  if (known.emulated && status === "ready") take(await emulatedLink().catch(() => known.emulated));
  show();
}

/** Says whether the edge refuses this page for want of a key. */
export function lock(locked) {
  known.locked = locked;
  show();
}

/** Offers to cut the emulated link that the edge has told of, if it has. */
export function offer(emulated) {
  const button = byId("cut");
  button.hidden = !emulated;
  if (!emulated) return;
  const about = `An emulated link: ${emulated.rtt_ms} ms there and back, ${emulated.up} up, ${emulated.down} down`;
  button.title = about;
  byId("welcome-cut").hidden = false;
  take(emulated);
  show();
  button.onclick = async () => {
    // Where the edge is gone, the next look says so.
    take(await cutLink(!known.emulated.cut).catch(() => known.emulated));
    show();
  };
}

/** Shows what an event of an answer says of the cloud. */
export function noteEvent(event) {
  if (event.type === "degraded") note("down", event.reason);
  if (event.type === "token" && event.token.source === "cloud") note("up");
}

function note(cloud, reason) {
  stale = false;
  known.cloud = cloud;
  show(reason);
}

function learn(cloud) {
  if (cloud !== "down") stale = false;
  known.cloud = stale ? "untried" : cloud;
}

function take(emulated) {
  if (known.emulated?.cut && !emulated.cut) {
    stale = true;
    known.cloud = "untried";
  }
  known.emulated = emulated;
}

function state() {
  if (known.edge !== "ready") return known.edge;
  if (known.locked) return "locked";
  return known.emulated?.cut ? "cut" : known.cloud;
}

function show(reason) {
  const now = state();
  const link = byId("link");
  link.title = reason ?? TEXTS[now];
  const cut = known.emulated?.cut ?? false;
  byId("cut-text").textContent = cut ? "Restore the link" : "Cut the link";
  byId("cut").setAttribute("aria-pressed", String(cut));
  // A status that is set again is read out again.
  if (link.dataset.state === now) return;
  link.dataset.state = now;
  byId("link-text").textContent = TEXTS[now];
}
