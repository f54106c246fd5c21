// The Worker, with objects that fail when a request asks for it: `X-Fault` names the fault.
import worker, { RedisConnection as Inner } from "./index.js";

export default worker;

/** Requests to objects. */
let asked = 0;

export class RedisConnection {
  constructor(context, env) {
    this.context = context;
    this.inner = new Inner(context, env);
  }

  async fetch(request) {
    const head = request.headers.get("optimist-head") ?? "";
    switch (/"x-fault","([a-z]+)"/.exec(head)?.[1]) {
      case "count":
        return new Response(String(asked));
      case "killed":
        this.context.abort("killed");
        break;
      case "hung":
        await scheduler.wait(60_000);
        break;
      case "mute":
        this.isMute = true;
        break;
      case "trapped":
        // An exception that crosses Wasm ends the instance, as a trap does.
        return this.inner.fetch({
          headers: {
            get() {
              throw new WebAssembly.RuntimeError("unreachable");
            },
          },
        });
      case "late": {
        const answer = await this.inner.fetch(request);
        await scheduler.wait(60_000);
        return answer;
      }
    }
    // What is told after an answer has no head.
    if (this.isMute && head === "") await scheduler.wait(60_000);
    asked += 1;
    return this.inner.fetch(request);
  }
}
