/** What this agent does with each command (tests/agents/README.md). */

import { Hub, InvalidArgumentError, InvalidConfigError, Node, version } from 'process-hub';

import { write } from './lines.mjs';
import { Probe } from './probe.mjs';
import { strategies } from './strategies.mjs';
import { given, rename, rowDocument, shown, toCamel, toSnake, whereDocument } from './values.mjs';

const KINDS = ['probe', 'probe_node'];
const START_OPTIONS = ['check_existing', 'if_exists', 'on_failure', 'metadata', 'child_mapping'];
const EXIT_MS = 20_000;

/** The error of a request that makes no sense. */
export function bad(message) {
  return new InvalidArgumentError(message, { operation: 'agent' });
}

const TYPES = {
  text: (value) => typeof value === 'string',
  boolean: (value) => typeof value === 'boolean',
  list: Array.isArray,
  object: (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'whole number': Number.isSafeInteger,
};

/** An argument of a type; without a default it has to be there. */
function argument(request, key, type, initial) {
  const value = request[key] ?? undefined;
  if (value === undefined) {
    if (initial === undefined) throw bad(`\`${key}\` is missing`);
    return initial;
  }
  if (!TYPES[type](value)) throw bad(`\`${key}\` must be a ${type}, not ${JSON.stringify(value)}`);
  return value;
}

/** The options of an operation, in the manner of our interface. */
function optionsOf(request, ...known) {
  const given = argument(request, 'options', 'object', {});
  const unknown = Object.keys(given).filter((key) => key !== 'timeout_ms' && !known.includes(key));
  if (unknown.length > 0) throw bad(`unknown options: ${unknown.join(', ')}`);
  const set = Object.entries(given).filter(([, value]) => value !== null);
  return rename(Object.fromEntries(set), toCamel);
}

const timeoutOf = (request, initial) => ({ timeoutMs: argument(request, 'timeout_ms', 'whole number', initial) });
const childOf = (request) => argument(request, 'child_id', 'text');

/** The message of `call` and `send`. */
function messageOf(request) {
  const payload = argument(request, 'payload', 'object', null);
  if (payload === null) return request.message ?? null;
  const isBase64 = TYPES.text(payload.base64) && /^(?:[\w+/]{4})*(?:[\w+/]{2}==|[\w+/]{3}=)?$/.test(payload.base64);
  if (!TYPES.text(payload.content_type) || !isBase64) {
    throw bad('`payload` needs the texts `content_type` and `base64`');
  }
  return given(payload);
}

function targetOf(request) {
  const node = argument(request, 'node', 'text', null);
  return node === null ? {} : { node };
}

/** What was begun is not waited for; what is refused at once is told. */
async function go(pending, what) {
  let refusal;
  pending.catch((error) => (refusal = error));
  await new Promise(setImmediate);
  if (refusal !== undefined) throw refusal;
  return `${what}_initiated`;
}

/** The nodes and hubs of this process. */
export class Agent {
  #nodes = [];
  #hubs = new Map();

  /** Carries out one request; gives what to answer. */
  async perform(request) {
    const command = argument(request, 'cmd', 'text');
    if (command === 'info') return { language: 'node', version, pid: process.pid };
    if (command === 'start_hub') return this.#startHub(request);
    if (!Object.hasOwn(COMMANDS, command)) throw bad(`no such cmd: ${command}`);
    const hubId = argument(request, 'hub_id', 'text');
    const hub = this.#hubs.get(hubId);
    if (hub === undefined) throw bad(`there is no hub ${JSON.stringify(hubId)} here`);
    if (command === 'stop_hub') return this.#stopHub(hub, timeoutOf(request, 60_000));
    return (await COMMANDS[command](hub, request)) ?? null;
  }

  async #startHub(request) {
    const config = argument(request, 'config', 'object');
    const kinds = Object.fromEntries(argument(request, 'kinds', 'list', KINDS).map((name) => [name, Probe]));
    const deciders = strategies(config.hub_id, argument(request, 'strategies', 'object', {}));
    const isOwn = (config.node ?? null) !== null;
    const place = isOwn ? { node: await this.#startNode(config, kinds), hubs: new Set() } : this.#nodes[0];
    if (place === undefined) {
      throw new InvalidConfigError('node: is missing, and this agent has none yet', { operation: 'start' });
    }
    let hub;
    try {
      hub = await Hub.fromConfig(config, { kinds, node: place.node, strategies: deciders });
    } catch (error) {
      if (isOwn) await place.node.stop();
      throw error;
    }
    if (isOwn) this.#nodes.push(place);
    place.hubs.add(hub.hubId);
    this.#hubs.set(hub.hubId, hub);
    return { hub_id: hub.hubId, node: hub.nodeName, address: hub.address };
  }

  async #startNode(config, kinds) {
    const profile = config.profile ?? undefined;
    try {
      return await Node.fromConfig(config.node, profile === undefined ? {} : { profile });
    } catch (error) {
      if (error instanceof InvalidConfigError) {
        // The hub's own start names the problems of the whole document.
        await (await Hub.fromConfig(config, { kinds })).stop();
      }
      throw error;
    }
  }

  async #stopHub(hub, options) {
    try {
      return await hub.stop(options);
    } finally {
      for (const place of [...this.#nodes]) {
        if (place.hubs.delete(hub.hubId) && place.hubs.size === 0) {
          this.#nodes.splice(this.#nodes.indexOf(place), 1);
          await place.node.stop();
        }
      }
    }
  }

  /** Stops every hub, gracefully, all at once. */
  async close() {
    const alive = [...this.#hubs.values()].filter((hub) => hub.isAlive());
    await Promise.allSettled(alive.map((hub) => this.#stopHub(hub, { timeoutMs: EXIT_MS })));
  }
}

const COMMANDS = {
  start_children: async (hub, request) => {
    const isSpec = TYPES.object;
    const specs = argument(request, 'specs', 'list').map((spec) => (isSpec(spec) ? rename(spec, toCamel) : spec));
    const pending = hub.startChildren(specs, optionsOf(request, ...START_OPTIONS));
    if (!argument(request, 'wait', 'boolean', true)) return go(pending, 'start');
    const { status, started, errors, rollback } = await pending;
    return { status, started, errors, rollback };
  },
  stop_children: async (hub, request) => {
    const pending = hub.stopChildren(argument(request, 'ids', 'list'), optionsOf(request));
    if (!argument(request, 'wait', 'boolean', true)) return go(pending, 'stop');
    const { status, stopped, errors } = await pending;
    return { status, stopped, errors };
  },
  child_lookup: (hub, request) => {
    const row = hub.childLookup(childOf(request));
    return row === null ? null : rowDocument(row);
  },
  process_registry: (hub) =>
    Object.fromEntries([...hub.processRegistry()].map(([id, row]) => [id, rowDocument(row)])),
  which_children: (hub, request) => hub.whichChildren(argument(request, 'scope', 'text', 'local')),
  tag_query: (hub, request) => hub.tagQuery(argument(request, 'tag', 'text')).map(rowDocument),
  metadata_query: (hub, request) => hub.metadataQuery(argument(request, 'key', 'text')).map(rowDocument),
  nodes: (hub, request) => hub.nodes(argument(request, 'include_local', 'boolean', false)),
  is_alive: (hub) => hub.isAlive(),
  is_locked: (hub) => hub.isLocked(),
  is_partitioned: (hub) => hub.isPartitioned(),
  call: async (hub, request) => {
    const options = { ...timeoutOf(request, 5000), ...targetOf(request) };
    return shown(await hub.call(childOf(request), messageOf(request), options));
  },
  send: (hub, request) => {
    const all = argument(request, 'all', 'boolean', false);
    return hub.send(childOf(request), messageOf(request), { ...targetOf(request), all });
  },
  subscribe: (hub, request) => {
    const hook = argument(request, 'hook', 'text');
    const tell = (payload) => {
      const spec = payload.spec === undefined ? {} : { spec: rename(payload.spec, toSnake) };
      write({ event: 'hook', hub_id: hub.hubId, hook, payload: { ...rename(payload, toSnake), ...spec } });
    };
    hub.on(toCamel(hook), tell, { id: 'agent' });
  },
  drain: (hub, request) => hub.drain(timeoutOf(request, 60_000)),
  stop_hub: () => undefined,
  where: async (hub, request) => whereDocument(await hub.where(childOf(request))),
  plan: (hub, request) => {
    const direct = ['join', 'leave'].filter((key) => (request[key] ?? null) !== null).map((key) => [key, request[key]]);
    return hub.plan(argument(request, 'change', 'object', Object.fromEntries(direct)));
  },
  sync: (hub, request) => hub.sync(timeoutOf(request, 5000)),
  acknowledge_loss: (hub, request) => hub.acknowledgeLoss(childOf(request)),
  metrics_text: (hub) => hub.metricsText(),
  debug_stats: (hub) => rename(hub.debugStats(), toSnake),
  reset_cluster_size: (hub, request) => hub.resetClusterSize(argument(request, 'n', 'whole number')),
};
