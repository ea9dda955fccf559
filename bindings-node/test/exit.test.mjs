/** How processes end: scripts as subprocesses, with their exit code and time. */

import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import { once, start } from './help/hubs.mjs';
import { script } from './help/script.mjs';

/** Runs a script and checks how it ended. */
async function ends(body, { code = 0, signal = null, prints, within = 10, ...options }) {
  const ended = await script(body, options);
  assert.deepEqual({ code: ended.code, signal: ended.signal }, { code, signal }, ended.output);
  if (prints instanceof RegExp) assert.match(ended.output, prints);
  else if (prints !== undefined) assert.equal(ended.output, prints);
  assert.doesNotMatch(ended.output, /FATAL|panicked|core dumped/);
  assert.ok(ended.seconds < within, `took ${ended.seconds} s`);
}

test('hub stopped then clean exit without a word', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'});
    console.log(await hub.call('c', 1)); await hub.stop();`, { prints: '1\n' }));

test('await using then stopped at the end of the block', () =>
  ends(`const hub = await make(); await hub[Symbol.asyncDispose](); console.log(hub.isAlive(), String(hub.isAlive()));`, {
    prints: 'false false\n',
  }));

test('closed twice, and at the same time, then the same report', () =>
  ends(`const hub = await make();
    const [a, b] = await Promise.all([hub.stop(), hub.stop()]);
    console.log(a === b, (await hub.stop()) === a);`, { prints: 'true true\n' }));

test('used after close then closed', () =>
  ends(`const hub = await make(); await hub.stop();
    for (const use of [() => hub.call('c', 1), () => hub.send('c'), () => hub.startChild({id: 'c', kind: 'counter'}),
      () => hub.stopChildren(['c']), async () => hub.nodes(), async () => hub.childLookup('c'), () => hub.where('c'),
      () => hub.register('x', Counter), () => hub.drain(), () => hub.whichChildren(), async () => hub.address,
      async () => hub.on('stateLost', () => {}), async () => hub.once('stateLost', () => {}),
      async () => hub.prependOnceListener('stateLost', () => {}), async () => hub.intercept('childDataAlter', () => {})]) {
      await use().then(() => console.log('worked'), (error) => { if (!(error instanceof ph.ClosedError)) console.log(error); });
    }
    hub.off('stateLost', () => {}); hub.removeAllListeners(); hub.ref(); hub.unref();
    console.log(hub.isAlive(), hub);`, { prints: 'false <Hub "exit" closed>\n' }));

test('stopped inside a callback then would_deadlock, and the hub lives', () =>
  ends(`let hub;
    class Stopper extends ph.Child {
      async handle() { return hub.stop().then(() => 'stopped', (error) => error.code); }
      async run(ctx) { console.log(await hub.stop().then(() => 'stopped', (error) => error.code)); await new Promise((yes) => ctx.signal.addEventListener('abort', yes)); }
    }
    hub = await make({kinds: {stopper: Stopper}});
    await hub.startChild({id: 's', kind: 'stopper'});
    console.log(await hub.call('s'));
    console.log(hub.isAlive()); await hub.stop();`, {
    prints: 'ERR_PROCESS_HUB_WOULD_DEADLOCK\nERR_PROCESS_HUB_WOULD_DEADLOCK\ntrue\n',
  }));

test('stopped by what a callback left behind then stopped', () =>
  ends(`class Stopper extends ph.Child { handle() { setTimeout(() => void this.ctx.hub.stop().then(() => console.log('stopped')), 1); } start(ctx) { this.ctx = ctx; } }
    const hub = await make({kinds: {stopper: Stopper}});
    await hub.startChild({id: 's', kind: 'stopper'}); await hub.call('s');`, { prints: 'stopped\n' }));

test('open hub then it keeps the process, unref lets it end', () =>
  ends(`const hub = await make(); hub.unref(); console.log('end');`, { prints: 'end\n', within: 8 }));

test('dropped without close then nothing but the process ends it', () =>
  ends(`(await make()).unref(); global.gc(); await new Promise((yes) => setTimeout(yes, 50)); global.gc(); console.log('end');`, {
    prints: 'end\n',
    flags: ['--expose-gc'],
  }));

test('process.exit with an open hub then its code', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'}); process.exit(7);`, { code: 7, prints: '' }));

test('process.exit with an open hub then its members are told, long before they would suspect', async (t) => {
  const hub = await start(t, { hubId: 'exit', name: 'stays', profile: 'wan' });
  const [joined, left] = [once(hub, 'postClusterJoin'), once(hub, 'postClusterLeave')];
  const ended = script(`const hub = await make({profile: 'wan', seeds: ['${hub.address}'], migration: ph.hotSwap({handover: true})});
    while (hub.nodes().length === 0) await new Promise((yes) => setTimeout(yes, 5));
    console.log('member'); process.exit(0);`);
  await joined;
  const { code, output } = await ended;
  assert.deepEqual([code, output], [0, 'member\n']);
  const exited = Date.now();
  await left;
  assert.ok(Date.now() - exited < 2000, `took ${Date.now() - exited} ms`);
});

