/** Vectors that every language loads: where children belong, and what anybody may send to a port. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { HubError } from 'process-hub';

import { Echo, start } from './help/hubs.mjs';
import { difference } from './help/shapes.mjs';

function read(name) {
  return JSON.parse(readFileSync(join(process.env.PROCESS_HUB_ROOT, 'tests/vectors', name)));
}

for (const vector of read('placement.json').vectors) {
  const { case: name, nodes, kind, factor, require, expected } = vector;
  // The plan of a hub has one instance per child and no labels.
  const skip = factor !== 1 || Object.keys(require).length > 0;
  test(`placement: ${name}`, { skip }, async (t) => {
    const hub = await start(t, { name: 'hub of the test', kinds: { [kind]: Echo } });
    (await hub.startChildren(Object.keys(expected).map((id) => ({ id, kind })))).raiseForErrors();
    const join = nodes.map(({ name, kinds, weight }) => ({ name, kinds, weight: weight / 1000 }));
    const { moves } = await hub.plan({ join });
    // The hub itself takes its share; what does not stay goes where the vector says.
    for (const { id, to } of moves) assert.equal(to, expected[id][0], id);
    assert.ok(moves.length > 0 || Object.values(expected).every((owners) => owners.length === 0));
  });
}

test('results then of the shapes of the vectors', async (t) => {
  const { shapes } = read('results.json');
  const hub = await start(t);
  const specs = [{ id: 'c', kind: 'counter', metadata: { tag: 'x' } }, { id: 'd', kind: 'nobody has it' }, { id: 'e' }];
  const started = await hub.startChildren(specs);
  assert.deepEqual(started.errors.map(({ id }) => id).sort(), ['d', 'e']);
  const error = await hub.call('nobody', 1).catch((refusal) => refusal);
  assert.ok(error instanceof HubError, String(error));
  const shown = {
    StartResult: started,
    Started: await hub.startChild({ id: 'f', kind: 'counter' }),
    'Row | null': hub.childLookup('c'),
    Registry: Object.fromEntries(hub.processRegistry()),
    Rows: hub.tagQuery('x'),
    Children: await hub.whichChildren('global'),
    Where: await hub.where('c'),
    Plan: await hub.plan({ leave: [hub.nodeName] }),
    DebugStats: hub.debugStats(),
    Stopped: await hub.stopChild('f'),
    StopResult: await hub.stopChildren(['c', 'nobody']),
    DrainReport: await hub.drain(),
    Error: {
      kind: error.kind,
      code: error.number,
      operation: error.operation,
      message: error.message,
      childId: error.childId ?? null,
      node: error.node ?? null,
      maybeExecuted: error.maybeExecuted,
      trace: error.cause?.stack ?? null,
    },
  };
  for (const [shape, value] of Object.entries(shown)) {
    assert.equal(difference(shapes, shape, JSON.parse(JSON.stringify(value))), undefined, shape);
  }
  assert.match(difference(shapes, 'Plan', { moves: [{ id: 'c', from: 1, to: null }] }), /moves\[0\]\.from: 1 is no text/);
});

/** What the node answers until it has sent `enough` bytes or closed the connection. */
function exchange(address, bytes, enough) {
  const [host, port] = [address.slice(0, address.lastIndexOf(':')), Number(address.slice(address.lastIndexOf(':') + 1))];
  return new Promise((resolve, reject) => {
    let answer = Buffer.alloc(0);
    const socket = connect({ host, port }, () => socket.write(bytes));
    const end = () => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(15_000, () => reject(new Error('neither answered nor closed')));
    socket.on('data', (data) => {
      answer = Buffer.concat([answer, data]);
      if (answer.length >= enough) end();
    });
    // A reset is an end, too: bytes of ours were left unread.
    socket.on('error', end).on('close', end);
  });
}

test('bytes at the port then answered or closed and the hub lives', async (t) => {
  const { reply, cases } = read('frames.json');
  const begin = Buffer.from(reply, 'hex');
  const hub = await start(t, { security: { mode: 'insecure_plaintext' } });
  for (const { name, bytes, then } of cases) {
    const enough = then === 'answers' ? begin.length : Infinity;
    const answer = await exchange(hub.address, Buffer.from(bytes, 'hex'), enough);
    if (then === 'answers') assert.deepEqual(answer.subarray(0, begin.length), begin, name);
    else assert.ok(answer.length === 0 || answer.subarray(0, 8).equals(begin.subarray(0, 8)), name);
  }
  await hub.startChild({ id: 'c', kind: 'echo' });
  assert.equal(await hub.call('c', 'still here'), 'still here');
});
