/** Hooks are events; a failing observer disturbs nothing; interceptors change specs. */

import assert from 'node:assert/strict';
import { EventEmitter, once as eventOnce } from 'node:events';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { once, start, until } from './help/hubs.mjs';

test('observers then called by priority and order, and a failing one stops none', async (t) => {
  const records = [];
  ph.setLogger((record) => records.push(record.message));
  t.after(() => ph.setLogger(null));
  const hub = await start(t);
  assert.ok(hub instanceof EventEmitter);
  const told = [];
  hub.on('postChildrenStart', () => told.push('first'));
  hub.on('postChildrenStart', () => told.push('high'), { priority: 5, id: 'h' });
  hub.on('postChildrenStart', () => {
    throw new Error('observer failed');
  }, { priority: 9 });
  hub.on('postChildrenStart', async () => {
    throw new Error('observer rejected');
  });
  hub.prependListener('postChildrenStart', () => told.push('prepended'));
  hub.once('postChildrenStart', () => told.push('once'));
  await hub.startChild({ id: 'a', kind: 'counter' });
  await until(() => told.length === 4);
  assert.deepEqual(told, ['high', 'prepended', 'first', 'once']);
  await until(() => records.filter((message) => /observer (failed|rejected)/.test(message)).length === 2);
  hub.on('postChildrenStart', () => told.push('replaced'), { id: 'h' });
  hub.removeAllListeners('preChildrenStart');
  told.length = 0;
  await hub.startChild({ id: 'b', kind: 'counter' });
  await until(() => told.length === 3);
  assert.deepEqual(told, ['prepended', 'first', 'replaced']);
  hub.off('postChildrenStart', 'h');
  assert.equal(hub.listenerCount('postChildrenStart'), 4);
  hub.removeAllListeners();
  assert.equal(hub.listenerCount('postChildrenStart'), 0);
});

test('helpers of node:events then they work', async (t) => {
  const hub = await start(t);
  const event = eventOnce(hub, 'preChildrenStart');
  await hub.startChild({ id: 'a', kind: 'counter' });
  const [payload] = await event;
  assert.equal(payload.children.length, 1);
});

test('payloads then in the manner of the language', async (t) => {
  const hub = await start(t);
  const inserted = once(hub, 'registryPidInserted');
  const failed = once(hub, 'childFailed');
  await hub.startChild({ id: 'a', kind: 'counter' });
  const { childId, instances } = await inserted;
  assert.equal(childId, 'a');
  assert.deepEqual(Object.keys(instances[0]).sort(), ['epoch', 'mode', 'node', 'sinceMs']);
  await assert.rejects(hub.call('a', 'boom'), ph.ChildFailedError);
  assert.deepEqual({ ...(await failed) }, {
    childId: 'a',
    node: hub.nodeName,
    callback: 'handle',
    message: 'RangeError: boom',
  });
});

test('hub stopped then its observers are told before it is closed', async () => {
  const hub = await ph.Hub.start({ hubId: 'ends', profile: 'fast' });
  const told = [];
  hub.on('hubShutdown', ({ reason }) => told.push(reason));
  await hub.stop();
  assert.deepEqual(told, ['stopped']);
});

test('unknown hook or a handler that is none then invalid argument', async (t) => {
  const hub = await start(t);
  assert.throws(() => hub.on('state_lost', () => {}), { kind: 'invalid_argument', message: /stateLost/ });
  assert.throws(() => hub.on('stateLost', 7), ph.InvalidArgumentError);
  assert.throws(() => hub.intercept('stateLost', () => {}), ph.InvalidArgumentError);
  assert.throws(() => hub.intercept('childDataAlter', 'x'), ph.InvalidArgumentError);
});

test('childDataAlter observed then told of the spec as it was asked for', async (t) => {
  const hub = await start(t);
  const told = [];
  const see = (payload) => told.push(payload);
  hub.on('childDataAlter', see);
  hub.intercept('childDataAlter', (spec) => ({ ...spec, args: 10 }), { id: 'changes' });
  await hub.startChild({ id: 'a', kind: 'counter', args: 4, onError: 'restart' });
  assert.equal(await hub.call('a'), 10);
  await until(() => told.length > 0);
  const [{ spec, nodes }] = told;
  assert.deepEqual([spec.id, spec.args, spec.onError, nodes], ['a', 4, 'restart', [hub.nodeName]]);
  hub.off('childDataAlter', see).off('childDataAlter', 'changes');
  await hub.startChild({ id: 'b', kind: 'counter', args: 4 });
  assert.equal(await hub.call('b'), 4);
  assert.equal(told.length, 1);
});

test('interceptors then they change specs in their order, and one that fails changes nothing and is told', async (t) => {
  const hub = await start(t);
  hub.intercept('childDataAlter', async (spec, nodes) => {
    assert.deepEqual(nodes, [hub.nodeName]);
    return { ...spec, args: spec.args + 1, metadata: { ...spec.metadata, order: [...(spec.metadata.order ?? []), 'low'] } };
  }, { id: 'low' });
  hub.intercept('childDataAlter', (spec) => ({ ...spec, args: spec.args * 10, metadata: { order: ['high'] } }), {
    priority: 1,
  });
  hub.intercept('childDataAlter', () => undefined, { id: 'none' });
  await hub.startChild({ id: 'a', kind: 'counter', args: 4 });
  assert.equal(await hub.call('a'), 41);
  assert.deepEqual(hub.childLookup('a').metadata, { order: ['high', 'low'] });
  hub.off('childDataAlter', 'low');
  await hub.startChild({ id: 'b', kind: 'counter', args: 4 });
  assert.equal(await hub.call('b'), 40);
  hub.intercept('childDataAlter', () => {
    throw new Error('not on a Friday');
  });
  const failed = once(hub, 'childFailed');
  await hub.startChild({ id: 'c', kind: 'counter', args: 4 });
  assert.equal(await hub.call('c'), 4);
  const { callback, message } = await failed;
  assert.deepEqual([callback, message], ['child_data_alter', 'Error: not on a Friday']);
});