test('process.exit while the hub starts then its code', () =>
  ends(`void make(); setImmediate(() => process.exit(3));`, { code: 3, prints: '' }));

test('process.exit with calls in flight then its code', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'});
    void hub.call('c', 'hang'); for (let n = 0; n < 100; n += 1) void hub.call('c', 1).catch(() => {});
    setTimeout(() => process.exit(4), 50);`, { code: 4, prints: 'hanging\n' }));

test('process.exit inside a callback then its code', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'}); await hub.call('c', 'exit');`, {
    code: 5,
    prints: '',
  }));

test('process.exit inside a hook and inside an interceptor then its code', async () => {
  await ends(`const hub = await make({hooks: {postChildrenStart: () => process.exit(6)}}); await hub.startChild({id: 'c', kind: 'counter'});`, { code: 6 });
  await ends(`const hub = await make({hooks: {childDataAlter: () => process.exit(8)}}); await hub.startChild({id: 'c', kind: 'counter'});`, { code: 8 });
});

test('process.exit while the hub stops then its code', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'}); void hub.stop(); setImmediate(() => process.exit(9));`, { code: 9 }));

test('unhandled exception with an open hub then code 1 and its trace', () =>
  ends(`const hub = await make(); throw new Error('the bug of the user');`, { code: 1, prints: /the bug of the user/ }));

test('exception left behind by a callback then as in any program', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'}); await hub.call('c', 'throw later'); await new Promise(() => {});`, {
    code: 1,
    prints: /thrown later/,
  }));

test('unhandled rejection of an operation then as in any program', () =>
  ends(`const hub = await make(); void hub.call('nope', 1); await new Promise(() => {});`, {
    code: 1,
    prints: /ERR_PROCESS_HUB_NOT_FOUND/,
  }));

test('start and stop that nobody awaits then no unhandled rejection', () =>
  ends(`const hub = await make(); void hub.startChild({id: 'c', kind: 'nobody'}); void hub.stopChild('nope'); void hub.startChildren([]);
    await hub.sync(); await hub.stop(); console.log('end');`, { prints: 'end\n' }));

test('two hubs in one process then one cluster, and both end', () =>
  ends(`const a = await make({name: 'a'}), b = await make({name: 'b', seeds: [a.address]});
    await a.startChild({id: 'c', kind: 'counter'}, {timeoutMs: 10000});
    while (b.childLookup('c') === null) await new Promise((yes) => setTimeout(yes, 5));
    console.log(await b.call('c', 1, {timeoutMs: 10000}));
    await Promise.all([a.stop(), b.stop()]);`, { prints: '1\n' }));

