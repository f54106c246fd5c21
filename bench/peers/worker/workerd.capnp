# The peer in a workerd of its own. Whoever starts it fills in what stands between at-signs.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "peer", worker = .peer),
    (name = "network", network = (allow = ["public", "private"])),
  ],
  sockets = [(name = "http", address = "@LISTEN@", http = (), service = "peer")],
);

const peer :Workerd.Worker = (
  modules = [
    (name = "worker.js", esModule = embed "worker.js"),
    (name = "resp.js", esModule = embed "resp.js"),
  ],
  compatibilityDate = "2026-11-01",
  bindings = [
    (name = "REDIS_HOST", text = "@REDIS_HOST@"),
    (name = "REDIS_PORT", text = "@REDIS_PORT@"),
    (name = "REDIS_TLS", text = "@REDIS_TLS@"),
  ],
  globalOutbound = "network",
);
