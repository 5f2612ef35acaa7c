// The figures beside the conversation, drawn as SVG: who decided all its tokens, and one answer's tokens one by one.
//
// All charts of tokens share one axis, so that what belongs to a token stands in one line from top to bottom.

import { SOURCES, byId, bytes, element, milliseconds, percent, svg } from "./format.js";
import { tally } from "./answer.js";

const WIDTH = 300;
const HEIGHT = 58;
const SHARE_HEIGHT = 10;
const RATE_POINTS = 100;
/** Tokens in view; earlier ones leave on the left. */
const TOKENS_SHOWN = 150;
/** Bars of fewer tokens are this wide at most. */
const BAR_WIDTH_MAX = 12;
/** The axes of time are never finer: a millisecond is not a wait. */
const TIME_AXIS_MIN_MS = 20;

/** Draws the share of all answers, and everything for the answer of the token pointed at, the one under way, or the last. */
export function draw(answers, pointed) {
  drawShare(tally(answers));
  const answer = pointed?.answer ?? answers.at(-1);
  drawRate(answer, pointed);
  const shown = new Shown(answer, pointed);
  drawConfidence(shown);
  drawWaits(shown);
  drawRoundTrips(shown);
  drawBytes(shown);
}

/** The tokens of an answer that are in view, and where. */
class Shown {
  constructor(answer, pointed) {
    this.answer = answer;
    this.tokens = answer ? answer.tokens.slice(-TOKENS_SHOWN) : [];
    this.width = Math.min(BAR_WIDTH_MAX, WIDTH / Math.max(this.tokens.length, 1));
    this.pointed = this.tokens.indexOf(pointed);
  }

  middle(index) {
    return (index + 0.5) * this.width;
  }

  /** One shape a token, of those that have one. */
  shapes(shape) {
    return this.tokens.map((token, index) => shape(token, this.middle(index))).filter(Boolean);
  }

  /** A bar from the bottom. */
  bar(kind, token, middle, share) {
    const height = HEIGHT * Math.min(share, 1);
    const [x, width] = [middle - this.width * 0.4, this.width * 0.8];
    return svg("rect", { class: kind, "data-source": token.source, x, y: HEIGHT - height, width, height });
  }

  replace(id, shapes, base = HEIGHT) {
    const mark = this.pointed < 0 ? [] : [marker(this.middle(this.pointed))];
    replace(id, HEIGHT, [axis(base), ...shapes, ...mark]);
  }
}

function drawShare(counts) {
  let left = 0;
  const parts = Object.keys(SOURCES).map((source) => {
    const width = counts.all ? (WIDTH * counts[source]) / counts.all : 0;
    const part = svg("rect", { class: "share", "data-source": source, x: left, y: 0, width, height: SHARE_HEIGHT });
    left += width;
    return part;
  });
  const back = svg("rect", { class: "empty", x: 0, y: 0, width: WIDTH, height: SHARE_HEIGHT });
  replace("share-chart", SHARE_HEIGHT, [back, ...parts]);
  byId("legend").replaceChildren(...legendRows(counts));
}

function legendRows(counts) {
  const names = { ...SOURCES, degraded: "degraded: cloud not there" };
  return Object.entries(names).map(([source, name]) => {
    const mark = element("span", { class: "token swatch", "aria-hidden": "true" }, "ab");
    if (source === "degraded") mark.dataset.degraded = "";
    else mark.dataset.source = source;
    const cells = [element("th", { scope: "row" }, mark, name)];
    cells.push(element("td", {}, String(counts[source])), element("td", {}, percent(counts[source], counts.all)));
    return element("tr", counts[source] ? {} : { "data-none": "" }, ...cells);
  });
}

