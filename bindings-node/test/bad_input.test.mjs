/** Bad input gets its named error or is contained, and the hub lives. */

import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import * as ph from 'process-hub';

import { deferred, kinds, until } from './help/hubs.mjs';

let release;

class Awkward extends ph.Child {
  start(ctx, args) {
    this.ctx = ctx;
    if (args === 'fail') throw new Error('start says no');
    if (args === 'reject') return Promise.reject(new Error('start says no'));
    return undefined;
  }

  handle([what]) {
    switch (what) {
      case 'text':
        throw 'a text';
      case 'null':
        return Promise.reject(null);
      case 'trap':
        throw new Proxy(new Error('x'), { get: () => { throw new Error('no'); } });
      case 'fake':
        throw Object.defineProperty(new Error('x'), 'message', { get: () => { throw new Error('no'); } });
      case 'bigint':
        return { items: [1, 2n] };
      case 'later':
        return Promise.resolve({ items: [1, () => 1] });
      case 'then':
        return { get then() { throw new Error('no then'); } };
      case 'wait':
        return release.promise;
      case 'crash':
        this.ctx.exit(new Error('crashed on purpose'));
        return 'going';
      default:
        return what;
    }
  }
}

let hub;

beforeEach(async () => {
  release = deferred();
  hub = await ph.Hub.start({ hubId: 'bad', kinds: { ...kinds, awkward: Awkward }, profile: 'fast' });
});

afterEach(async () => {
  // After whatever a test does, the hub still starts and calls children.
  await hub.startChild({ id: 'proof', kind: 'counter', args: 1 });
  assert.equal(await hub.call('proof', 1), 2);
  release.resolve('late');
  await hub.stop({ timeoutMs: 5000 });
});

const rejects = (answer, kind, message = /./) => assert.rejects(answer, { kind, message });

test('spec that is none then invalid argument', async () => {
  await rejects(hub.startChild({ kind: 'counter' }), 'invalid_argument', /`id`/);
  await rejects(hub.startChild({ id: '', kind: 'counter' }), 'invalid_argument', /1 to 255 bytes/);
  await rejects(hub.startChild({ id: 'x'.repeat(256), kind: 'counter' }), 'invalid_argument', /1 to 255 bytes/);
  await rejects(hub.startChild({ id: 'c', kind: 'counter', colour: 'red' }), 'invalid_argument', /colour/);
  await rejects(hub.startChild({ id: '\ud800', kind: 'counter' }), 'not_encodable', /surrogate/);
  await rejects(hub.startChild({ id: 'c', kind: 'counter', shutdownMs: -1 }), 'invalid_argument');
  await rejects(hub.startChild({ id: 'c', kind: 'counter', metadata: [1] }), 'invalid_argument', /metadata/);
  for (const spec of [null, undefined, 7, 'c', []]) await rejects(hub.startChild(spec), 'invalid_argument');
  for (const specs of [null, 'c', { id: 'c' }]) await rejects(hub.startChildren(specs), 'invalid_argument', /array/);
});

test('no children then no children error', async () => {
  await rejects(hub.startChildren([]), 'no_children');
  await rejects(hub.stopChildren([]), 'no_children');
});

test('options of the wrong form then invalid argument', async () => {
  const spec = { id: 'c', kind: 'counter' };
  for (const timeoutMs of [-1, 1.5, NaN, Infinity, '5', null, 5n]) {
    await rejects(hub.startChild(spec, { timeoutMs }), 'invalid_argument', /timeoutMs/);
    await rejects(hub.call('c', 1, { timeoutMs }), 'invalid_argument', /timeoutMs/);
    await rejects(hub.drain({ timeoutMs }), 'invalid_argument', /timeoutMs/);
    await rejects(hub.stop({ timeoutMs }), 'invalid_argument', /timeoutMs/);
  }
  await rejects(hub.startChild(spec, { ifExists: 'maybe' }), 'invalid_argument', /maybe/);
  await rejects(hub.startChildren([spec], { onFailure: 7 }), 'invalid_argument');
  await rejects(hub.startChildren([spec], { metadata: 7 }), 'invalid_argument');
  await rejects(hub.startChildren([spec], { colour: 'red' }), 'invalid_argument', /colour/);
  await rejects(hub.call('c', 1, { signal: 7 }), 'invalid_argument', /AbortSignal/);
  for (const use of [
    (options) => hub.call('c', 1, options),
    (options) => hub.send('c', 1, options),
    (options) => hub.startChild(spec, options),
    (options) => hub.stopChild('c', options),
    (options) => hub.drain(options),
    (options) => hub.stop(options),
    (options) => hub.where('c', options),
    (options) => ph.Hub.fromConfig({ hub_id: 'x' }, options),
    (options) => ph.Node.fromConfig({}, options),
  ]) {
    await rejects(use({ timeout: 5 }), 'invalid_argument', /`timeout`/);
    await rejects(use(7), 'invalid_argument', /must be an object/);
  }
  await rejects(hub.call('nope', 1, null), 'not_found');
  await rejects(ph.Node.start(7), 'invalid_argument');
  await rejects(hub.whichChildren('everywhere'), 'invalid_argument', /everywhere/);
  await rejects(hub.send('c', 1, { node: 'a', all: true }), 'invalid_argument', /exclude/);
});

