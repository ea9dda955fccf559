/** worker_threads: each has the package for itself, and its hubs end with it. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

import { start, until } from './help/hubs.mjs';
import { script } from './help/script.mjs';

const SERVE = `
import { Child, Hub, hotSwap } from 'process-hub';
import { parentPort, workerData } from 'node:worker_threads';
class Counter extends Child {
  start(ctx, args) { this.state = args ?? 0; }
  handle(message) {
    if (message === 'hang') { parentPort.postMessage('hanging'); return new Promise(() => {}); }
    if (message === 'spin') { parentPort.postMessage('spinning'); for (;;); }
    this.state += message; return this.state;
  }
}
const hub = await Hub.start({ hubId: 'test', kinds: { counter: Counter }, profile: 'fast',
  migration: hotSwap({ handover: true }), ...workerData });
parentPort.on('message', async (message) => {
  if (message === 'stop') { await hub.stop(); parentPort.postMessage('stopped'); parentPort.close(); }
});
parentPort.postMessage(hub.address);
`;

/** A worker that serves a hub; gives it and the address of its hub. */
async function serve(options) {
  const url = new URL(`data:text/javascript,${encodeURIComponent(SERVE.replaceAll("'process-hub'", `'${import.meta.resolve('process-hub')}'`))}`);
  const worker = new Worker(url, { workerData: options });
  const [address] = await Promise.race([
    once(worker, 'message'),
    once(worker, 'error').then(([error]) => Promise.reject(error)),
  ]);
  return { worker, address };
}

test('hub in a worker and one in the main thread then one cluster', async (t) => {
  const hub = await start(t, { name: 'main' });
  const { worker } = await serve({ name: 'worker', seeds: [hub.address] });
  await until(() => hub.nodes().length === 1);
  const ids = Array.from({ length: 20 }, (_, n) => `c${n}`);
  (await hub.startChildren(ids.map((id) => ({ id, kind: 'counter' })), { timeoutMs: 10_000 })).raiseForErrors();
  const places = new Set(ids.map((id) => hub.childLookup(id).instances[0].node));
  assert.deepEqual([...places].sort(), ['main', 'worker']);
  for (const id of ids) assert.equal(await hub.call(id, 1), 1);
  worker.postMessage('stop');
  const [message] = await once(worker, 'message');
  assert.equal(message, 'stopped');
  for (const id of ids) assert.equal(await hub.call(id, 1), 2);
  await worker.terminate();
});

test('package loaded in two workers at once then both serve', async () => {
  const workers = await Promise.all([serve({ name: 'a' }), serve({ name: 'b' })]);
  assert.notEqual(workers[0].address, workers[1].address);
  await Promise.all(workers.map(({ worker }) => worker.terminate()));
});

test('worker terminated with an open hub then its node left, and its children run elsewhere', async (t) => {
  const hub = await start(t, { name: 'main' });
  const { worker } = await serve({ name: 'worker', seeds: [hub.address] });
  await until(() => hub.nodes().length === 1);
  const ids = Array.from({ length: 20 }, (_, n) => `c${n}`);
  await hub.startChildren(ids.map((id) => ({ id, kind: 'counter' })), { timeoutMs: 10_000 });
  const before = Date.now();
  await worker.terminate();
  await until(() => hub.nodes().length === 0);
  assert.ok(Date.now() - before < 5000);
  for (const id of ids) assert.equal(await hub.call(id, 1, { timeoutMs: 10_000 }), 1);
});

for (const what of ['hang', 'spin']) {
  test(`worker terminated while a callback ${what}s then it ends`, async (t) => {
    const hub = await start(t, { name: 'main', kinds: {} });
    const { worker } = await serve({ name: 'worker', seeds: [hub.address] });
    await until(() => hub.nodes().length === 1);
    await hub.startChild({ id: 'c', kind: 'counter' }, { timeoutMs: 10_000 });
    const call = hub.call('c', what, { timeoutMs: 10_000 }).catch((error) => error.kind);
    await once(worker, 'message');
    await worker.terminate();
    assert.ok(['unreachable', 'not_active', 'timeout'].includes(await call), await call);
  });
}

test('worker terminated while its hub starts then it ends', async () => {
  for (let n = 0; n < 5; n += 1) {
    const worker = new Worker(
      `const { Hub } = require(${JSON.stringify(import.meta.resolve('process-hub').slice('file://'.length))});
       void Hub.start({ hubId: 'x', seeds: ['127.0.0.1:1'] }); require('node:worker_threads').parentPort.postMessage(1);`,
      { eval: true },
    );
    await once(worker, 'message');
    await worker.terminate();
  }
});

test('workers started and terminated many times then threads and descriptors stay', async (t) => {
  const hub = await start(t, { name: 'main' });
  const cycle = async () => {
    const { worker } = await serve({});
    await worker.terminate();
  };
  await cycle();
  const before = hub.debugStats();
  for (let n = 0; n < 12; n += 1) await cycle();
  await until(() => {
    const { threads, descriptors } = hub.debugStats();
    return threads <= before.threads && descriptors <= before.descriptors;
  });
});

test('process.exit in a worker with an open hub then only the worker ends', async () => {
  const ended = await script(`
    import { Worker, isMainThread } from 'node:worker_threads'; import { once } from 'node:events';
    const worker = new Worker(\`const { Hub } = require('process-hub');
      Hub.start({ hubId: 'x' }).then(() => process.exit(3));\`, { eval: true, execArgv: [] });
    const [code] = await once(worker, 'exit');
    const hub = await make(); await hub.startChild({ id: 'c', kind: 'counter' });
    console.log(code, await hub.call('c', 1)); await hub.stop();`);
  assert.deepEqual([ended.code, ended.output], [0, '3 1\n']);
});
