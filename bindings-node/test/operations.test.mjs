/** Every operation on one hub. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { deferred, start, until } from './help/hubs.mjs';

test('child started and called then its replies', async (t) => {
  const hub = await start(t);
  const started = await hub.startChild({ id: 'c', kind: 'counter', args: 1 }, { timeoutMs: 5000 });
  assert.equal(started.id, 'c');
  assert.deepEqual(started.instances.map((it) => it.node), [hub.nodeName]);
  assert.equal(await hub.call('c', 2, { timeoutMs: 5000 }), 3);
  assert.equal(await hub.call('c', 2, { node: hub.nodeName }), 5);
  assert.equal(await hub.send('c', 1), undefined);
  assert.equal(await hub.call('c'), 6);
});

test('children started then one result tells of each', async (t) => {
  const hub = await start(t);
  const result = await hub.startChildren([
    { id: 'a', kind: 'counter' },
    { id: 'b', kind: 'nobody' },
    { id: '', kind: 'counter' },
    { id: 'c', kind: 'counter', args: { x: [1n] } },
    { id: 'd', kind: 'counter', restart: 'sometimes' },
    'e',
    { kind: 'counter' },
  ]);
  assert.equal(result.status, 'error');
  assert.equal(result.rollback, false);
  assert.deepEqual(result.started.map((it) => it.id), ['a']);
  const errors = Object.fromEntries(result.errors.map((it) => [it.id || it.message, it.kind]));
  assert.equal(errors.b, 'unknown_kind');
  assert.equal(errors.c, 'not_encodable');
  assert.equal(errors.d, 'invalid_argument');
  assert.deepEqual(result.errors.map((it) => it.id), ['', 'c', 'd', null, null, 'b']);
  assert.throws(() => result.raiseForErrors(), ph.HubError);
  const good = await hub.startChildren([{ id: 'f', kind: 'counter' }]);
  assert.equal(good.raiseForErrors(), good);
  assert.equal(good.status, 'ok');
});

test('start options then as their names say', async (t) => {
  const hub = await start(t);
  await hub.startChild({ id: 'a', kind: 'counter' });
  await assert.rejects(hub.startChild({ id: 'a', kind: 'counter' }), ph.AlreadyStartedError);
  assert.equal((await hub.startChild({ id: 'a', kind: 'counter' }, { ifExists: 'return' })).id, 'a');
  const specs = [{ id: 'x', kind: 'counter', metadata: { own: 1 } }, { id: 'y', kind: 'nobody' }];
  const rolled = await hub.startChildren(specs, { onFailure: 'rollback', checkExisting: false });
  assert.equal(rolled.rollback, true);
  assert.equal(hub.childLookup('x'), null);
  const refused = await hub.startChildren([{ id: 'x', kind: 'counter' }, 7], { onFailure: 'rollback' });
  assert.deepEqual([refused.rollback, refused.started.length, refused.errors.length], [true, 0, 1]);
  await hub.startChildren([specs[0]], { metadata: { own: 2, tag: 'vip' } });
  assert.deepEqual(hub.childLookup('x').metadata, { own: 1, tag: 'vip' });
});

test('guided then children go where the mapping says', async (t) => {
  const hub = await start(t, { name: 'here', distribution: ph.guided({ fallback: 'wait' }) });
  const specs = [{ id: 'a', kind: 'counter' }];
  const refusal = (childMapping, error) => assert.rejects(hub.startChildren(specs, { childMapping }), error);
  await refusal(undefined, ph.MissingChildMappingError);
  await refusal({ b: ['here'] }, ph.ChildMappingMismatchError);
  await refusal({ a: ['here', 'there'] }, ph.ChildReplicationMismatchError);
  for (const wrong of ['here', ['here'], { a: 'here' }, { a: [7] }]) await refusal(wrong, ph.InvalidChildMappingError);
  const elsewhere = await hub.startChildren(specs, { childMapping: { a: ['gone'] } });
  assert.deepEqual(elsewhere.errors.map((error) => error.kind), ['unreachable']);
  const result = await hub.startChildren(specs, { childMapping: { a: ['here'] } });
  assert.equal(result.started[0].instances[0].node, 'here');
  assert.deepEqual(hub.childLookup('a').spec.mapping, ['here']);
});

test('bytes as arguments, message, reply and state then as they are', async (t) => {
  class Bytes extends ph.Child {
    start(ctx, args) {
      this.state = args;
    }
    handle(message) {
      return Buffer.concat([this.state, message]);
    }
  }
  const hub = await start(t, { kinds: { bytes: Bytes } });
  await hub.startChild({ id: 'b', kind: 'bytes', args: new Uint8Array([0, 255]) });
  assert.deepEqual([...(await hub.call('b', Buffer.from([1])))], [0, 255, 1]);
  assert.deepEqual([...(await hub.call('b', new Uint8Array()))], [0, 255]);
  const shared = new Uint8Array(new SharedArrayBuffer(2));
  assert.deepEqual([...(await hub.call('b', shared))], [0, 255, 0, 0]);
});

test('children stopped then one result tells of each', async (t) => {
  const hub = await start(t);
  await hub.startChildren(['a', 'b'].map((id) => ({ id, kind: 'counter' })));
  assert.deepEqual(await hub.stopChild('a'), { id: 'a', nodes: [hub.nodeName] });
  await assert.rejects(hub.stopChild('a'), ph.NotFoundError);
  const result = await hub.stopChildren(['b', 'zz']);
  assert.equal(result.status, 'error');
  assert.deepEqual(result.stopped, [{ id: 'b', nodes: [hub.nodeName] }]);
  assert.deepEqual(result.errors.map((it) => [it.id, it.kind]), [['zz', 'not_found']]);
  assert.throws(() => result.raiseForErrors(), ph.NotFoundError);
});

test('local reads then what the hub knows', async (t) => {
  const hub = await start(t);
  await hub.startChild({ id: 'c', kind: 'counter', args: 4, metadata: { tag: 'vip', level: 1 }, shutdownMs: 100 });
  const row = hub.childLookup('c');
  assert.deepEqual([row.id, row.spec.kind, row.spec.args, row.spec.shutdownMs], ['c', 'counter', 4, 100]);
  assert.deepEqual(row.metadata, { tag: 'vip', level: 1 });
  assert.equal(row.stateLost, null);
  assert.equal(row.instances.length, 1);
  assert.equal(row.instances[0].mode, 'active');
  assert.ok(Math.abs(row.instances[0].sinceMs - Date.now()) < 60_000);
  assert.equal(hub.childLookup('nope'), null);
  assert.deepEqual(hub.processRegistry().get('c'), row);
  assert.deepEqual(hub.tagQuery('vip'), [row]);
  assert.deepEqual(hub.tagQuery('other'), []);
  assert.deepEqual(hub.metadataQuery('level'), [row]);
  assert.deepEqual(await hub.whichChildren(), { [hub.nodeName]: ['c'] });
  assert.deepEqual(await hub.whichChildren('global'), { [hub.nodeName]: ['c'] });
  assert.deepEqual(hub.nodes(), []);
  assert.deepEqual(hub.nodes(true), [hub.nodeName]);
  assert.match(hub.address, /^127\.0\.0\.1:\d+$/);
  assert.equal(hub.hubId, 'test');
  assert.deepEqual([hub.isAlive(), hub.isLocked(), hub.isPartitioned()], [true, false, false]);
  assert.match(hub.metricsText(), /process_hub_children\{[^}]*\} 1/);
  const stats = hub.debugStats();
  assert.deepEqual([stats.hubs, stats.children, stats.instances], [1, 1, 1]);
  assert.ok(stats.threads > 0 && stats.descriptors > 0 && stats.queuedBytes >= 0);
});

test('cluster operations on one node then their shapes', async (t) => {
  const hub = await start(t);
  await hub.startChild({ id: 'c', kind: 'counter' });
  const where = await hub.where('c');
  assert.deepEqual([where.owner, where.placement, where.moving], [hub.nodeName, [hub.nodeName], null]);
  assert.deepEqual([where.unplaced, where.lastMoves, where.rows.id], [null, [], 'c']);
  const plan = await hub.plan({ join: [{ name: 'b', kinds: ['counter'], weight: 1000 }] });
  assert.deepEqual(plan.moves, [{ id: 'c', from: hub.nodeName, to: 'b' }]);
  await assert.rejects(hub.plan({ grow: [] }), ph.InvalidArgumentError);
  assert.equal(await hub.sync({ timeoutMs: 2000 }), undefined);
  assert.equal(await hub.acknowledgeLoss('c'), undefined);
  const report = await hub.drain({ timeoutMs: 5000 });
  assert.deepEqual(Object.keys(report).sort(), ['failed', 'moved', 'restarted', 'stopped']);
});

test('kind registered later then its children start', async (t) => {
  const hub = await start(t, { kinds: {} });
  await assert.rejects(hub.startChild({ id: 'e', kind: 'late' }), ph.UnknownKindError);
  await hub.register('late', class extends ph.Child {
    handle(message) {
      return message * 2;
    }
  });
  await hub.startChild({ id: 'e', kind: 'late' });
  assert.equal(await hub.call('e', 21), 42);
});

test('static children then started once, and their hook is seen', async (t) => {
  const seen = [];
  const hub = await start(t, {
    childSpecs: [{ id: 's', kind: 'counter', args: 7, onError: 'restart' }],
    hooks: { postChildrenStart: (payload) => seen.push(payload) },
  });
  await until(() => hub.childLookup('s')?.instances.length === 1);
  assert.equal(await hub.call('s'), 7);
  await until(() => seen.length === 1);
});

test('kind of its own codec then values as it reads them', async (t) => {
  const codec = {
    contentType: 'application/x-reversed',
    encode: (value) => Buffer.from([...JSON.stringify(value)].reverse().join('')),
    decode: (data) => JSON.parse([...Buffer.from(data).toString()].reverse().join('')),
  };
  const seen = deferred();
  class Coded extends ph.Child {
    start(ctx, args) {
      this.state = args;
    }
    handle(message) {
      seen.resolve(message);
      return { was: this.state, got: message };
    }
  }
  const hub = await start(t, { kinds: { coded: { child: Coded, codec, factory: () => new Coded() } } });
  await hub.startChild({ id: 'k', kind: 'coded', args: { a: 1 } });
  assert.deepEqual(await hub.call('k', ['x']), { was: { a: 1 }, got: ['x'] });
  assert.deepEqual(await seen.promise, ['x']);
  codec.encode = () => {
    throw new Error('broken codec');
  };
  await assert.rejects(hub.call('k', 1), { code: 'ERR_PROCESS_HUB_NOT_ENCODABLE', message: /broken codec/ });
});

test('several hubs on one node then each its own children', async (t) => {
  const node = await ph.Node.start({ name: 'shared', labels: { zone: 'a' }, profile: 'fast' });
  t.after(() => node.stop());
  assert.equal(node.name, 'shared');
  const [a, b] = [await start(t, { hubId: 'a', node }), await start(t, { hubId: 'b', node })];
  assert.equal(a.address, node.address);
  await a.startChild({ id: 'c', kind: 'counter', args: 1, require: { zone: 'a' } });
  await b.startChild({ id: 'c', kind: 'counter', args: 2 });
  assert.deepEqual([await a.call('c'), await b.call('c')], [1, 2]);
  await assert.rejects(start(t, { hubId: 'a', node }), ph.HubExistsError);
  await assert.rejects(start(t, { hubId: 'd', node, name: 'x' }), /belong to it: name/);
});

test('answers ended by their signal then cancelled, and the operation goes on', async (t) => {
  const release = deferred();
  class Slow extends ph.Child {
    async handle() {
      await release.promise;
      return 'done';
    }
  }
  const hub = await start(t, { kinds: { slow: Slow } });
  await hub.startChild({ id: 's', kind: 'slow' });
  const waits = (signal) => [
    hub.call('s', 1, { signal }),
    hub.stopChild('s', { signal }),
    hub.drain({ signal }),
    hub.startChild({ id: 'other', kind: 'slow' }, { signal }),
    hub.register('other', Slow, { signal }),
    hub.where('s', { signal }),
    hub.plan({ leave: [] }, { signal }),
    hub.sync({ signal }),
    hub.send('s', 1, { signal }),
    hub.whichChildren('global', { signal }),
    hub.acknowledgeLoss('s', { signal }),
  ];
  const early = AbortSignal.abort('never mind');
  const controller = new AbortController();
  const late = hub.call('s', 1, { signal: controller.signal });
  controller.abort(new Error('changed my mind'));
  await assert.rejects(late, (error) => {
    assert.ok(error instanceof ph.HubCancelledError);
    assert.equal(error.code, 'ERR_PROCESS_HUB_CANCELLED');
    assert.equal(error.cause.message, 'changed my mind');
    return true;
  });
  for (const answer of waits(early)) {
    await assert.rejects(answer, { kind: 'cancelled', cause: 'never mind' });
  }
  release.resolve();
  await assert.rejects(ph.Hub.start({ hubId: 'x', signal: early }), { kind: 'cancelled' });
});
