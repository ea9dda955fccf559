/** Every kind of the core's table has its class, and every hook its name. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';

import * as ph from 'process-hub';

import { internal } from './help/internal.mjs';

const { ERRORS } = await internal('error-classes');
const { fromDocument } = await internal('errors');
const { HOOK_NAMES } = await internal('events');
const { toCamel, toSnake } = await internal('names');
const { runtime } = await internal('runtime');
const tables = JSON.parse(runtime().environment.tables());

test('vectors that every language loads then our numbers and kinds', () => {
  const vectors = JSON.parse(readFileSync(join(process.env.PROCESS_HUB_ROOT, 'tests/vectors/errors.json')));
  assert.deepEqual(ERRORS.map(({ number, kind }) => ({ number, kind })), vectors.errors);
});

test('committed table then equal to the core', () => {
  const ours = ERRORS.map((of) => [of.kind, of.number]);
  assert.deepEqual(ours, tables.errors.map(([kind, number]) => [kind, number]));
});

for (const [kind, number] of tables.errors) {
  test(`${kind} then its class with its number and code`, () => {
    const document = { kind, operation: 'call', message: 'what happened', child_id: 'c1', node: 'n1' };
    const error = fromDocument({ ...document, maybe_executed: true, trace: 'Error: there\n  at x' });
    assert.ok(error instanceof ph.HubError && error instanceof Error);
    assert.equal(ph[error.constructor.name], error.constructor);
    assert.equal(error.name, error.constructor.name);
    assert.deepEqual([error.kind, error.number], [kind, number]);
    assert.equal(error.code, `ERR_PROCESS_HUB_${kind.toUpperCase()}`);
    assert.deepEqual([error.operation, error.message], ['call', 'what happened']);
    assert.deepEqual([error.childId, error.node, error.maybeExecuted], ['c1', 'n1', true]);
    assert.ok(error.cause instanceof ph.RemoteError);
    assert.match(error.cause.stack, /at x/);
  });
}

test('kind of a newer core then plain HubError', () => {
  assert.equal(fromDocument({ kind: 'brand_new', operation: 'op', message: 'm' }).constructor, ph.HubError);
});

test('hooks then the names of the core', () => {
  assert.deepEqual([...HOOK_NAMES].map(toSnake).sort(), tables.hooks.sort());
  for (const name of HOOK_NAMES.map(toSnake)) assert.equal(toSnake(toCamel(name)), name);
});
