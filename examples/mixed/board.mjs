/**
 * A process that runs the board: a child with the latest figures of every site, which any of these processes shows by
 * HTTP.
 *
 *     node board.mjs NAME [SEED]
 *
 * Prints its addresses, runs until its input ends, and prints what became of its children.
 */

import { once } from 'node:events';
import { createServer } from 'node:http';
import { argv, stdin } from 'node:process';

import { Child, Hub, hotSwap } from 'process-hub';

class Board extends Child {
  start() {
    this.state = {};
  }

  handle({ site, ...figures }) {
    // A summary that was not answered tells again, and others may have been quicker: the longer count is the later one.
    if (site !== undefined && figures.count >= (this.state[site]?.count ?? 0)) {
      this.state[site] = figures;
    }
    return this.state;
  }
}

const [, , name, ...seeds] = argv;
const hub = await Hub.start({
  hubId: 'weather',
  kinds: { board: Board },
  name,
  seeds,
  migration: hotSwap({ handover: true }),
  profile: 'fast',
});

const server = createServer(async (_, response) => {
  try {
    const board = await hub.call('board', {}, { timeoutMs: 5000 });
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(board));
  } catch (error) {
    response.writeHead(503).end(error.message);
  }
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
console.log(JSON.stringify({ address: hub.address, http: `http://127.0.0.1:${server.address().port}/` }));

await once(stdin.resume(), 'end');
server.close();
server.closeAllConnections();
console.log(JSON.stringify(await hub.stop()));
