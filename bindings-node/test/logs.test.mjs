/** What the library logs reaches the program's logger. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { cluster, until } from './help/hubs.mjs';
import { script } from './help/script.mjs';

test('records of the core then at the logger, from its level on', async (t) => {
  const told = [];
  const note = (level) => (message) => told.push([level, message]);
  ph.setLogger({ debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') }, 'info');
  t.after(() => ph.setLogger(null));
  await cluster(t, 2);
  await until(() => told.some(([, message]) => message.includes('node is up')));
  const [level, message] = told.find(([, it]) => it.includes('node is up'));
  assert.equal(level, 'info');
  assert.match(message, /^process_hub::node: /);
  assert.ok(told.every(([of]) => of !== 'debug'));
});

test('records then with their time and their part of the library', async (t) => {
  const records = [];
  ph.setLogger((record) => records.push(record), 'trace');
  t.after(() => ph.setLogger(null));
  await cluster(t, 2);
  await until(() => records.length > 0);
  const [{ level, target, atMs }] = records;
  assert.ok(['trace', 'debug', 'info', 'warn'].includes(level));
  assert.match(target, /^process_hub/);
  assert.ok(Math.abs(atMs - Date.now()) < 60_000);
});

test('logger that throws then a warning, and the hub lives', async () => {
  const { code, output } = await script(`
    ph.setLogger(() => { throw new Error('no disk'); }, 'trace');
    class Careful extends Counter { prepareHandoverState() { return 1; } }
    const hub = await make({kinds: {counter: Careful}}); await hub.startChild({id: 'c', kind: 'counter'}); console.log(await hub.call('c', 1)); await hub.stop();`);
  assert.equal(code, 0);
  assert.match(output, /ProcessHubWarning: the logger of process-hub failed: Error: no disk/);
  assert.match(output, /^1$/m);
});

test('no logger then warnings of the process', async () => {
  const { code, output } = await script(`
    class Careful extends ph.Child { prepareHandoverState() { return 1; } }
    const hub = await make({kinds: {careful: Careful}}); await hub.stop();`);
  assert.equal(code, 0);
  assert.match(output, /ProcessHubWarning: kind "careful" has prepareHandoverState/);
});
