// The page in real headless Chromium, against a real edge, an emulated link and a real cloud. `./run test-page` runs it.
//
// Each step uses the page as a person does and looks at what that person would see. Screenshots go to --shots.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { startDemo } from "./demo.mjs";

const { values: options } = parseArgs({
  options: {
    collm: { type: "string", default: "target/release/collm" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    shots: { type: "string", default: "target/page" },
  },
});

const CHROMIUM_ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];
/** For what comes at last on the slowest machine, or, if something is broken, never. */
const PATIENCE_MS = 180_000;
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
const WIDTHS = [320, 390, 768, 1024, 1280, 1920];
const QUESTION = "Why is the sky blue?";

/** What the browser itself says when the edge refuses a request. The page shows why. */
const REFUSAL_NOTICE = /the server responded with a status of 40[01]/;

/** One run of the steps: the page, the edge behind it, and what the browser did that it should not. */
class Run {
  complaints = [];
  strangers = [];

  constructor(page, url) {
    this.page = page;
    this.url = url;
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("request", (request) => {
      if (!request.url().startsWith(`${url}/`)) this.strangers.push(request.url());
    });
  }

  shot(name) {
    return this.page.screenshot({ path: join(options.shots, `${name}.png`) });
  }

  answers() {
    return this.page.locator(".answer");
  }

  lastTokens() {
    return this.answers().last().locator(".token");
  }

  /** Points at a token that does not move any more: scrolling takes a tooltip away. */
  async point(token) {
    await token.scrollIntoViewIfNeeded();
    await this.page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
    await token.hover();
    await this.page.locator("#tooltip").waitFor();
  }

  /** Waits until the page says so of the way to the cloud. */
  link(state) {
    return this.page.locator(`#link[data-state=${state}]`).waitFor();
  }

  async choose({ mode, tokens, threshold }) {
    if (mode !== undefined) await this.page.selectOption("#mode", mode);
    if (tokens !== undefined) await this.page.fill("#tokens-max", String(tokens));
    if (threshold !== undefined) await this.page.fill("#threshold", String(threshold));
  }

  async send(question) {
    await this.page.fill("#prompt", question);
    await this.page.press("#prompt", "Enter");
  }

  /** Sends and waits for the end; gives the edge's own report and the request. */
  async ask(question) {
    const [response] = await Promise.all([this.page.waitForResponse(/\/v1\/generate$/), this.send(question)]);
    await this.ended();
    const lines = (await response.text()).trim().split("\n").map((line) => JSON.parse(line));
    return { request: response.request().postDataJSON(), report: lines.at(-1).answer, lines };
  }

  async ended() {
    await this.page.locator("#send").waitFor();
    assert.equal(await this.page.locator(".answer[aria-busy]").count(), 0);
  }

  async fresh() {
    await this.page.click("#fresh");
    assert.equal(await this.page.locator(".turn").count(), 0);
  }

  /** The browser has complained of refusals, as it should, and of nothing else. */
  expectRefusals() {
    assert.ok(this.complaints.length > 0);
    for (const complaint of this.complaints.splice(0)) assert.match(complaint, REFUSAL_NOTICE);
  }

  /** The tokens of the last answer as shown. */
  shown() {
    return this.lastTokens().evaluateAll((spans) =>
      spans.map((span) => ({
        text: span.textContent,
        source: span.dataset.source,
        degraded: "degraded" in span.dataset,
        background: getComputedStyle(span).backgroundColor,
      })),
    );
  }
}