test('calls in flight when the hub stops then each is answered', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'});
    const calls = [hub.call('c', 'hang', {timeoutMs: 60000}), hub.call('c', 1)].map((call) => call.catch((error) => error.kind));
    await hub.stop({timeoutMs: 1000}).catch((error) => error.kind);
    const ends = await Promise.all(calls);
    console.log(ends.every((end) => ['closed', 'timeout', 'host_timeout', 'not_found', 'leaving', 'unreachable', 'not_active'].includes(end)) || ends);`, {
    prints: 'hanging\ntrue\n',
  }));

const throwing = `
  class Throwing extends ph.Child {
    start(ctx, args) { this.where = args; return this.fail('start'); }
    fail(where) { if (this.where === where) { if (this.how === 'reject') return Promise.reject(new Error(where)); throw new Error(where); } }
    run(ctx) { return this.fail('run') ?? new Promise((yes) => ctx.signal.addEventListener('abort', yes)); }
    handle() { return this.fail('handle') ?? 'ok'; }
    redundancySignal() { return this.fail('redundancySignal'); }
    handoverStart() { return this.fail('handoverStart'); }
    prepareHandoverState() { return this.fail('prepareHandoverState') ?? 1; }
    alterHandoverState() { return this.fail('alterHandoverState'); }
    stop() { return this.fail('stop'); }
  }
  class Rejecting extends Throwing { how = 'reject'; }
`;
for (const callback of ['start', 'run', 'handle', 'redundancySignal', 'handoverStart', 'prepareHandoverState', 'alterHandoverState', 'stop']) {
  test(`exception and rejection in ${callback} then contained`, () =>
    ends(`${throwing}
      ph.setLogger(null);
      const options = {kinds: {throwing: Throwing, rejecting: Rejecting}, migration: ph.hotSwap({handover: true, retentionMs: 50}), restart: {maxRestarts: 1, backoffMs: [1, 2]}};
      const a = await make({name: 'a', ...options});
      const ids = ['throwing', 'rejecting'].flatMap((kind) => Array.from({length: 6}, (_, n) => ({id: kind + n, kind, args: '${callback}'})));
      await a.startChildren(ids);
      for (const {id} of ids) await a.call(id, 1, {timeoutMs: 300}).catch(() => {});
      const b = await make({name: 'b', seeds: [a.address], ...options});
      while (b.nodes().length === 0) await new Promise((yes) => setTimeout(yes, 5));
      await b.register('counter', Counter); await b.startChild({id: 'proof', kind: 'counter'}, {timeoutMs: 10000});
      console.log(await b.call('proof', 1));
      await a.stop({timeoutMs: 4000}).catch(() => {});
      await b.stop({timeoutMs: 4000}).catch(() => {});
      console.log('end');`, { prints: '1\nend\n', within: 20, timeoutMs: 25_000 }));
}

const waits = {
  call: `hub.call('c', 'hang', {timeoutMs: 60000})`,
  startChild: `hub.startChild({id: 'slow', kind: 'slow'}, {timeoutMs: 60000})`,
  stopChild: `(await hub.startChild({id: 'stuck', kind: 'stuck', shutdownMs: 60000}), hub.stopChild('stuck', {timeoutMs: 60000}))`,
  drain: `(await make({name: 'b', seeds: [hub.address], kinds, migration}), await joined, await hub.startChildren(many), hub.drain({timeoutMs: 60000}))`,
  stop: `(await hub.startChild({id: 'stuck', kind: 'stuck', shutdownMs: 60000}), hub.stop({timeoutMs: 60000}))`,
  'Hub.start': `ph.Hub.start({hubId: 'other', seeds: ['127.0.0.1:1']}).then(() => new Promise(() => {}))`,
};
for (const [name, wait] of Object.entries(waits)) {
  test(`SIGINT while waiting in ${name} then the process ends by it at once`, () =>
    ends(`const stuck = () => { console.log('hanging'); return new Promise(() => {}); };
      class Slow extends ph.Child { start() { return stuck(); } }
      class Stuck extends ph.Child { stop() { return stuck(); } prepareHandoverState() { return stuck(); } }
      const kinds = {counter: Counter, slow: Slow, stuck: Stuck}, migration = ph.hotSwap({handover: true});
      const many = Array.from({length: 16}, (_, n) => ({id: 'stuck' + n, kind: 'stuck', shutdownMs: 60000}));
      const hub = await make({name: 'a', kinds, migration});
      const joined = new Promise((yes) => hub.once('postClusterJoin', yes));
      await hub.startChild({id: 'c', kind: 'counter'});
      ${name === 'Hub.start' ? "console.log('hanging');" : ''}
      await ${wait};`, { code: null, signal: 'SIGINT', interruptAfter: 'hanging', within: 8 }));
}

test('SIGINT handled by the program then it stops the hub and ends', () =>
  ends(`const hub = await make(); await hub.startChild({id: 'c', kind: 'counter'});
    process.once('SIGINT', () => void hub.stop({timeoutMs: 2000}).catch((error) => console.log(error.kind)).finally(() => console.log('left')));
    console.log('ready');`, { interruptAfter: 'ready', prints: 'ready\nleft\n' }));

test('child_process.fork then each process has a hub of its own', () => {
  const folder = mkdtempSync(join(import.meta.dirname ?? '.', 'fork-'));
  const program = join(folder, 'child.mjs');
  writeFileSync(program, `import { Hub } from 'process-hub';
    const hub = await Hub.start({hubId: 'exit', name: 'forked', profile: 'fast', seeds: [process.argv[2]]});
    while (hub.childLookup('c') === null) await new Promise((yes) => setTimeout(yes, 5));
    process.send(await hub.call('c', 1, {timeoutMs: 10000}));
    await hub.stop(); process.disconnect();`);
  return ends(`import { fork } from 'node:child_process'; import { once } from 'node:events';
    const hub = await make({name: 'parent'}); await hub.startChild({id: 'c', kind: 'counter'});
    const child = fork(${JSON.stringify(program)}, [hub.address], {execArgv: []});
    console.log((await once(child, 'message'))[0], (await once(child, 'exit'))[0]);
    console.log(await hub.call('c', 1)); await hub.stop();`, { prints: '1 0\n2\n', within: 15 });
});

test('loaded as ES module and by require then one package', () =>
  ends(`import { createRequire } from 'node:module';
    const common = createRequire(process.cwd() + '/x.js')('process-hub');
    console.log(common.Hub === ph.Hub, common.Child === ph.Child);
    const hub = await common.Hub.start({hubId: 'x', kinds: {counter: Counter}});
    await hub.startChild({id: 'c', kind: 'counter'}); console.log(await hub.call('c', 1)); await hub.stop();`, {
    prints: 'true true\n1\n',
  }));

test('required by CommonJS then no warning', () =>
  ends(`const ph = require('process-hub'); console.log(typeof ph.Hub.start, Object.keys(ph).includes('default'));`, {
    prints: 'function false\n',
    prelude: '',
    type: 'commonjs',
  }));

test('imported then nothing is started', () =>
  ends(`import { readdirSync, readFileSync } from 'node:fs';
    const names = readdirSync('/proc/self/task').map((id) => readFileSync('/proc/self/task/' + id + '/comm', 'utf8'));
    console.log(names.filter((name) => name.startsWith('process-hub')).length, process._getActiveHandles().filter((it) => it.constructor.name === 'Timeout').length);`, {
    prints: '0 0\n',
  }));
