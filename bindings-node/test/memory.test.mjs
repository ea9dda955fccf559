/** What is opened and closed leaves nothing behind. `PROCESS_HUB_CYCLES` sets how often. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { internal } from './help/internal.mjs';
import { kinds, start, until } from './help/hubs.mjs';

const CYCLES = Number(process.env.PROCESS_HUB_CYCLES ?? 1000);
const { runtime } = await internal('runtime');

const resident = () => {
  globalThis.gc();
  return process.memoryUsage();
};

test(`${CYCLES} hubs opened and closed then debugStats is flat`, async (t) => {
  const node = await ph.Node.start({ name: 'cycles', profile: 'fast' });
  t.after(() => node.stop());
  const watch = await start(t, { hubId: 'watch', node });
  const cycle = async (n) => {
    const hub = await ph.Hub.start({ hubId: `cycle${n % 7}`, kinds, node, hooks: { stateLost: () => {} } });
    await hub.startChild({ id: 'c', kind: 'counter' });
    assert.equal(await hub.call('c', 1), 1);
    await hub.stop();
  };
  // The allocator's pools grow until they have seen every thread at once.
  for (let n = 0; n < CYCLES / 2; n += 1) await cycle(n);
  const before = watch.debugStats();
  const memory = resident();
  for (let n = 0; n < CYCLES; n += 1) await cycle(n);
  await until(() => watch.debugStats().threads <= before.threads);
  // A thread of the last start may still have been ending when `before` was taken; none is more.
  assert.deepEqual({ ...watch.debugStats(), threads: before.threads }, before);
  const after = resident();
  const grown = (key) => (after[key] - memory[key]) / CYCLES;
  assert.ok(grown('heapUsed') < 2000, `${grown('heapUsed')} bytes of heap per cycle`);
  assert.ok(after.rss - memory.rss < 32 * 2 ** 20, `${after.rss - memory.rss} resident bytes more`);
  assert.ok(Math.abs(after.external - memory.external) < 2 ** 20, 'external memory');
});

test('hubs with nodes of their own opened and closed then threads and descriptors are flat', async (t) => {
  const watch = await start(t, { hubId: 'watch' });
  const cycle = async () => {
    const hub = await ph.Hub.start({ hubId: 'own', kinds, profile: 'fast' });
    await hub.stop();
  };
  for (let n = 0; n < 5; n += 1) await cycle();
  const before = watch.debugStats();
  for (let n = 0; n < Math.max(10, CYCLES / 20); n += 1) await cycle();
  await until(() => {
    const { threads, descriptors } = watch.debugStats();
    return threads <= before.threads && descriptors <= before.descriptors;
  });
});

test('hubs that did not start then nothing is left', async (t) => {
  const watch = await start(t, { hubId: 'watch' });
  const before = watch.debugStats();
  for (let n = 0; n < 50; n += 1) {
    await assert.rejects(ph.Hub.start({ hubId: '' }), ph.InvalidConfigError);
    await assert.rejects(ph.Hub.start({ hubId: 'x', listen: '127.0.0.1:notaport' }), ph.HubError);
  }
  const timers = process.getActiveResourcesInfo().filter((name) => name === 'Timeout');
  await until(() => watch.debugStats().threads <= before.threads);
  assert.ok(timers.length <= 2, `${timers.length} timers hold the process`);
  assert.ok(runtime().environment.answers().length === 0);
});

test('children started, called and stopped then no instance is left', async (t) => {
  const hub = await start(t);
  const round = async () => {
    const ids = Array.from({ length: 200 }, (_, n) => `c${n}`);
    (await hub.startChildren(ids.map((id) => ({ id, kind: 'counter' })), { timeoutMs: 20_000 })).raiseForErrors();
    await Promise.all(ids.map((id) => hub.call(id, 1, { timeoutMs: 20_000 })));
    (await hub.stopChildren(ids, { timeoutMs: 20_000 })).raiseForErrors();
  };
  await round();
  const before = hub.debugStats();
  for (let n = 0; n < 5; n += 1) await round();
  const { instances, children, queuedBytes, handles } = hub.debugStats();
  assert.deepEqual([instances, queuedBytes, handles], [0, 0, before.handles]);
  assert.ok(children <= before.children);
});