const STEPS = {
  async "loads, with nothing from elsewhere"(run) {
    const { page } = run;
    const response = await page.goto(run.url);
    assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
    await run.link("untried");
    assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
    await page.locator("#link-text", { hasText: "edge ready" }).waitFor();
    await page.locator("#cut", { hasText: "Cut the link" }).waitFor();
    assert.equal(await page.locator("#mode").inputValue(), "collaborative");
    assert.match(await page.locator("#model").textContent(), /smollm2/i);
  },

  async "streams an answer, each token in the colour of its source"(run) {
    await shots(run, "start");
    await run.choose({ mode: "collaborative", tokens: 120, threshold: 0.6 });
    const { request, report } = await run.ask(QUESTION);
    assert.deepEqual([request.mode, request.threshold, request.stream], ["collaborative", 0.6, true]);
    await checkShown(run, report);
    const backgrounds = new Map((await run.shown()).map((token) => [token.source, token.background]));
    assert.equal(new Set(backgrounds.values()).size, backgrounds.size);
    assert.ok(backgrounds.size > 1, "an answer to which edge and cloud both contribute");
    await run.link("up");
  },

  async "keeps the conversation, in every mode"(run) {
    const edge = ["exit1", "exit2"];
    const sources = { standalone: edge, exact: ["cloud"], cloud: ["cloud"], naive: ["cloud"] };
    for (const mode of await run.page.locator("#mode option").allTextContents()) {
      const allowed = sources[mode] ?? [...edge, "cloud"];
      await run.choose({ mode, tokens: 12 });
      const { request, report } = await run.ask("And at night?");
      assert.equal(request.mode, mode);
      assert.equal(request.messages.at(0).content, QUESTION);
      assert.equal(request.messages.length, 2 * (await run.answers().count()) - 1);
      await checkShown(run, report);
      assert.ok((await run.shown()).every((token) => allowed.includes(token.source)), mode);
    }
  },

  async "draws what it measured"(run) {
    // A new conversation: in one that repeats itself the edge is sure of everything.
    await run.fresh();
    await run.choose({ mode: "collaborative", tokens: 40 });
    const { report } = await run.ask("And on the moon?");
    const count = (selector) => run.page.locator(selector).count();
    await until(async () => (await count("#confidence-chart .confidence")) === report.tokens.length);
    assert.equal(await count("#wait-chart .wait"), report.tokens.length);
    const asked = report.tokens.filter((token) => token.round_trip_ms !== null);
    assert.ok(asked.length > 0 && asked.every((token) => token.source === "cloud" && token.round_trip_ms >= 20));
    assert.equal(await count("#round-trip-chart .round-trip"), asked.length);
    const last = report.tokens.at(-1);
    assert.ok(last.bytes_up > 0 && last.bytes_up <= report.stats.bytes_up && last.bytes_down > 0);
    assert.equal(await count("#bytes-chart :is(.bytes-up, .bytes-down)"), 2);
    assert.equal(await count("#rate-chart .rate-line"), 1);
    const counts = await run.page.locator("#legend tr td:first-of-type").allTextContents();
    const [exit1, exit2, cloud, whole] = counts.map(Number);
    assert.equal(exit1 + exit2 + cloud + whole, await run.page.locator(".answer .token").count());
    assert.ok(exit2 > 0 && cloud > 0);
  },

  async "tells of a token by pointer and by keyboard"(run) {
    const tooltip = run.page.locator("#tooltip");
    await run.point(run.lastTokens().and(run.page.locator("[data-source=cloud]")).first());
    const told = /source.*confidence[01]\.\d{3}.*cloud askedyes, answered in.*kept waiting.*came after/;
    assert.match(await tooltip.textContent(), told);
    // It stands in one line in the charts of tokens, and in the one over time.
    const markers = run.page.locator(".panel .marker");
    await until(async () => (await markers.count()) === 5);
    await run.page.locator(".answer-text").last().focus();
    await run.page.keyboard.press("ArrowRight");
    await run.page.keyboard.press("ArrowRight");
    const focused = await run.page.evaluate(() => document.activeElement.textContent);
    assert.equal(focused, (await run.shown())[1].text);
    assert.equal(await run.page.locator("[aria-describedby=tooltip]").textContent(), focused);
    assert.ok((await tooltip.textContent()).startsWith(JSON.stringify(focused)));
    await run.page.keyboard.press("Escape");
    await tooltip.waitFor({ state: "hidden" });
    await until(async () => (await markers.count()) === 0);
  },

  async "stops, and the edge stops with it"(run) {
    await run.fresh();
    const cancelled = () => sample(run, 'collm_answers_total{ended="cancelled"}');
    const before = await cancelled();
    await run.choose({ mode: "exact", tokens: 1500 });
    await run.send("Tell me a long story.");
    await run.lastTokens().nth(4).waitFor();
    await run.page.click("#stop");
    await run.ended();
    assert.match(await run.answers().last().locator("footer").textContent(), /stopped/);
    await until(async () => (await cancelled()) > before);
    assert.ok((await run.lastTokens().count()) < 1500);
  },

  async "shows text as text"(run) {
    await run.fresh();
    const hostile = "<img src=x onerror=alert(1)><script>alert(2)</script> &amp; <b>bold</b>";
    await run.choose({ mode: "standalone", tokens: 5 });
    await run.ask(hostile);
    assert.equal(await run.page.locator(".question").last().textContent(), hostile);
    assert.equal(await run.page.locator(".question :is(img, script, b)").count(), 0);
  },

  async "says why a request is refused"(run) {
    await run.fresh();
    await run.send("word ".repeat(5000));
    await run.ended();
    assert.match(await run.page.locator(".error").textContent(), /prompt/);
    run.expectRefusals();
  },

  async "asks for a key where the edge does"(run) {
    // The edge of the demo has no keys: this stands in for one that has.
    const guarded = /\/(props|metrics|link|v1\/.*)$/;
    const guard = async (route) => {
      if ((await route.request().headerValue("authorization")) === "Bearer right") return route.fallback();
      return route.fulfill({ status: 401, json: { error: { code: "invalid_api_key", message: "no key" } } });
    };
    await run.page.route(guarded, guard);
    await run.page.reload();
    await run.link("locked");
    await run.page.fill("#key", "right");
    await run.page.press("#key", "Tab");
    await run.page.locator("#key").waitFor({ state: "hidden" });
    assert.notEqual(await run.page.locator("#link").getAttribute("data-state"), "locked");
    await run.choose({ mode: "standalone", tokens: 5 });
    await run.ask(QUESTION);
    assert.equal(await run.lastTokens().count(), 5);
    await run.page.unroute(guarded, guard);
    run.expectRefusals();
  },

  async "fits every width, light and dark"(run) {
    await run.fresh();
    await run.choose({ mode: "collaborative", tokens: 110, threshold: 0.6 });
    await run.ask(QUESTION);
    await run.choose({ tokens: 60 });
    await run.ask("And why is the sunset red?");
    for (const width of WIDTHS) {
      await run.page.setViewportSize({ width, height: 800 });
      assert.ok(await run.page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width} wide`);
    }
    await shots(run, "conversation");
    await run.page.setViewportSize(DESKTOP);
    await run.point(run.lastTokens().and(run.page.locator("[data-source=cloud]")).last());
    await run.shot("tooltip-desktop-light");
    await run.page.setViewportSize(PHONE);
    await run.page.click("#panel-toggle");
    await run.page.locator("#bytes-chart").waitFor();
    await run.shot("figures-phone-light");
    await run.page.click("#panel-toggle");
    await run.page.setViewportSize(DESKTOP);
  },

  async "goes on when the link is cut, says so, and asks again when it is restored"(run) {
    await run.fresh();
    await run.choose({ mode: "collaborative", tokens: 1500, threshold: 0.6 });
    await run.send(QUESTION);
    await run.lastTokens().nth(20).waitFor();
    await run.page.click("#cut");
    await run.link("cut");
    await run.page.locator(".event[data-event=lost]").waitFor();
    await run.page.locator(".answer .token[data-degraded]").nth(9).waitFor();
    assert.match(await run.page.locator(".loss").first().textContent(), /going on alone/);
    await run.shot("cut-desktop-light");
    await run.page.locator("#cut", { hasText: "Restore the link" }).press("Enter");
    await run.page.locator(".event[data-event=back]").waitFor();
    await run.link("up");
    await run.lastTokens().nth((await run.lastTokens().count()) + 20).waitFor();
    await run.page.click("#stop");
    await run.ended();
    assert.match(await run.answers().last().locator("footer").textContent(), /degraded/);
    await shots(run, "restored");
    await run.page.setViewportSize(DESKTOP);
  },

  async "answers without the cloud from the first token to the last"(run) {
    await run.fresh();
    await run.page.click("#cut");
    await run.choose({ mode: "collaborative", tokens: 40 });
    const { report } = await run.ask(QUESTION);
    assert.equal(report.degraded, true);
    assert.equal(report.stats.cloud_tokens, 0);
    await checkShown(run, report);
    assert.equal(await run.page.locator(".loss").count(), report.losses.length);
    assert.match(await run.page.locator("#link-text").textContent(), /link cut/);
    await run.page.click("#cut");
    await run.page.locator("#cut", { hasText: "Cut the link" }).waitFor();
  },

  async "shows no button where the link is not the edge's to cut"(run) {
    // This stands in for an edge that is no demo.
    const plain = async (route) => {
      const { link, ...properties } = await (await route.fetch()).json();
      assert.equal(link.cut, false);
      return route.fulfill({ json: properties });
    };
    await run.page.route(/\/props$/, plain);
    await run.page.reload();
    await run.page.locator("#mode option").first().waitFor({ state: "attached" });
    assert.equal(await run.page.locator("#cut").isVisible(), false);
    await run.page.unroute(/\/props$/, plain);
  },

  async "leaves the browser without complaints"({ complaints, strangers }) {
    assert.deepEqual(complaints, []);
    assert.deepEqual(strangers, []);
  },
};

/** The page shows the answer that the edge reported, token by token. */
async function checkShown(run, report) {
  const shown = await run.shown();
  assert.deepEqual(
    shown.map(({ text, source, degraded }) => ({ text, source, degraded })),
    report.tokens.map(({ text, source, degraded }) => ({ text, source, degraded })),
  );
  assert.equal(await run.lastTokens().evaluateAll((spans) => spans.map((s) => s.textContent).join("")), report.text);
}

async function sample(run, name) {
  const text = await (await fetch(`${run.url}/metrics`)).text();
  const line = text.split("\n").find((line) => line.startsWith(`${name} `));
  return Number(line?.split(" ").at(-1) ?? 0);
}

async function until(holds) {
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end; ) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`still not: ${holds}`);
}

async function shots(run, name) {
  for (const [device, size] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
    await run.page.setViewportSize(size);
    for (const colorScheme of ["dark", "light"]) {
      await run.page.emulateMedia({ colorScheme });
      await run.shot(`${name}-${device}-${colorScheme}`);
    }
  }
}

async function main() {
  mkdirSync(options.shots, { recursive: true });
  const profile = mkdtempSync(join(tmpdir(), "collm-page-"));
  const demo = await startDemo(options.collm);
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: options.chromium,
    args: CHROMIUM_ARGUMENTS,
    viewport: DESKTOP,
    colorScheme: "light",
  });
  try {
    browser.setDefaultTimeout(PATIENCE_MS);
    const run = new Run(await browser.newPage(), demo.url);
    for (const [name, step] of Object.entries(STEPS)) {
      await step(run);
      console.log(`ok  ${name}`);
    }
  } finally {
    await browser.close();
    await demo.stop();
    rmSync(profile, { recursive: true });
  }
}

await main();