function drawRate(answer, pointed) {
  const rates = answer ? [0, ...answer.rates(RATE_POINTS)] : [];
  const highest = Math.max(1, ...rates);
  say("rate-value", answer?.rate ? `${answer.rate.toFixed(1)} · peak ${highest}` : "");
  const line = rates.map((rate, index) => `${(WIDTH * index) / RATE_POINTS},${up(rate / highest)}`).join(" ");
  const area = svg("polygon", { class: "rate-area", points: `${line} ${WIDTH},${HEIGHT}` });
  const shapes = rates.length ? [area, svg("polyline", { class: "rate-line", points: line })] : [];
  const mark = pointed ? [marker((WIDTH * pointed.at) / answer.elapsed)] : [];
  replace("rate-chart", HEIGHT, [axis(HEIGHT), ...shapes, ...mark]);
}

function drawConfidence(shown) {
  const { tokens, answer } = shown;
  const mean = tokens.reduce((sum, token) => sum + token.confidence, 0) / tokens.length;
  say("confidence-value", tokens.length ? `mean ${mean.toFixed(2)}` : "");
  const dots = shown.shapes(({ source, confidence, degraded }, middle) => {
    const kind = degraded ? { "data-degraded": "" } : { "data-source": source };
    return svg("circle", { class: "confidence", cx: middle, cy: up(confidence), r: 2, ...kind });
  });
  const threshold = answer?.threshold == null ? [] : [level(answer.threshold)];
  shown.replace("confidence-chart", [...threshold, ...dots]);
}

function level(threshold) {
  return svg("line", { class: "threshold", x1: 0, x2: WIDTH, y1: up(threshold), y2: up(threshold) });
}

function drawWaits(shown) {
  const longest = Math.max(0, ...shown.tokens.map((token) => token.waited_ms));
  const { answer } = shown;
  say("wait-value", answer ? `${milliseconds(answer.waited)} · longest ${milliseconds(longest)}` : "");
  const highest = Math.max(longest, TIME_AXIS_MIN_MS);
  const bars = shown.shapes((token, middle) => shown.bar("wait", token, middle, token.waited_ms / highest));
  shown.replace("wait-chart", bars);
}

function drawRoundTrips(shown) {
  const times = shown.tokens.map((token) => token.round_trip_ms).filter((time) => time !== null);
  times.sort((a, b) => a - b);
  const [median, longest] = [times[times.length >> 1], times.at(-1)];
  say("round-trip-value", times.length ? `median ${milliseconds(median)} · longest ${milliseconds(longest)}` : "");
  const highest = Math.max(longest ?? 0, TIME_AXIS_MIN_MS);
  const bars = shown.shapes(
    (token, middle) => token.round_trip_ms !== null && shown.bar("round-trip", token, middle, token.round_trip_ms / highest),
  );
  shown.replace("round-trip-chart", bars);
}

/** Each half has a scale of its own: what goes up and what comes down differ a hundredfold. */
function drawBytes(shown) {
  const { answer, tokens } = shown;
  const sum = answer?.bytes;
  say("bytes-value", answer ? `↑ ${bytes(sum.up)} ↓ ${bytes(sum.down)}` : "");
  const middle = HEIGHT / 2;
  const area = (kind, most, count, towards) => {
    const line = shown.shapes((token, x) => `${x},${middle - (towards * middle * count(token)) / Math.max(most, 1)}`);
    const right = shown.middle(tokens.length - 1);
    return svg("polygon", { class: kind, points: `${shown.middle(0)},${middle} ${line.join(" ")} ${right},${middle}` });
  };
  const areas = tokens.length
    ? [area("bytes-up", sum.up, (token) => token.bytes_up, 1), area("bytes-down", sum.down, (token) => token.bytes_down, -1)]
    : [];
  shown.replace("bytes-chart", areas, middle);
}

/** Where a share of the height is. */
function up(share) {
  return HEIGHT * (1 - Math.min(share, 1));
}

function axis(y) {
  return svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: y, y2: y });
}

/** Where the token is that is pointed at. */
function marker(x) {
  return svg("line", { class: "marker", x1: x, x2: x, y1: -2, y2: HEIGHT });
}

/** Says what a chart comes to; while there is nothing to say, what it is about. */
function say(id, text) {
  const figure = byId(id);
  figure.dataset.about ??= figure.textContent;
  figure.textContent = text || figure.dataset.about;
}

function replace(id, height, shapes) {
  const chart = byId(id);
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  chart.replaceChildren(...shapes);
}
