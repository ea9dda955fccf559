/** Options become the core's one document, and all its problems come at once. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { internal } from './help/internal.mjs';
import { start } from './help/hubs.mjs';

const { hubDocument, documentText } = await internal('config');
const { runtime } = await internal('runtime');
const { fromThrown } = await internal('errors');
const vectors = JSON.parse(readFileSync(join(process.env.PROCESS_HUB_ROOT, 'tests/vectors/config.json')));

function check(document) {
  try {
    runtime().environment.checkConfig(documentText(document, 'start'));
    return null;
  } catch (error) {
    return fromThrown(error);
  }
}

for (const { name, doc } of vectors.accept) {
  test(`vector to accept: ${name}`, () => assert.equal(check(doc), null));
}

for (const { name, doc, paths } of vectors.reject) {
  test(`vector to refuse: ${name}`, () => {
    const error = check(doc);
    assert.ok(error instanceof ph.InvalidConfigError, String(error));
    for (const path of paths) assert.ok(error.message.includes(`${path}: `), `${path} in ${error.message}`);
  });
}

for (const { name, doc } of vectors.accept_node) {
  test(`node to accept: ${name}`, async () => {
    const node = await ph.Node.fromConfig(doc);
    await node.stop();
  });
}

for (const { name, doc, paths } of vectors.reject_node) {
  test(`node to refuse: ${name}`, async () => {
    for (const options of [undefined, { profile: 'fast' }]) {
      const error = await ph.Node.fromConfig(doc, options).catch((refusal) => refusal);
      assert.ok(error instanceof ph.InvalidConfigError, String(error));
      const own = paths.filter((path) => options === undefined || !path.startsWith('profile'));
      for (const path of own) assert.ok(error.message.includes(`${path}: `), `${path} in ${error.message}`);
    }
  });
}

test('nothing set then only the id and an empty node', () => {
  assert.deepEqual(hubDocument({ hubId: 'h' }), { hub_id: 'h', node: {} });
});

test('every option then its name in the document', () => {
  const document = hubDocument({
    hubId: 'h',
    name: 'a',
    listen: '127.0.0.1:0',
    advertise: '127.0.0.1:1',
    seeds: ['127.0.0.1:7400'],
    security: { mode: 'key', keyFile: 'k' },
    labels: { zoneName: 'eu-1' },
    weight: 2,
    childSpecs: [{ id: 'c', kind: 'k', onError: 'restart', shutdownMs: 1, metadata: { camelCase: 1 } }],
    redundancy: ph.singularity(),
    migration: ph.hotSwap({
      handover: true,
      retentionMs: 1,
      confirmHandover: true,
      handoverDataWaitMs: 2,
      childMigrationTimeoutMs: 3,
    }),
    synchronization: ph.gossip({ syncIntervalMs: 4, recipients: 2, restrictedInit: false }),
    partitionTolerance: ph.divergence(),
    distribution: ph.guided({ fallback: 'consistent_hashing' }),
    restart: { maxRestarts: 1, windowMs: 2, backoffMs: [3, 4] },
    hubsDiscoverIntervalMs: 5,
    deadlockRecoveryTimeoutMs: 6,
    migrationBaseTimeoutMs: 7,
    shutdownTimeoutMs: 8,
    hostThreads: 9,
    profile: 'lan',
  });
  assert.deepEqual(document, {
    hub_id: 'h',
    node: {
      name: 'a',
      listen: '127.0.0.1:0',
      advertise: '127.0.0.1:1',
      seeds: ['127.0.0.1:7400'],
      security: { mode: 'key', key_file: 'k' },
      labels: { zoneName: 'eu-1' },
      weight: 2,
    },
    child_specs: [{ id: 'c', kind: 'k', on_error: 'restart', shutdown_ms: 1, metadata: { camelCase: 1 } }],
    redundancy: { type: 'singularity' },
    migration: {
      type: 'hot_swap',
      handover: true,
      retention_ms: 1,
      confirm_handover: true,
      handover_data_wait_ms: 2,
      child_migration_timeout_ms: 3,
    },
    synchronization: { type: 'gossip', sync_interval_ms: 4, recipients: 2, restricted_init: false },
    partition_tolerance: { type: 'divergence' },
    distribution: { type: 'guided', fallback: 'consistent_hashing' },
    restart: { max_restarts: 1, window_ms: 2, backoff_ms: [3, 4] },
    hubs_discover_interval_ms: 5,
    deadlock_recovery_timeout_ms: 6,
    migration_base_timeout_ms: 7,
    shutdown_timeout_ms: 8,
    host_threads: 9,
    profile: 'lan',
  });
  assert.deepEqual(ph.coldSwap({ handover: true, handoverDataWaitMs: 1 }), {
    type: 'cold_swap',
    handover: true,
    handover_data_wait_ms: 1,
  });
});

test('three mistakes then all three reported with their paths', async () => {
  const started = ph.Hub.start({ hubId: 'h', migration: ph.hotSwap({ retentionMs: -1 }), hostThreads: 0, seeds: [7] });
  await assert.rejects(started, (error) => {
    assert.ok(error instanceof ph.InvalidConfigError);
    for (const path of ['migration.retention_ms', 'host_threads', 'node.seeds[0]']) {
      assert.ok(error.message.includes(path), error.message);
    }
    return true;
  });
});

test('number that has no JSON form then a problem of its path, not a default', async () => {
  await assert.rejects(ph.Hub.start({ hubId: 'h', shutdownTimeoutMs: NaN }), {
    kind: 'invalid_config',
    message: /^shutdown_timeout_ms: NaN/,
  });
});

test('unknown key then refused by name', async () => {
  await assert.rejects(ph.Hub.start({ hubId: 'h', shutdownTimoutMs: 1 }), /shutdown_timout_ms/);
  await assert.rejects(ph.Hub.fromConfig({ hub_id: 'h', colour: 1 }), /colour/);
});

test('strategy of a later version then refused, not ignored', async () => {
  const redundancy = { type: 'custom', name: 'mine' };
  await assert.rejects(ph.Hub.start({ hubId: 'h', redundancy }), { kind: 'invalid_config', message: /redundancy/ });
});

for (const options of [undefined, null, 7, 'h', []]) {
  test(`options ${String(options)} then a named error`, async () => {
    await assert.rejects(ph.Hub.start(options), ph.HubError);
    await assert.rejects(ph.Hub.fromConfig(options), ph.HubError);
  });
}

test('another address without security then refused', async () => {
  await assert.rejects(ph.Hub.start({ hubId: 'h', listen: '0.0.0.0:0' }), ph.InvalidConfigError);
});

test('document of the contract then a hub', async (t) => {
  const hub = await ph.Hub.fromConfig({ hub_id: 'doc', profile: 'fast' }, { kinds: {}, hooks: {} });
  t.after(() => hub.stop());
  assert.equal(hub.hubId, 'doc');
  const node = await ph.Node.fromConfig({ name: 'of-a-document' }, { profile: 'fast' });
  t.after(() => node.stop());
  const second = await ph.Hub.fromConfig({ hub_id: 'doc' }, { node });
  assert.equal(second.nodeName, 'of-a-document');
  await second.stop();
});

test('hand-over callbacks that are never called then one warning names the option', async (t) => {
  const records = [];
  ph.setLogger((record) => records.push(record));
  t.after(() => ph.setLogger(null));
  class Careful extends ph.Child {
    prepareHandoverState() {
      return 1;
    }
  }
  await start(t, { migration: ph.hotSwap(), kinds: { a: Careful, b: Careful } });
  const told = records.filter((record) => record.message.includes('handover: true'));
  assert.equal(told.length, 1);
  assert.equal(told[0].level, 'warn');
});
