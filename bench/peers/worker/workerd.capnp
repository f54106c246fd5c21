# The peer in its own workerd. The program that starts it replaces the names between at-signs.
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
