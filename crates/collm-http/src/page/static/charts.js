// The figures beside the conversation, drawn as SVG: one answer's tokens, and the bytes of all answers.

import { SOURCES, byId, bytes, element, milliseconds, percent, svg } from "./format.js";
import { tally } from "./answer.js";

const WIDTH = 300;
const HEIGHT = 68;
const RATE_POINTS = 100;
/** Tokens in view; earlier ones leave on the left. */
const TOKENS_SHOWN = 150;
const ANSWERS_SHOWN = 20;
/** Bars of fewer tokens or answers are this wide at most. */
const BAR_WIDTH_MAX = 14;
/** The waiting axis is never finer: a millisecond is not a wait. */
const WAIT_AXIS_MIN_MS = 20;
/** Bytes are drawn by their logarithm: what goes up and what comes down differ a hundredfold. */
const BYTES_AXIS_MIN = 10;

/** Draws everything for the answer under way, or the last one. */
export function draw(answers) {
  drawShare(tally(answers));
  const answer = answers.at(-1);
  drawRate(answer);
  drawConfidence(answer);
  drawWaits(answer);
  drawBytes(answers.filter((answer) => answer.stats).slice(-ANSWERS_SHOWN));
}

function drawShare(counts) {
  let left = 0;
  const parts = Object.keys(SOURCES).map((source) => {
    const width = counts.all ? (WIDTH * counts[source]) / counts.all : 0;
    const part = svg("rect", { class: "share", "data-source": source, x: left, y: 0, width, height: 10 });
    left += width;
    return part;
  });
  const back = svg("rect", { class: "empty", x: 0, y: 0, width: WIDTH, height: 10 });
  replace("share-chart", 10, [back, ...parts]);
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

function drawRate(answer) {
  const rates = answer ? [0, ...answer.rates(RATE_POINTS)] : [];
  const highest = Math.max(1, ...rates);
  say("rate-value", answer?.rate ? `${answer.rate.toFixed(1)} · peak ${highest}` : "");
  const line = rates.map((rate, index) => `${(WIDTH * index) / RATE_POINTS},${up(rate / highest)}`).join(" ");
  const area = svg("polygon", { class: "rate-area", points: `${line} ${WIDTH},${HEIGHT}` });
  const shapes = rates.length ? [area, svg("polyline", { class: "rate-line", points: line })] : [];
  replace("rate-chart", HEIGHT, [...shapes, axis()]);
}

function drawConfidence(answer) {
  const tokens = shownTokens(answer);
  const mean = tokens.reduce((sum, token) => sum + token.confidence, 0) / tokens.length;
  say("confidence-value", tokens.length ? `mean ${mean.toFixed(2)}` : "");
  const width = barWidth(tokens.length);
  const dots = tokens.map((token, index) =>
    svg("circle", {
      class: "confidence",
      "data-source": token.source,
      cx: (index + 0.5) * width,
      cy: up(token.confidence),
      r: 2,
    }),
  );
  const threshold = answer?.threshold == null ? [] : [level(answer.threshold)];
  replace("confidence-chart", HEIGHT, [...threshold, ...dots, axis()]);
}

function level(threshold) {
  return svg("line", { class: "threshold", x1: 0, x2: WIDTH, y1: up(threshold), y2: up(threshold) });
}

function drawWaits(answer) {
  const tokens = shownTokens(answer);
  const longest = Math.max(0, ...tokens.map((token) => token.waited_ms));
  say("wait-value", answer ? `${milliseconds(answer.waited)} · longest ${milliseconds(longest)}` : "");
  const highest = Math.max(longest, WAIT_AXIS_MIN_MS);
  const width = barWidth(tokens.length);
  const bars = tokens.map((token, index) => {
    const height = (HEIGHT * token.waited_ms) / highest;
    return bar("wait", index, width, HEIGHT - height, height, { "data-source": token.source });
  });
  replace("wait-chart", HEIGHT, [...bars, axis()]);
}

function drawBytes(answers) {
  const last = answers.at(-1)?.stats;
  say("bytes-value", last ? `↑ ${bytes(last.bytes_up)} ↓ ${bytes(last.bytes_down)}` : "");
  const most = Math.max(1, ...answers.flatMap(({ stats }) => [magnitude(stats.bytes_up), magnitude(stats.bytes_down)]));
  const middle = HEIGHT / 2;
  const width = barWidth(answers.length);
  const bars = answers.flatMap(({ stats, mode }, index) => {
    const rise = (middle * magnitude(stats.bytes_up)) / most;
    const fall = (middle * magnitude(stats.bytes_down)) / most;
    const upward = bar("bytes-up", index, width, middle - rise, rise);
    const downward = bar("bytes-down", index, width, middle, fall);
    const label = `${mode}: up ${bytes(stats.bytes_up)}, down ${bytes(stats.bytes_down)}`;
    upward.append(svg("title", {}, label));
    downward.append(svg("title", {}, label));
    return [upward, downward];
  });
  replace("bytes-chart", HEIGHT, [...bars, axis(middle)]);
}

function magnitude(count) {
  return Math.max(0, Math.log10(count / BYTES_AXIS_MIN));
}

function shownTokens(answer) {
  return answer ? answer.tokens.slice(-TOKENS_SHOWN) : [];
}

function barWidth(count) {
  return Math.min(BAR_WIDTH_MAX, WIDTH / Math.max(count, 1));
}

function bar(kind, index, width, y, height, more = {}) {
  return svg("rect", { class: kind, x: index * width, y, width: width * 0.8, height, ...more });
}

/** Where a share of the height is. */
function up(share) {
  return HEIGHT * (1 - Math.min(share, 1));
}

function axis(y = HEIGHT) {
  return svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: y, y2: y });
}

function say(id, text) {
  byId(id).textContent = text;
}

function replace(id, height, shapes) {
  const chart = byId(id);
  chart.setAttribute("viewBox", `0 0 ${WIDTH} ${height}`);
  chart.replaceChildren(...shapes);
}
