// The edge's API, as far as the page uses it.

/** An error that the edge reported: `code` for programs, `message` for people. */
class EdgeError extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }

  get asksForKey() {
    return this.code === "invalid_api_key";
  }
}

/** Sent with every request once it is known; forgotten with the tab. */
let key = sessionStorage.getItem("key");

/** Says from now on who asks. */
export function useKey(value) {
  key = value;
  sessionStorage.setItem("key", value);
}

/** What the edge is and what it does unless told otherwise: `model`, `modes`, `mode`, `threshold`, … */
export async function properties() {
  return (await call("/props")).json();
}

/**
 * The events of one answer as they come: `token`, `degraded`, and at last `finished` or `error`.
 * Aborting the signal ends the answer at the edge and at the cloud.
 */
export async function* generate(request, signal) {
  const body = JSON.stringify({ ...request, stream: true });
  const response = await call("/v1/generate", { method: "POST", body, signal });
  let last;
  for await (const line of lines(response.body)) {
    last = JSON.parse(line);
    if (last.type === "error") throw new EdgeError(last.error);
    yield last;
  }
  if (last?.type !== "finished") throw new EdgeError({ code: "cut", message: "the edge ended the answer midway" });
}

/** How the edge is: `status` `ready`, `stopped` or `unreachable`, and what it last found of the way to the `cloud`. */
export async function readiness() {
  try {
    return await (await fetch("/ready")).json();
  } catch {
    return { status: "unreachable" };
  }
}

/** What the emulated link is like: `cut`, `rtt_ms`, `up`, `down`. Only where the properties have a `link`. */
export async function emulatedLink() {
  return (await call("/link")).json();
}

/** Cuts the emulated link, or restores it, and says what it is like then. */
export async function cutLink(cut) {
  return (await call("/link", { method: "POST", body: JSON.stringify({ cut }) })).json();
}

async function call(path, options = {}) {
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers }).catch(unreachable);
  if (!response.ok) throw await refusal(response);
  return response;
}

function unreachable(error) {
  if (error.name === "AbortError") throw error;
  throw new EdgeError({ code: "unreachable", message: "the edge cannot be reached" });
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  return new EdgeError(body?.error ?? { code: "http", message: `the edge answered with status ${response.status}` });
}

async function* lines(body) {
  let rest = "";
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}
