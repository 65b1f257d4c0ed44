# The witness on this machine, under the runtime that Cloudflare runs. See README.md.
# Addresses and folders are given on the command line, settings in the environment.
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "witness", worker = .witness),
    (name = "cron", worker = .cron),
    (name = "storage", disk = (path = "unset", writable = true)),
    # Every request that the Worker makes goes to one address, whatever its host.
    (name = "outside", external = (address = "unset", http = (style = proxy))),
  ],
  sockets = [
    (name = "witness", address = "127.0.0.1:0", http = (), service = "witness"),
    (name = "cron", address = "127.0.0.1:0", http = (), service = "cron"),
  ],
);

const witness :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [
    (name = "worker.js", esModule = embed "../src/worker.js"),
    (name = "arbiter.js", esModule = embed "../src/arbiter.js"),
    (name = "auth.js", esModule = embed "../src/auth.js"),
    (name = "commands.js", esModule = embed "../src/commands.js"),
    (name = "decide.js", esModule = embed "../src/decide.js"),
    (name = "health.js", esModule = embed "../src/health.js"),
    (name = "page.js", esModule = embed "../src/page.js"),
    (name = "probe.js", esModule = embed "../src/probe.js"),
    (name = "rules.js", esModule = embed "../src/rules.js"),
    (name = "settings.js", esModule = embed "../src/settings.js"),
    (name = "state.js", esModule = embed "../src/state.js"),
    (name = "steering.js", esModule = embed "../src/steering.js"),
    (name = "storage.js", esModule = embed "../src/storage.js"),
  ],
  bindings = [
    (name = "ARBITER", durableObjectNamespace = "Arbiter"),
    (name = "NODES", fromEnvironment = "NODES"),
    (name = "LEASE_SECONDS", fromEnvironment = "LEASE_SECONDS"),
    (name = "NODE_TOKENS", fromEnvironment = "NODE_TOKENS"),
    (name = "OPERATOR_TOKEN", fromEnvironment = "OPERATOR_TOKEN"),
    (name = "STEERING", fromEnvironment = "STEERING"),
    (name = "CLOUDFLARE_API", fromEnvironment = "CLOUDFLARE_API"),
    (name = "ZONE_ID", fromEnvironment = "ZONE_ID"),
    (name = "PUBLIC_NAME", fromEnvironment = "PUBLIC_NAME"),
    (name = "DNS_TOKEN", fromEnvironment = "DNS_TOKEN"),
  ],
  durableObjectNamespaces = [
    (className = "Arbiter", uniqueKey = "overlord-witness-arbiter", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "storage"),
  globalOutbound = "outside",
);

const cron :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  compatibilityFlags = ["service_binding_extra_handlers"],
  modules = [(name = "cron.js", esModule = embed "cron.js")],
  bindings = [(name = "WITNESS", service = "witness")],
);
