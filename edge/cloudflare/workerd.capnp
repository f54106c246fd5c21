# The Worker in a local workerd, for development and tests. The program that starts it replaces the names between
# at-signs, and puts the built index.js and index_bg.wasm beside the result. wrangler.toml is the equivalent for
# Cloudflare.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    # A local origin and Redis listen on loopback, which counts as private.
    (name = "network", network = (allow = ["public", "private"])),
  ],
  sockets = [(name = "http", address = "@LISTEN@", http = (), service = "edge")],
);

const edge :Workerd.Worker = (
  modules = [
    (name = "index.js", esModule = embed "index.js"),
    (name = "./index_bg.wasm", wasm = embed "index_bg.wasm"),
  ],
  compatibilityDate = "2026-11-01",
  bindings = [
    @BINDINGS@,
    (name = "REDIS", durableObjectNamespace = "RedisConnection"),
  ],
  durableObjectNamespaces = [(className = "RedisConnection", uniqueKey = "optimist-redis")],
  durableObjectStorage = (inMemory = void),
  globalOutbound = "network",
);
