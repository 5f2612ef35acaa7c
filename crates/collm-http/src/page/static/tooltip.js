// What is known of one token, beside it. Reached by pointer, touch and arrow keys.

import { SOURCES, byId, element, milliseconds } from "./format.js";

const MARGIN_PX = 8;

/** The token that it is about, if it is shown. */
let described = null;

/** Is told of the token that is described, and `null` when none is any more. */
let tell = () => {};

/** Shows it for the tokens in `container`; `tokenOf` gives a span's token, and nothing for what only looks like one. */
export function attach(container, tokenOf, point) {
  tell = point;
  const follow = (event) => {
    const span = event.target.closest?.(".token");
    const token = span && tokenOf(span);
    if (token) show(span, token);
    else hide();
  };
  container.addEventListener("pointerover", follow);
  container.addEventListener("click", follow);
  container.addEventListener("focusin", follow);
  container.addEventListener("pointerleave", hide);
  container.addEventListener("focusout", hide);
  container.addEventListener("scroll", hide);
  container.addEventListener("keydown", walk);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
}

export function hide() {
  if (described) tell(null);
  described?.removeAttribute("aria-describedby");
  described = null;
  byId("tooltip").hidden = true;
}

function show(span, token) {
  hide();
  described = span;
  tell(token);
  span.setAttribute("aria-describedby", "tooltip");
  const tooltip = byId("tooltip");
  tooltip.replaceChildren(title(token), facts(token));
  tooltip.hidden = false;
  place(tooltip, span.getClientRects()[0] ?? span.getBoundingClientRect());
}

function title(token) {
  const shown = token.text === "" ? "no text of its own" : JSON.stringify(token.text);
  return element("p", { class: "tooltip-token" }, shown);
}

function facts(token) {
  const rows = [
    ["source", SOURCES[token.source]],
    ["confidence", token.confidence.toFixed(3)],
    ["cloud asked", asked(token)],
    ["kept waiting", milliseconds(token.waited_ms)],
    ["came after", milliseconds(token.at)],
    ["id", String(token.id)],
  ];
  const list = element("dl", { "data-source": token.source });
  for (const [name, value] of rows) list.append(element("dt", {}, name), element("dd", {}, value));
  return list;
}

function asked(token) {
  if (token.degraded) return "it was not there: degraded";
  if (token.round_trip_ms !== null) return `yes, answered in ${milliseconds(token.round_trip_ms)}`;
  return token.source === "cloud" ? "it went on by itself" : "no";
}

/** Above the token, below where there is no room, and never past the sides of the window. */
function place(tooltip, target) {
  const { width, height } = tooltip.getBoundingClientRect();
  const left = target.left + target.width / 2 - width / 2;
  const above = target.top - height - MARGIN_PX;
  const room = document.documentElement.clientWidth - width - MARGIN_PX;
  tooltip.style.left = `${Math.max(MARGIN_PX, Math.min(left, room))}px`;
  tooltip.style.top = `${above < MARGIN_PX ? target.bottom + MARGIN_PX : above}px`;
}

const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };

/** Arrow keys go from token to token; the answer is one stop for the tab key. */
function walk(event) {
  const step = STEPS[event.key];
  const text = event.target.closest(".answer-text");
  if (step === undefined || !text) return;
  event.preventDefault();
  const tokens = [...text.querySelectorAll(".token")];
  const index = tokens.indexOf(event.target) + step;
  tokens[Math.max(0, Math.min(index, tokens.length - 1))]?.focus();
}
