/** Strategies of the program's own: asked in JavaScript, replaced by the built-in. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { start, until } from './help/hubs.mjs';

const CHILDREN = 20;
const migration = ph.custom({ name: 'mine', base: ph.hotSwap({ handover: true }) });
const ids = ({ moves }) => moves.map(({ id }) => id);
const backwards = (question) => ids(question).sort().reverse();
const options = (order) => ({ migration, strategies: { migration: { mine: order } } });

function movedTo(hub, node) {
  const rows = [...hub.processRegistry().values()];
  return rows.filter((row) => row.instances.map((one) => one.node).join() === node).map((row) => row.id);
}

/** Two hubs, the second of which took some of the first's children; and what the hook told. */
async function join(t, order) {
  const told = [];
  const hooks = { strategyFallback: (payload) => told.push(payload) };
  const a = await start(t, { name: 'n0', ...options(order), hooks });
  const specs = Array.from({ length: CHILDREN }, (_, n) => ({ id: `c${n}`, kind: 'counter', args: n }));
  (await a.startChildren(specs, { timeoutMs: 10_000 })).raiseForErrors();
  const b = await start(t, { name: 'n1', seeds: [a.address], ...options(backwards) });
  await until(() => movedTo(a, 'n1').length > 0 && !a.isLocked());
  const values = await Promise.all(specs.map(({ id }) => b.call(id)));
  assert.deepEqual(values, specs.map(({ args }) => args));
  return { a, told };
}

for (const isLater of [false, true]) {
  test(`function orders the moves${isLater ? ' by a promise' : ''} then those children move`, async (t) => {
    const asked = [];
    const { a, told } = await join(t, (question) => {
      asked.push(question);
      return isLater ? new Promise((done) => setImmediate(done, backwards(question))) : backwards(question);
    });
    const [first] = asked;
    assert.deepEqual(new Set(first.moves.map(({ from, to }) => `${from} ${to}`)), new Set(['n0 n1']));
    await until(() => movedTo(a, 'n1').sort().join() === ids(first).sort().join());
    assert.deepEqual(told, []);
  });
}

const bad = [
  ['throws', () => { throw new RangeError('no idea'); }, 'RangeError: no idea'],
  ['rejects', () => Promise.reject(new RangeError('no idea')), 'RangeError: no idea'],
  ['answers nothing', () => undefined, "the answer is not a list of the moves' ids"],
  ['answers bytes', () => new Uint8Array([1]), 'the answer is not JSON'],
  ['answers what has no JSON form', () => [() => 1], '$[0]'],
  ['answers a number', () => [1], '1 in the answer is not an id'],
  ['leaves a move out', (question) => ids(question).slice(1), 'the answer leaves out c'],
  ['names another', (question) => [...ids(question), 'new'], 'the answer names "new"'],
  ['answers never', () => new Promise(() => undefined), '`decide` did not end in time'],
];
for (const [what, order, why] of bad) {
  test(`function ${what} then the base decides and strategyFallback tells`, async (t) => {
    const { told } = await join(t, order);
    await until(() => told.length > 0);
    assert.equal(told[0].strategy, 'mine');
    assert.ok(told[0].why.includes(why), told[0].why);
  });
}

test('document of the configuration then the same', async (t) => {
  const document = { hub_id: 'test', migration: { type: 'custom', name: 'mine', base: { type: 'hot_swap' } } };
  const hub = await ph.Hub.fromConfig(document, { strategies: { migration: { mine: backwards } } });
  t.after(() => hub.stop());
  assert.ok(hub.isAlive());
  assert.deepEqual(ph.custom({ name: 'mine', base: ph.hotSwap() }), document.migration);
});

const refused = [
  [undefined, ph.InvalidConfigError, 'migration.name: no strategy of the name mine'],
  [{ distribution: { mine: backwards } }, ph.InvalidConfigError, 'none is'],
  [{ migration: { his: backwards } }, ph.InvalidConfigError, 'registered is his'],
  [{ moves: { mine: backwards } }, ph.InvalidArgumentError, 'must be one of'],
  [{ migration: { mine: 7 } }, ph.InvalidArgumentError, 'must be a function'],
  [{ migration: 'mine' }, ph.InvalidArgumentError, 'must be a function'],
];
for (const [strategies, kind, message] of refused) {
  test(`strategies ${JSON.stringify(strategies)} then refused with ${message}`, async () => {
    const started = ph.Hub.start({ hubId: 'test', migration, strategies });
    await assert.rejects(started, (error) => error instanceof kind && error.message.includes(message));
  });
}
