/** The child that every agent runs (tests/agents/README.md). */

import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';

import { Child } from 'process-hub';

import { write } from './lines.mjs';
import { isJson } from './values.mjs';

const MAX_LOG_ENTRIES = 1000;

const isObject = (value) => typeof value === 'object' && value !== null && !Array.isArray(value);

/** What `merge` makes of two data. */
function merged(own, other, how) {
  const result = new Map(how === 'max' || how === 'union' ? Object.entries(own) : []);
  for (const [key, value] of Object.entries(other)) {
    const mine = result.get(key);
    if (how === 'max' && typeof mine === 'number' && typeof value === 'number') {
      result.set(key, Math.max(mine, value));
    } else if (how === 'union' && Array.isArray(mine) && Array.isArray(value)) {
      const isNew = (item) => !mine.some((one) => isDeepStrictEqual(one, item));
      result.set(key, [...mine, ...value.filter(isNew)]);
    } else {
      result.set(key, value);
    }
  }
  return Object.fromEntries(result);
}

/** Holds `data` and tells what happens to it. */
export class Probe extends Child {
  #instance = randomBytes(8).toString('hex');
  #log = [];
  #args = {};
  #data = {};
  #ctx;

  async start(ctx, args) {
    this.#ctx = ctx;
    this.#args = isObject(args) ? args : {};
    this.#data = Object.fromEntries(Object.entries(this.#args.data ?? {}));
    this.#tell('start', ctx.startReason);
    if (this.#args.start_delay_ms > 0) await sleep(this.#args.start_delay_ms);
    if ('fail' in this.#args) throw new Error(this.#args.fail);
  }

  async run(ctx) {
    this.#note('run', null);
    const wanted = this.#args.run;
    if (wanted === undefined || wanted === null) {
      if (!ctx.cancelled) await new Promise((resolve) => ctx.signal.addEventListener('abort', resolve));
      return;
    }
    await sleep(wanted.ms, undefined, { signal: ctx.signal });
    if (wanted.then === 'throw') throw new Error('the body throws');
  }

  async handle(message) {
    if (!isJson(message)) {
      this.#note('handle', null);
      return message;
    }
    const op = isObject(message) ? message.op : undefined;
    this.#note('handle', op ?? null);
    const operation = typeof op === 'string' && Object.hasOwn(this.#operations, op) ? this.#operations[op] : undefined;
    if (operation === undefined) throw new Error(`no such op: ${JSON.stringify(message)}`);
    return operation(message);
  }

  async redundancySignal(mode) {
    this.#tell('redundancy_signal', mode);
    await this.#hang('signal');
  }

  handoverStart(target) {
    this.#note('handover_start', target.node ?? target.error);
  }

  async prepareHandoverState() {
    const hasState = this.#args.no_state !== true;
    this.#tell('prepare_handover_state', hasState ? this.#data : null);
    await this.#hang('prepare');
    if (!hasState) return null;
    const pad = this.#args.pad_bytes > 0 ? { pad: 'x'.repeat(this.#args.pad_bytes) } : {};
    return { data: this.#data, ...pad };
  }

  async alterHandoverState(state) {
    this.#tell('alter_handover_state', state.data);
    await this.#hang('alter');
    this.#data = merged(this.#data, state.data, this.#args.merge ?? 'replace');
  }

  resolveConflict(state) {
    this.#note('resolve_conflict', state.data);
    if ('merge' in this.#args) this.#data = merged(this.#data, state.data, this.#args.merge);
  }

  async stop(reason) {
    this.#tell('stop', reason);
    await this.#hang('stop');
  }

  #note(what, detail) {
    this.#log.push({ what, detail });
    if (this.#log.length > MAX_LOG_ENTRIES) this.#log.shift();
  }

  #tell(what, detail) {
    this.#note(what, detail);
    const { hubId, childId, node, epoch } = this.#ctx;
    write({ event: 'child', hub_id: hubId, child_id: childId, node, instance: this.#instance, epoch, what, detail });
  }

  async #hang(callback) {
    if (this.#args.hang_in === callback) await sleep(this.#args.ms);
  }

  #operations = {
    put: ({ key, value }) => {
      this.#set(key, value);
      return 'ok';
    },
    add: ({ key, n }) => this.#set(key, (this.#get(key) ?? 0) + n),
    get: ({ key }) => this.#get(key) ?? null,
    state: () => this.#data,
    who: () => ({
      node: this.#ctx.node,
      language: 'node',
      pid: process.pid,
      epoch: this.#ctx.epoch,
      mode: this.#ctx.mode,
      start_reason: this.#ctx.startReason,
      instance: this.#instance,
    }),
    log: () => [...this.#log],
    throw: ({ text }) => {
      throw new Error(text);
    },
    crash: () => {
      this.#ctx.exit('the probe crashes');
      return 'ok';
    },
    exit_process: () => {
      // At once: the library says goodbye to its members when it sees the process exit.
      process.removeAllListeners('exit');
      process.exit(1);
    },
    sleep: async ({ ms }) => {
      await sleep(ms);
      return 'ok';
    },
    stop_self: () => {
      this.#ctx.stopSelf();
      return 'ok';
    },
    echo: ({ value }) => value,
    call: ({ child_id: childId, message, timeout_ms: timeoutMs = 5000 }) =>
      this.#ctx.hub.call(childId, message, { timeoutMs }),
    block: ({ ms }) => {
      const end = performance.now() + ms;
      while (performance.now() < end);
      return 'ok';
    },
  };

  #get(key) {
    return Object.hasOwn(this.#data, key) ? this.#data[key] : undefined;
  }

  #set(key, value) {
    Object.defineProperty(this.#data, key, { value, writable: true, enumerable: true, configurable: true });
    return value;
  }
}
