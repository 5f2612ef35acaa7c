// A real edge and a real cloud on free ports of this machine, one thread each.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";

export async function startServers({ collm, model, part }) {
  // The cloud holds the whole model: that serves every mode, the cloud's own too.
  const cloud = await startServer(collm, ["cloud", "--model", model]);
  const edge = await startServer(collm, ["edge", "--part", part, "--cloud", cloud.url]);
  return { cloud, edge };
}

async function startServer(collm, command) {
  const more = ["--listen", "127.0.0.1:0", "--threads", "1"];
  const child = spawn(collm, [...command, ...more], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const early = ended.then(([code]) => Promise.reject(new Error(`collm ${command[0]} ended at once with ${code}`)));
  const [line] = await Promise.race([once(createInterface(child.stdout), "line"), early]);
  early.catch(() => {});
  return { url: `http://${JSON.parse(line).listening}`, stop: () => stop(child, ended) };
}

async function stop(child, ended) {
  if (child.exitCode === null && child.signalCode === null) child.kill("SIGKILL");
  await ended;
}
