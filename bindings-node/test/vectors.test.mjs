/** Vectors that every language loads: where children belong, and what anybody may send to a port. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';

import { Echo, start } from './help/hubs.mjs';

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
