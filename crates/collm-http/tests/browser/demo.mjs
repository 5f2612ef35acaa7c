// `collm demo --page`: a real cloud, an emulated link and a real edge, one core and one thread each.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

const ADDRESS = /http:\/\/127\.0\.0\.1:\d+/;

/** Starts it; gives the page's address, and a way to end it as ctrl-c does. */
export async function startDemo(collm) {
  const environment = { ...process.env, COLLM_CONFIG: "", NO_COLOR: "1" };
  const child = spawn(collm, ["demo", "--page"], { stdio: ["ignore", "pipe", "inherit"], env: environment });
  const ended = once(child, "exit");
  for await (const line of createInterface(child.stdout)) {
    const url = ADDRESS.exec(line)?.[0];
    if (url) return { url, stop: () => stop(child, ended) };
  }
  const [code] = await ended;
  throw new Error(`collm demo --page ended with ${code} before it said where the page is`);
}

async function stop(child, ended) {
  child.kill("SIGTERM");
  const [code] = await ended;
  if (code !== 0) throw new Error(`collm demo --page ended with ${code}`);
}
