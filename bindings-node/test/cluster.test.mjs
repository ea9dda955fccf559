/** Several nodes over TCP: children are shared out, move with their state, and survive. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { Counter, cluster, kinds, once, start, until } from './help/hubs.mjs';

async function startCounters(hub, count) {
  const specs = Array.from({ length: count }, (_, n) => ({ id: `c${n}`, kind: 'counter', args: n }));
  (await hub.startChildren(specs, { timeoutMs: 10_000 })).raiseForErrors();
}

function places(hub) {
  const rows = [...hub.processRegistry().values()].filter((row) => row.instances.length > 0);
  return Object.fromEntries(rows.map((row) => [row.id, row.instances[0].node]));
}

function settled(hub, count, nodes) {
  return until(() => {
    const placed = Object.values(places(hub));
    return placed.length === count && placed.every((node) => nodes.includes(node)) && !hub.isLocked();
  });
}

const values = (hub, count) => Promise.all(Array.from({ length: count }, (_, n) => hub.call(`c${n}`)));
const numbers = (count, plus = 0) => Array.from({ length: count }, (_, n) => n + plus);

test('two nodes then children on both and callable from both', async (t) => {
  const [a, b] = await cluster(t, 2);
  await startCounters(a, 40);
  assert.deepEqual([...new Set(Object.values(places(a)))].sort(), ['n0', 'n1']);
  for (const hub of [a, b]) assert.deepEqual(await values(hub, 40), numbers(40));
  assert.deepEqual(Object.keys(await b.whichChildren('global')).sort(), ['n0', 'n1']);
  assert.deepEqual(a.nodes(), ['n1']);
});

test('load balanced then each node is given its share', async (t) => {
  const distribution = ph.loadBalanced({ pushIntervalMs: 60_000, nodeupRedistribution: true });
  const [a, b] = await cluster(t, 2, { distribution });
  const on = (node) => Object.values(places(b)).filter((at) => at === node).length;
  await startCounters(a, 30);
  await settled(b, 30, ['n0', 'n1']);
  assert.ok(Math.abs(on('n0') - 15) < 2, 'half of them, give or take less than two');
  const c = await start(t, { name: 'n2', seeds: [a.address], distribution });
  await until(() => on('n2') === 10);
  await settled(c, 30, ['n0', 'n1', 'n2']);
  assert.deepEqual(await values(c, 30), numbers(30));
});

test('node joins and leaves then children move with their state, and the report says so', async (t) => {
  const [a] = await cluster(t, 1);
  await startCounters(a, 40);
  await Promise.all(numbers(40).map((n) => a.call(`c${n}`, 100)));
  const b = await start(t, { name: 'n1', seeds: [a.address] });
  await until(() => Object.values(places(b)).includes('n1'));
  await settled(a, 40, ['n0', 'n1']);
  for (const hub of [a, b]) assert.deepEqual(await values(hub, 40), numbers(40, 100));
  const onB = Object.entries(places(a)).filter(([, node]) => node === 'n1');
  const report = await b.stop({ timeoutMs: 10_000 });
  assert.deepEqual([...report.moved].sort(), onB.map(([id]) => id).sort());
  assert.deepEqual([report.restarted, report.stopped, report.failed], [[], [], []]);
  assert.deepEqual(await values(a, 40), numbers(40, 100));
  assert.ok([...a.processRegistry().values()].every((row) => row.stateLost === null));
});

test('drain then owns nothing and stays a member', async (t) => {
  const [a, b] = await cluster(t, 2);
  await startCounters(a, 20);
  const drained = once(b, 'drainCompleted');
  const report = await b.drain({ timeoutMs: 10_000 });
  assert.deepEqual(report.failed, []);
  assert.deepEqual((await drained).report.moved, report.moved);
  await until(() => Object.values(places(a)).every((node) => node === 'n0'));
  assert.deepEqual(b.nodes(), ['n0']);
  assert.equal(await b.call('c3'), 3);
});

test('kind only one node offers then all its children there', async (t) => {
  const a = await start(t, { name: 'n0', kinds: {} });
  const b = await start(t, { name: 'n1', seeds: [a.address] });
  await until(() => a.nodes().length === 1);
  await startCounters(a, 10);
  assert.deepEqual([...new Set(Object.values(places(a)))], ['n1']);
  assert.equal(await a.call('c1', 1), 2);
});

test('additions while a node joins and leaves then none is lost', async (t) => {
  const [a] = await cluster(t, 1);
  await startCounters(a, 16);
  const stop = new AbortController();
  let acknowledged = 0;
  const add = async (caller) => {
    for (let n = caller; !stop.signal.aborted; n += 4) {
      await a.call(`c${n % 16}`, 1, { timeoutMs: 10_000 });
      acknowledged += 1;
    }
  };
  const adding = numbers(4).map(add);
  const b = await start(t, { name: 'n1', seeds: [a.address] });
  await until(() => Object.values(places(b)).includes('n1'));
  await settled(a, 16, ['n0', 'n1']);
  await b.stop({ timeoutMs: 10_000 });
  stop.abort();
  await Promise.all(adding);
  const total = (await values(a, 16)).reduce((sum, value) => sum + value, 0);
  assert.equal(total, acknowledged + numbers(16).reduce((sum, n) => sum + n, 0));
});

test('hand-over callbacks, async ones too, then called on both ends', async (t) => {
  const told = [];
  class Telling extends ph.Child {
    start(ctx) {
      this.ctx = ctx;
    }
    handoverStart(target) {
      told.push(['handoverStart', target.node]);
    }
    async prepareHandoverState() {
      told.push(['prepare', this.ctx.node]);
      return Buffer.from(this.ctx.node);
    }
    async alterHandoverState(state) {
      told.push(['alter', this.ctx.node, state.toString(), this.ctx.startReason]);
    }
    redundancySignal(mode) {
      told.push(['signal', mode]);
    }
    stop(reason) {
      told.push(['stop', this.ctx.node, reason]);
    }
  }
  const own = { kinds: { telling: Telling } };
  const [a] = await cluster(t, 1, own);
  await a.startChildren(numbers(12).map((n) => ({ id: `t${n}`, kind: 'telling' })));
  await start(t, { name: 'n1', seeds: [a.address], ...own });
  await until(() => Object.values(places(a)).includes('n1'));
  await settled(a, 12, ['n0', 'n1']);
  const moved = Object.values(places(a)).filter((node) => node === 'n1').length;
  const count = (...entry) => told.filter((it) => JSON.stringify(it) === JSON.stringify(entry)).length;
  assert.ok(moved > 0);
  assert.equal(count('prepare', 'n0'), moved);
  assert.equal(count('alter', 'n1', 'n0', 'migration'), moved);
  assert.equal(count('handoverStart', 'n1'), moved);
  await until(() => count('stop', 'n0', 'migrated') === moved);
});

test('body then cancelled on freeze, begun again elsewhere, and its state moves', async (t) => {
  class Ticker extends ph.Child {
    start(ctx) {
      this.ctx = ctx;
      this.state = 0;
    }
    async run(ctx) {
      assert.equal(ctx.cancelled, false);
      while (!ctx.cancelled) {
        this.state += 1;
        await new Promise((resolve) => {
          const timer = setTimeout(resolve, 5);
          ctx.signal.addEventListener('abort', () => (clearTimeout(timer), resolve()), { once: true });
        });
      }
    }
    handle() {
      return { ticks: this.state, node: this.ctx.node };
    }
  }
  const own = { kinds: { ticker: Ticker } };
  const [a] = await cluster(t, 1, own);
  await a.startChildren(numbers(8).map((n) => ({ id: `t${n}`, kind: 'ticker' })));
  await until(async () => (await a.call('t0')).ticks > 3);
  const b = await start(t, { name: 'n1', seeds: [a.address], ...own });
  await until(() => Object.values(places(b)).includes('n1'));
  await settled(a, 8, ['n0', 'n1']);
  const before = await Promise.all(numbers(8).map((n) => b.call(`t${n}`)));
  assert.ok(before.some((it) => it.node === 'n1'));
  await until(async () => {
    const now = await Promise.all(numbers(8).map((n) => b.call(`t${n}`)));
    return now.every((it, n) => it.ticks > before[n].ticks);
  });
});

test('body that ends then the instance ends, and its restart policy decides', async (t) => {
  const bodies = [];
  class Body extends ph.Child {
    async run(ctx) {
      bodies.push(ctx.childId);
      if (ctx.metadata.how === 'throw' && bodies.length === 1) throw new Error('body failed');
    }
  }
  const hub = await start(t, { kinds: { body: Body } });
  await hub.startChild({ id: 'crash', kind: 'body', restart: 'transient', metadata: { how: 'throw' } });
  await until(() => bodies.length === 2);
  await hub.startChild({ id: 'once', kind: 'body', restart: 'temporary' });
  await until(() => hub.childLookup('once') === null || hub.childLookup('once').instances.length === 0);
});

test('node name taken then the newcomer is told', async (t) => {
  const [a] = await cluster(t, 1);
  const newcomer = ph.Hub.start({ hubId: 'test', name: 'n0', seeds: [a.address], profile: 'fast' });
  // A start waits for the verdict for about a second; where a busy machine gives it later, the operations tell.
  const operation = newcomer.then(async (hub) => {
    t.after(() => hub.stop().catch(() => undefined));
    const refusal = () => hub.call('x', 1, { timeoutMs: 500 }).catch((error) => error);
    throw await until(async () => [await refusal()].find((error) => error.kind === 'node_name_taken'));
  });
  await assert.rejects(operation, ph.NodeNameTakenError);
  assert.ok(a.isAlive());
});

test('other strategy then the newcomer is told', async (t) => {
  const [a] = await cluster(t, 1);
  const other = await ph.Hub.start({
    hubId: 'test',
    name: 'n1',
    kinds,
    seeds: [a.address],
    profile: 'fast',
    migration: ph.coldSwap({ handover: true }),
  });
  const refusal = await until(() => other.call('x', 1, { timeoutMs: 500 }).catch((error) =>
    error instanceof ph.StrategyMismatchError ? error : null));
  assert.match(refusal.message, /migration/);
  await assert.rejects(other.stop(), ph.StrategyMismatchError);
});

test('calls in a ring of children then would_deadlock, and siblings may call each other', async (t) => {
  class Caller extends ph.Child {
    start(ctx) {
      this.ctx = ctx;
    }
    async handle(path) {
      if (path.length === 0) return 'end';
      await null;
      return this.ctx.hub.call(path[0], path.slice(1), { timeoutMs: 5000 });
    }
  }
  const own = { kinds: { caller: Caller } };
  const [a, b] = await cluster(t, 2, own);
  await a.startChildren(['x', 'y', 'z'].map((id) => ({ id, kind: 'caller' })));
  assert.equal(await b.call('x', ['y', 'z']), 'end');
  await assert.rejects(b.call('x', ['y', 'z', 'x']), /WouldDeadlockError: the chain of calls x → y → z leads back to x \(would_deadlock\)/);
});

test('counter of another class with the same kind then the state still moves', async (t) => {
  class Doubling extends Counter {
    handle() {
      return this.state * 2;
    }
  }
  const [a] = await cluster(t, 1, { kinds: { counter: Counter } });
  await startCounters(a, 10);
  const b = await start(t, { name: 'n1', seeds: [a.address], kinds: { counter: Doubling } });
  await until(() => Object.values(places(b)).includes('n1'));
  await settled(a, 10, ['n0', 'n1']);
  await a.stop();
  assert.deepEqual(await values(b, 10), numbers(10).map((n) => n * 2));
});
