/**
 * A blocked event loop: the node stays a member, its neighbours are undisturbed, and the hook tells how long.
 * `PROCESS_HUB_BLOCK_MS` sets how long; the timers of the hubs are the usual ones.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { internal } from './help/internal.mjs';
import { cluster, start, until } from './help/hubs.mjs';
import { script } from './help/script.mjs';

const BLOCK_MS = Number(process.env.PROCESS_HUB_BLOCK_MS ?? 4000);

test('event loop blocked then the node stays a member, and the hook tells how long', async (t) => {
  const neighbour = await start(t, { hubId: 'exit', name: 'neighbour', profile: 'fast', shutdownTimeoutMs: 5000 });
  const left = [];
  neighbour.on('postClusterLeave', (payload) => left.push(payload));
  const lost = [];
  neighbour.on('stateLost', (payload) => payload.childId !== 'b' && lost.push(payload));
  const blocked = script(
    `class Blocker extends ph.Child {
       start(ctx, args) { this.state = args ?? 0; }
       handle(message) {
         if (message === 'block') { const end = Date.now() + ${BLOCK_MS}; while (Date.now() < end); return 'unblocked'; }
         return ++this.state;
       }
     }
     const told = [];
     const hub = await ph.Hub.start({hubId: 'exit', name: 'blocked', profile: 'fast', seeds: ['${neighbour.address}'],
       kinds: {blocker: Blocker}, migration: ph.hotSwap({handover: true}),
       hooks: {hostUnresponsive: ({blockedMs}) => told.push(blockedMs)}});
     await hub.startChild({id: 'b', kind: 'blocker'}, {timeoutMs: 10000});
     console.log('ready');
     while (hub.childLookup('b') !== null) await new Promise((yes) => setTimeout(yes, 20));
     console.log(JSON.stringify(told));
     await hub.stop();`,
    { timeoutMs: BLOCK_MS + 60_000 },
  );
  await until(() => neighbour.childLookup('b')?.instances.length === 1);
  const own = Array.from({ length: 10 }, (_, n) => ({ id: `own${n}`, kind: 'counter' }));
  (await neighbour.startChildren(own, { timeoutMs: 10_000 })).raiseForErrors();
  const answer = neighbour.call('b', 'block', { timeoutMs: BLOCK_MS + 20_000 });
  const others = Array.from({ length: 5 }, () => neighbour.call('b', 1, { timeoutMs: 500 }).catch((error) => error.kind));
  let slowest = 0;
  let rounds = 0;
  let isDone = false;
  void answer.catch(() => {}).finally(() => (isDone = true));
  while (!isDone) {
    for (const { id } of own) {
      const begin = performance.now();
      await neighbour.call(id, 1, { timeoutMs: 3000 });
      slowest = Math.max(slowest, performance.now() - begin);
    }
    rounds += 1;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  // The call itself ends with host_timeout where it blocks longer than callbacks may.
  const result = await answer.catch((error) => error.kind);
  assert.ok(['unblocked', 'host_timeout', 'timeout'].includes(result), result);
  for (const kind of await Promise.all(others)) assert.equal(kind, 'timeout');
  assert.deepEqual([left, lost, neighbour.nodes()], [[], [], ['blocked']]);
  assert.ok(rounds > 3 && slowest < 2500, `${rounds} rounds, the slowest call took ${slowest} ms`);
  await until(() => neighbour.call('b', 1, { timeoutMs: 1000 }).then(() => true, () => false));
  await neighbour.stopChild('b', { timeoutMs: 10_000 });
  const { code, output } = await blocked;
  const told = JSON.parse(output.split("\n").find((line) => line.startsWith("[")));
  assert.equal(code, 0, output);
  assert.ok(told.length >= 2, output);
  assert.ok(Math.abs(Math.max(...told) - BLOCK_MS) < 1500, `told ${told}, blocked ${BLOCK_MS}`);
});

test('calls in a batch behind one that blocks then the loop counts as blocked', async (t) => {
  const { Host } = await internal('host');
  assert.equal(typeof Host, 'function');
  const [hub] = await cluster(t, 1);
  const told = [];
  hub.on('hostUnresponsive', ({ blockedMs }) => told.push(blockedMs));
  hub.intercept('childDataAlter', () => {
    const end = Date.now() + 1500;
    while (Date.now() < end);
  });
  await hub.startChild({ id: 'c', kind: 'counter' }, { timeoutMs: 10_000 });
  await until(() => told.length > 0);
  assert.ok(told.every((ms) => ms >= 1000 && ms < 10_000), String(told));
});
