/** Kinds and hubs that the tests share. */

import { Child, Hub, hotSwap } from 'process-hub';

export class Counter extends Child {
  start(ctx, args) {
    this.ctx = ctx;
    this.state = args ?? 0;
  }

  async handle(message) {
    if (message === 'boom') throw new RangeError('boom');
    if (message === 'where') return this.ctx.node;
    this.state += message ?? 0;
    return this.state;
  }
}

/** Answers what it is sent. */
export class Echo extends Child {
  static stateless = true;

  handle(message) {
    return message;
  }
}

export const kinds = { counter: Counter, echo: Echo };

/** Starts a hub that stops when the test ends. */
export async function start(t, options = {}) {
  const hub = await Hub.start({
    hubId: 'test',
    kinds,
    profile: 'fast',
    migration: hotSwap({ handover: true }),
    ...options,
  });
  t.after(() => hub.stop({ timeoutMs: 20_000 }));
  return hub;
}

/** Starts hubs that are members of one cluster. */
export async function cluster(t, count, options = {}) {
  const hubs = [await start(t, { name: 'n0', ...options })];
  for (let n = 1; n < count; n += 1) {
    hubs.push(await start(t, { name: `n${n}`, seeds: [hubs[0].address], ...options }));
  }
  await until(() => hubs.every((hub) => hub.nodes(true).length === count));
  return hubs;
}

/** Looks again and again until something holds. */
export async function until(holds, timeoutMs = 20_000) {
  const end = Date.now() + timeoutMs;
  for (;;) {
    const value = await holds();
    if (value) return value;
    if (Date.now() > end) throw new Error(`not true within ${timeoutMs} ms: ${holds}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A promise with its settlers. */
export function deferred() {
  let resolve, reject;
  const promise = new Promise((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** The first payload of a hook. */
export function once(hub, hook) {
  return new Promise((resolve) => hub.once(hook, resolve));
}
