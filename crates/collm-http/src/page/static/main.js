// Ties the parts together: what is asked, when, and what happens with the events of the answer.

import { Answer } from "./answer.js";
import { draw } from "./charts.js";
import { generate, properties, useKey } from "./edge.js";
import { byId, element } from "./format.js";
import * as link from "./link.js";
import * as transcript from "./transcript.js";

const NOTES = {
  standalone: "The edge alone. Nothing leaves it.",
  collaborative: "The edge where it is surer than the threshold, the cloud where it is not.",
  exact: "The whole model’s tokens, all of them: the edge guesses ahead, the cloud checks.",
  cloud: "The cloud runs the whole model; the prompt leaves the edge.",
  naive: "Asks for every token and sends everything again each time: the baseline, never a good choice.",
  whole: "The whole model, here. Nothing leaves it.",
};
/** Modes in which nothing depends on the edge's confidence. */
const WITHOUT_THRESHOLD = new Set(["exact", "cloud", "naive", "whole"]);
/** Figures are for eyes: drawn more often, they would only take from the model where both share a processor. */
const REDRAW_MS = 80;

const prompt = byId("prompt");
/** What was said, as the edge gets it, and the answers in it. */
let conversation = { messages: [], answers: [] };
/** Stops the answer under way. */
let running = null;
/** The token that the reader points at. */
let pointed = null;

function start() {
  transcript.start(point);
  configure();
  link.watch();
  byId("composer").addEventListener("submit", submit);
  byId("composer").addEventListener("input", showSettings);
  byId("key").addEventListener("change", unlock);
  byId("stop").addEventListener("click", () => running?.abort());
  byId("fresh").addEventListener("click", startAfresh);
  byId("panel-toggle").addEventListener("click", togglePanel);
  prompt.addEventListener("keydown", sendOnEnter);
  document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
  byId("welcome").addEventListener("click", tryExample);
  redraw();
  prompt.focus();
}

/** Offers what the edge can do, as it does it unless told otherwise. */
async function configure() {
  const known = await properties().catch(refused);
  // The link says why there are none.
  if (!known) return;
  const { model, context, modes, mode, threshold, max_tokens } = known;
  byId("model").textContent = model;
  byId("mode").replaceChildren(...modes.map((name) => element("option", {}, name)));
  byId("mode").value = mode;
  byId("threshold").value = threshold;
  byId("tokens-max").max = context;
  byId("tokens-max").value = max_tokens;
  link.lock(false);
  link.offer(known.link);
  showSettings();
}

function refused(error) {
  if (error.asksForKey) link.lock(true);
}

async function unlock() {
  useKey(byId("key").value);
  await configure();
  await link.look();
}

function submit(event) {
  event.preventDefault();
  const question = prompt.value.trim();
  if (running || question === "") return;
  prompt.value = "";
  ask(question);
}

async function ask(question) {
  running = new AbortController();
  showSettings();
  transcript.addQuestion(question);
  const asked = conversation;
  const chosen = settings();
  const answer = new Answer(chosen, performance.now());
  asked.answers.push(answer);
  const messages = [...asked.messages, { role: "user", content: question }];
  const view = new transcript.AnswerView();
  try {
    await follow(generate(request(chosen, messages), running.signal), answer, view);
  } catch (error) {
    fail(answer, error);
  }
  // What was not answered at all is not said to the edge again.
  if (answer.text !== "") asked.messages = [...messages, { role: "assistant", content: answer.text }];
  running = null;
  view.end(answer);
  showSettings();
  redraw();
  announce(answer);
}

async function follow(events, answer, view) {
  for await (const event of events) {
    answer.take(event, performance.now());
    link.noteEvent(event);
    if (event.type === "token") view.addToken(answer.tokens.at(-1));
    if (event.type === "degraded") view.addLoss(event.reason);
    redraw();
  }
}

function fail(answer, error) {
  if (error.name === "AbortError") return answer.end("stopped", performance.now());
  refused(error);
  answer.end("failed", performance.now(), error.message);
}

function request({ mode, threshold, tokensMax }, messages) {
  return { messages, mode, max_tokens: tokensMax, ...(threshold !== null && { threshold }) };
}

function settings() {
  const mode = byId("mode").value;
  const threshold = WITHOUT_THRESHOLD.has(mode) ? null : byId("threshold").valueAsNumber;
  return { mode, threshold, tokensMax: byId("tokens-max").valueAsNumber };
}

function showSettings() {
  const mode = byId("mode").value;
  const without = WITHOUT_THRESHOLD.has(mode);
  byId("threshold").disabled = without;
  byId("threshold-value").textContent = without ? "–" : byId("threshold").valueAsNumber.toFixed(2);
  byId("mode-note").textContent = NOTES[mode] ?? "";
  byId("send").hidden = running !== null;
  byId("stop").hidden = running === null;
}

let redrawing = false;

/** At most so often, however fast tokens come. */
function redraw() {
  if (redrawing) return;
  redrawing = true;
  setTimeout(() => {
    redrawing = false;
    draw(conversation.answers, pointed);
  }, REDRAW_MS);
}

/** The figures show where the token stands that the reader points at. */
function point(token) {
  pointed = token;
  redraw();
}

function startAfresh() {
  running?.abort();
  conversation = { messages: [], answers: [] };
  transcript.clear();
  redraw();
  prompt.focus();
}

function togglePanel() {
  const shown = byId("panel").classList.toggle("shown");
  byId("panel-toggle").setAttribute("aria-expanded", String(shown));
}

function sendOnEnter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
}

function tryExample(event) {
  if (event.target.localName !== "button") return;
  prompt.value = event.target.textContent;
  byId("composer").requestSubmit();
}

function announce(answer) {
  byId("announcement").textContent = answer.error ?? `Answer complete: ${transcript.facts(answer).join(", ")}`;
}

start();
