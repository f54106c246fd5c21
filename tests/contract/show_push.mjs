// Delivers pushes to the reference service worker in a real Chromium, and prints the notifications that it then shows.
//
// Arguments: the browser, the folder of the worker. Standard input: the pushes' contents, as a JSON array of strings. Chromium
// subscribes with its vendor's push service alone, so the contents go in where that service would bring them: behind decryption.

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";

const [program, folder] = process.argv.slice(2);
const pushes = JSON.parse(readFileSync(0, "utf8"));

/** The app: a page, and the worker beside it. */
async function serve() {
  const server = createServer((request, response) => {
    const isWorker = request.url === "/worker.js";
    response.setHeader("content-type", isWorker ? "text/javascript" : "text/html");
    response.end(isWorker ? readFileSync(join(folder, "worker.js")) : "<!doctype html><title>app</title>");
  });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  return server;
}

/** The DevTools protocol over two pipes: messages end with a zero byte. */
class Browser {
  #waiting = new Map();
  #listeners = [];
  #last = 0;
  #rest = "";

  constructor(profile) {
    const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"];
    this.process = spawn(program, [...flags, "--no-first-run", `--user-data-dir=${profile}`], {
      stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
    });
    let errors = "";
    this.process.stderr.on("data", (data) => (errors += data));
    this.ended = new Promise((ended) => this.process.on("close", ended));
    this.ended.then(() => {
      for (const [, fail] of this.#waiting.values()) fail(new Error(`the browser ended: ${errors}`));
    });
    this.process.stdio[4].setEncoding("utf8").on("data", (text) => this.#receive(text));
  }

  #receive(text) {
    const messages = (this.#rest + text).split("\0");
    this.#rest = messages.pop();
    for (const message of messages.map((message) => JSON.parse(message))) {
      const [done, fail] = this.#waiting.get(message.id) ?? [];
      this.#waiting.delete(message.id);
      if (!done) this.#listeners.forEach((listener) => listener(message));
      else if (message.error) fail(new Error(JSON.stringify(message.error)));
      else done(message.result);
    }
  }

  send(method, params = {}, sessionId = undefined) {
    const id = ++this.#last;
    this.process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return new Promise((done, fail) => this.#waiting.set(id, [done, fail]));
  }

  /** The first event of this kind for which `found` returns something, which it resolves to. */
  event(method, found) {
    return new Promise((done) => {
      this.#listeners.push((message) => {
        const value = message.method === method ? found(message.params) : undefined;
        if (value !== undefined) done(value);
      });
    });
  }
}

const server = await serve();
const origin = `http://localhost:${server.address().port}`;
const profile = mkdtempSync(join(tmpdir(), "optimist-chromium-"));
const browser = new Browser(profile);
try {
  await browser.send("Browser.grantPermissions", { origin, permissions: ["notifications"] });
  const { targetId } = await browser.send("Target.createTarget", { url: `${origin}/` });
  const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  const evaluate = async (expression) => {
    const parameters = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await browser.send("Runtime.evaluate", parameters, sessionId);
    if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
    return result.value;
  };
  const active = browser.event("ServiceWorker.workerVersionUpdated", ({ versions }) =>
    versions.find((version) => version.status === "activated")?.registrationId,
  );
  await browser.send("ServiceWorker.enable", {}, sessionId);
  while ((await evaluate("location.origin + document.readyState")) !== `${origin}complete`);
  await evaluate(`navigator.serviceWorker.register("/worker.js").then(() => navigator.serviceWorker.ready).then(() => true)`);
  const registrationId = await active;
  // Asking for notifications that are about to be shown would remove them, so this waits for each.
  const service = "notifications";
  await browser.send("BackgroundService.startObserving", { service }, sessionId);
  await browser.send("BackgroundService.setRecording", { service, shouldRecord: true }, sessionId);
  for (const data of pushes) {
    const displayed = browser.event("BackgroundService.backgroundServiceEventReceived", (event) => event);
    await browser.send("ServiceWorker.deliverPushMessage", { origin, registrationId, data }, sessionId);
    await displayed;
  }
  const shown = await evaluate(`navigator.serviceWorker.ready.then((worker) => worker.getNotifications()).then((all) =>
    all.map(({ title, body, tag, data }) => ({ title, body, tag, data })))`);
  console.log(JSON.stringify(shown));
} finally {
  browser.process.kill("SIGKILL");
  await browser.ended;
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
