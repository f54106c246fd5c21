# The Worker in a workerd of one's own, for development and tests. Whoever starts it fills in what stands between
# at-signs, and puts the built index.js and index_bg.wasm beside the result. wrangler.toml says the same for Cloudflare.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    # Loopback is private, and that is where a local origin and Redis are.
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