test('ids that are no texts then invalid argument', async () => {
  for (const id of [null, undefined, 7, {}, [], '\udc00']) {
    await rejects(hub.call(id), 'invalid_argument');
    await rejects(hub.send(id), 'invalid_argument');
    await rejects(hub.stopChild(id), 'invalid_argument');
    await rejects(hub.where(id), 'invalid_argument');
    await rejects(hub.acknowledgeLoss(id), 'invalid_argument');
    assert.throws(() => hub.childLookup(id), { kind: 'invalid_argument' });
    assert.throws(() => hub.tagQuery(id), { kind: 'invalid_argument' });
  }
  await rejects(hub.stopChildren('c'), 'invalid_argument');
  await rejects(hub.call(''), 'invalid_argument', /1 to 255/);
  await rejects(hub.call('no\0such'), 'not_found');
});

test('kind that is no child then invalid argument', async () => {
  for (const code of [null, undefined, 7, 'x', () => {}, class {}, {}, { child: class {} }]) {
    await rejects(hub.register('bad', code), 'invalid_argument', /extends Child/);
    await assert.rejects(ph.Hub.start({ hubId: 'x', kinds: { bad: code } }), { kind: 'invalid_argument' });
  }
  await rejects(hub.register('', class extends ph.Child {}), 'invalid_argument');
});

test('start fails then start_failed and nothing wanted', async () => {
  for (const args of ['fail', 'reject']) {
    await rejects(hub.startChild({ id: 'c', kind: 'awkward', args }), 'start_failed', /start says no/);
    assert.equal(hub.childLookup('c'), null);
  }
  class Unmade extends ph.Child {
    constructor() {
      super();
      throw new Error('not made');
    }
  }
  await hub.register('unmade', Unmade);
  await rejects(hub.startChild({ id: 'u', kind: 'unmade' }), 'start_failed', /not made/);
  assert.equal(hub.debugStats().instances, 0);
});

test('handle throws anything then child_failed and the instance lives', async () => {
  await hub.startChild({ id: 'c', kind: 'awkward' });
  const { epoch } = hub.childLookup('c').instances[0];
  await rejects(hub.call('c', ['text']), 'child_failed', /no Error was thrown: 'a text'/);
  await rejects(hub.call('c', ['null']), 'child_failed', /no Error was thrown: null/);
  await rejects(hub.call('c', ['trap']), 'child_failed');
  await rejects(hub.call('c', ['fake']), 'child_failed', /cannot be read/);
  await rejects(hub.call('c', ['then']), 'child_failed', /no then/);
  await rejects(hub.call('c', null), 'child_failed', /TypeError/);
  await rejects(hub.call('c', ['bigint']), 'not_encodable', /\$\.items\[1\]/);
  await rejects(hub.call('c', ['later']), 'not_encodable', /\$\.items\[1\]/);
  assert.equal(await hub.call('c', ['fine']), 'fine');
  assert.equal(hub.childLookup('c').instances[0].epoch, epoch);
});

test('message that cannot be encoded then its path, and it was not sent', async () => {
  await hub.startChild({ id: 'c', kind: 'echo' });
  await assert.rejects(hub.call('c', { a: [new Set()] }), (error) => {
    assert.deepEqual([error.kind, error.childId, error.maybeExecuted], ['not_encodable', 'c', false]);
    assert.match(error.message, /^\$\.a\[0\]/);
    return true;
  });
  await rejects(hub.call('c', 'x'.repeat(2 ** 20)), 'payload_too_large', /1048576/);
});

test('callback waits past the timeout of its caller then timeout', async () => {
  await hub.startChild({ id: 'c', kind: 'awkward' });
  await assert.rejects(hub.call('c', ['wait'], { timeoutMs: 100 }), { kind: 'timeout', maybeExecuted: true });
});

test('instance crashes then it is restarted', async () => {
  await hub.startChild({ id: 'c', kind: 'awkward' });
  const { sinceMs } = hub.childLookup('c').instances[0];
  await rejects(hub.call('c', ['crash']), 'child_failed', /crashed/);
  await until(() => hub.childLookup('c').instances.some((it) => it.sinceMs !== sinceMs));
  assert.equal(await hub.call('c', ['fine']), 'fine');
});

test('instance stops itself then nobody wants the child', async () => {
  await hub.register('selfish', class extends ph.Child {
    start(ctx) {
      this.ctx = ctx;
    }
    handle() {
      this.ctx.stopSelf();
      this.ctx.retentionHandled();
    }
  });
  await hub.startChild({ id: 's', kind: 'selfish' });
  await hub.call('s');
  await until(() => hub.childLookup('s') === null);
});

test('plain methods of the wrong this then an error, not a crash', async () => {
  assert.throws(() => ph.Hub.prototype.nodes.call({}), TypeError);
  assert.throws(() => new ph.Hub(), Error);
  await rejects(ph.Hub.start({ hubId: 'x', node: {} }), 'invalid_argument', /Node/);
});
