// The page in real headless Chromium, against a real edge and a real cloud.
//
//   apt-get install chromium && npm install --prefix crates/collm-http/tests/browser
//   collm split smollm2-135m --out parts
//   node crates/collm-http/tests/browser/page.mjs --collm target/release/collm --part parts/edge.gguf --shots shots
//
// Each step uses the page as a person does and looks at what that person would see. Screenshots go to --shots.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { chromium } from "playwright-core";
import { startServers } from "./servers.mjs";

const { values: options } = parseArgs({
  options: {
    collm: { type: "string", default: "target/release/collm" },
    chromium: { type: "string", default: "/usr/bin/chromium" },
    model: { type: "string", default: "smollm2-135m" },
    part: { type: "string" },
    shots: { type: "string", default: "shots" },
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
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };
const WIDTHS = [320, 390, 768, 1024, 1280, 1920];
const QUESTION = "Why is the sky blue?";

/** What the browser itself says when the edge refuses a request. The page shows why. */
const REFUSAL_NOTICE = /the server responded with a status of 40[01]/;

/** One run of the steps: the page, the servers behind it, and what the browser did that it should not. */
class Run {
  complaints = [];
  strangers = [];

  constructor(page, servers) {
    this.page = page;
    this.servers = servers;
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) this.complaints.push(message.text());
    });
    page.on("pageerror", (error) => this.complaints.push(String(error)));
    page.on("request", (request) => {
      if (!request.url().startsWith(`${servers.edge.url}/`)) this.strangers.push(request.url());
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
  async "loads, with nothing from elsewhere"({ page, servers }) {
    const response = await page.goto(servers.edge.url);
    assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
    await page.locator("#link[data-state=unknown]").waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
    await page.locator("#link-text", { hasText: "edge ready" }).waitFor();
    assert.equal(await page.locator("#mode").inputValue(), "collaborative");
    assert.match(await page.locator("#model").textContent(), /smollm2/i);
  },

  async "streams an answer, each token in the colour of its source"(run) {
    await run.shot("start-desktop-light");
    await run.choose({ mode: "collaborative", tokens: 120, threshold: 0.6 });
    const { request, report } = await run.ask(QUESTION);
    assert.deepEqual([request.mode, request.threshold, request.stream], ["collaborative", 0.6, true]);
    await checkShown(run, report);
    const backgrounds = new Map((await run.shown()).map((token) => [token.source, token.background]));
    assert.equal(new Set(backgrounds.values()).size, backgrounds.size);
    assert.ok(backgrounds.size > 1, "an answer to which edge and cloud both contribute");
    await run.page.locator("#link[data-state=answering]").waitFor();
  },

  async "keeps the conversation, in every mode"(run) {
    const sources = { standalone: ["exit1", "exit2"], exact: ["cloud"], cloud: ["cloud"], naive: ["cloud"] };
    for (const [mode, allowed] of Object.entries(sources)) {
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
    const count = (selector) => run.page.locator(selector).count();
    assert.equal(await count("#confidence-chart .confidence"), await run.lastTokens().count());
    assert.equal(await count("#wait-chart .wait"), await run.lastTokens().count());
    assert.equal(await count("#bytes-chart .bytes-up"), await run.answers().count());
    assert.equal(await count("#rate-chart .rate-line"), 1);
    const counts = await run.page.locator("#legend tr td:first-of-type").allTextContents();
    const [exit1, exit2, cloud, whole] = counts.map(Number);
    assert.equal(exit1 + exit2 + cloud + whole, await run.page.locator(".answer .token").count());
    assert.ok(exit2 > 0 && cloud > 0);
  },

  async "tells of a token by pointer and by keyboard"(run) {
    const tooltip = run.page.locator("#tooltip");
    await run.lastTokens().nth(2).hover();
    assert.match(await tooltip.textContent(), /source.*confidence0\.\d{3}.*waited.*ms.*cloud askedyes/);
    await run.shot("tooltip-desktop-light");
    await run.page.locator(".answer-text").last().focus();
    await run.page.keyboard.press("ArrowRight");
    await run.page.keyboard.press("ArrowRight");
    const focused = await run.page.evaluate(() => document.activeElement.textContent);
    assert.equal(focused, (await run.shown())[1].text);
    assert.equal(await run.page.locator("[aria-describedby=tooltip]").textContent(), focused);
    assert.ok((await tooltip.textContent()).startsWith(JSON.stringify(focused)));
    await run.page.keyboard.press("Escape");
    await tooltip.waitFor({ state: "hidden" });
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
    // The servers of this test have no keys: this stands in for one that has.
    const guard = async (route) => {
      if ((await route.request().headerValue("authorization")) === "Bearer right") return route.fallback();
      return route.fulfill({ status: 401, json: { error: { code: "invalid_api_key", message: "no key" } } });
    };
    await run.page.route(/\/(props|metrics|v1\/.*)$/, guard);
    await run.page.reload();
    await run.page.fill("#key", "right");
    await run.page.press("#key", "Tab");
    await run.page.locator("#link[data-state=unknown]").waitFor();
    assert.equal(await run.page.locator("#key").isVisible(), false);
    await run.choose({ mode: "standalone", tokens: 5 });
    await run.ask(QUESTION);
    assert.equal(await run.lastTokens().count(), 5);
    await run.page.unroute(/\/(props|metrics|v1\/.*)$/, guard);
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
    await run.lastTokens().and(run.page.locator("[data-source=cloud]")).last().hover();
    await run.shot("picture");
    await run.page.setViewportSize(PHONE);
    await run.page.click("#panel-toggle");
    await run.page.locator("#bytes-chart").waitFor();
    await run.shot("figures-phone-light");
    await run.page.click("#panel-toggle");
    await run.page.setViewportSize(DESKTOP);
  },

  async "goes on when the cloud is gone, and says so"(run) {
    await run.fresh();
    await run.choose({ mode: "collaborative", tokens: 40 });
    await run.servers.cloud.stop();
    const { report } = await run.ask(QUESTION);
    assert.equal(report.degraded, true);
    await checkShown(run, report);
    assert.ok((await run.shown()).some((token) => token.degraded));
    assert.equal(await run.page.locator(".loss").count(), report.losses.length);
    await run.page.locator("#link[data-state=lost]").waitFor();
    await shots(run, "degraded");
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
  const text = await (await fetch(`${run.servers.edge.url}/metrics`)).text();
  const line = text.split("\n").find((line) => line.startsWith(`${name} `));
  return Number(line?.split(" ").at(-1) ?? 0);
}

/** Waits for what comes soon or, if something is broken, never. */
async function until(holds) {
  for (let attempt = 0; attempt < 1000; attempt++) {
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
  assert.ok(options.part, "say which edge part to use: --part FILE");
  mkdirSync(options.shots, { recursive: true });
  const profile = mkdtempSync(join(tmpdir(), "collm-page-"));
  const servers = await startServers(options);
  const browser = await chromium.launchPersistentContext(profile, {
    executablePath: options.chromium,
    args: CHROMIUM_ARGUMENTS,
    viewport: DESKTOP,
    colorScheme: "light",
  });
  try {
    const run = new Run(await browser.newPage(), servers);
    for (const [name, step] of Object.entries(STEPS)) {
      await step(run);
      console.log(`ok  ${name}`);
    }
  } finally {
    await browser.close();
    await servers.edge.stop();
    await servers.cloud.stop();
    rmSync(profile, { recursive: true });
  }
}

await main();
