/**
 * The Node side of `cargo xtask bench`: a process with one hub that obeys. It reads one JSON object per line and
 * answers each with one; the orders are those of `tests/src/bench/worker.rs`.
 */

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { Child, Hub, hotSwap } from 'process-hub';

const KIND = 'w';
const STATE = 42;
const PATIENCE_MS = 120_000;
const POLL_MS = 1;
const PIPELINE = 64;

/** A child with a number for its state. */
class Worker extends Child {
  start() {
    this.state = 0;
  }

  handle(message) {
    if (message === 'put') this.state = STATE;
    return this.state;
  }
}

const ids = (count) => Array.from({ length: count }, (_, index) => `c${index}`);

/** Numbers that are the same in every run (mulberry32). */
function picks(from, count) {
  let seed = 1;
  return Array.from({ length: count }, () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return from[(mixed >>> 0) % from.length];
  });
}

async function waitUntil(holds) {
  const end = performance.now() + PATIENCE_MS;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`not true within ${PATIENCE_MS / 1000} s`);
    await sleep(POLL_MS);
  }
}

const microseconds = (since) => (performance.now() - since) * 1e3;

let hub;

/** Calls children, a few at a time, and counts the replies that hold. */
async function stream(children, message, holds) {
  let next = 0;
  let count = 0;
  const caller = async () => {
    while (next < children.length) {
      const child = children[next];
      next += 1;
      if (holds(await hub.call(child, message, { timeoutMs: PATIENCE_MS }))) count += 1;
    }
  };
  await Promise.all(Array.from({ length: PIPELINE }, caller));
  return count;
}

function elsewhere(isRemote) {
  const rows = [...hub.processRegistry().values()];
  return rows.filter((row) => (row.instances[0].node !== hub.nodeName) === isRemote).map((row) => row.id);
}

const ORDERS = {
  async open({ name, seeds }) {
    hub = await Hub.start({ hubId: 'bench', kinds: { [KIND]: Worker }, name, seeds, migration: hotSwap({ handover: true }) });
    return { address: hub.address };
  },
  rss() {
    globalThis.gc?.();
    const kib = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'utf8'));
    return { bytes: Number(kib[1]) * 1024 };
  },
  async members({ count }) {
    await waitUntil(() => hub.nodes(true).length === count);
    return {};
  },
  async warm_up() {
    const id = `warm_up:${hub.nodeName}`;
    await hub.startChild({ id, kind: KIND }, { timeoutMs: PATIENCE_MS });
    await hub.stopChild(id, { timeoutMs: PATIENCE_MS });
    return {};
  },
  async start({ count }) {
    const specs = ids(count).map((id) => ({ id, kind: KIND }));
    const before = performance.now();
    const result = await hub.startChildren(specs, { timeoutMs: PATIENCE_MS });
    const us = microseconds(before);
    result.raiseForErrors();
    return { us };
  },
  async stop({ count }) {
    const children = ids(count);
    const before = performance.now();
    const result = await hub.stopChildren(children, { timeoutMs: PATIENCE_MS });
    const us = microseconds(before);
    result.raiseForErrors();
    return { us };
  },
  async gone() {
    await waitUntil(() => hub.debugStats().children === 0);
    return {};
  },
  /** Waits until each child runs on its owner and nowhere else; then looks at every one once more, and takes the time. */
  async expect({ nodes, owners }) {
    const expected = [...owners].map((digit, index) => [`c${index}`, nodes[Number(digit)]]);
    const isThere = ([id, owner]) => {
      const row = hub.childLookup(id);
      return row !== null && row.instances.length === 1 && row.instances[0].node === owner;
    };
    let left = expected;
    let check = 0;
    await waitUntil(() => {
      left = left.slice(left.findIndex((child) => !isThere(child)));
      if (!isThere(left[0])) return false;
      const before = performance.now();
      const missing = expected.filter((child) => !isThere(child));
      check = microseconds(before);
      left = missing.length > 0 ? missing : expected.slice(-1);
      return missing.length === 0;
    });
    return { check_us: check };
  },
  async put({ count }) {
    return { kept: await stream(ids(count), 'put', (reply) => reply === STATE) };
  },
  async states({ count }) {
    return { kept: await stream(ids(count), 'get', (reply) => reply === STATE) };
  },
  lookup({ count, rounds }) {
    const chosen = picks(ids(count), rounds);
    let found = 0;
    const before = performance.now();
    for (const id of chosen) {
      if (hub.childLookup(id) !== null) found += 1;
    }
    const ns = microseconds(before) * 1e3;
    if (found !== rounds) throw new Error(`${rounds - found} of ${rounds} lookups found nothing`);
    return { ns: ns / rounds };
  },
  async call({ remote, rounds }) {
    const times = [];
    for (const id of picks(elsewhere(remote === true), rounds)) {
      const before = performance.now();
      await hub.call(id, 'get');
      times.push(microseconds(before));
    }
    times.sort((a, b) => a - b);
    const at = (share) => times[Math.floor(((times.length - 1) * share) / 100)];
    return { p50_us: at(50), p99_us: at(99) };
  },
  async stream({ rounds }) {
    const chosen = picks(elsewhere(false), rounds);
    const before = performance.now();
    const count = await stream(chosen, 'get', () => true);
    return { us: microseconds(before) / count };
  },
  async close() {
    const before = performance.now();
    const report = await hub.stop({ timeoutMs: PATIENCE_MS });
    const us = microseconds(before);
    const notMoved = report.restarted.length + report.stopped.length + report.failed.length;
    return { us, moved: report.moved.length, not_moved: notMoved };
  },
};

console.log('{}');
for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line);
  let answer;
  try {
    answer = await ORDERS[order.op](order);
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
