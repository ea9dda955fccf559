/**
 * One instance of a chat service. Each room is a child: it runs in one instance at a time and takes its history along
 * when instances come and go. Any instance answers for any room.
 *
 * Usage: node service.mjs NAME [SEED…]; it prints the addresses of its hub and of its HTTP server as one line of JSON,
 * and stops gracefully on SIGTERM.
 *
 *   POST /rooms/ROOM   {"from": "ann", "text": "hello"}   says something; answers {"number": …}
 *   GET  /rooms/ROOM?after=N                              what was said after number N
 */

import { createServer } from 'node:http';
import { argv } from 'node:process';

import { Child, Hub, HubError, hotSwap } from 'process-hub';

/** Lines a room keeps. */
const MAX_LINES = 10_000;

class Room extends Child {
  start() {
    this.state = { next: 1, lines: [] };
  }

  handle({ say, after }) {
    if (say !== undefined) {
      const line = { number: this.state.next, ...say };
      this.state.next += 1;
      this.state.lines.push(line);
      if (this.state.lines.length > MAX_LINES) {
        this.state.lines.shift();
      }
      return { number: line.number };
    }
    return this.state.lines.filter((line) => line.number > after);
  }
}

const [, , name, ...seeds] = argv;
const hub = await Hub.start({
  hubId: 'chat',
  name,
  seeds,
  kinds: { room: Room },
  migration: hotSwap({ handover: true }),
  shutdownTimeoutMs: 20_000,
  profile: 'fast',
});

/** Calls a room, which begins with the first who asks for it. */
async function ask(room, message) {
  const id = `room:${room}`;
  if (hub.childLookup(id) === null) {
    await hub.startChild({ id, kind: 'room' }, { ifExists: 'return', timeoutMs: 10_000 });
  }
  return hub.call(id, message, { timeoutMs: 10_000 });
}

async function answer(request) {
  const url = new URL(request.url, 'http://localhost');
  const room = /^\/rooms\/([\w-]{1,64})$/.exec(url.pathname)?.[1];
  if (room === undefined) {
    return [404, { error: 'there is /rooms/ROOM and nothing else' }];
  }
  if (request.method !== 'POST') {
    return [200, await ask(room, { after: Number(url.searchParams.get('after') ?? 0) })];
  }
  const chunks = await request.toArray();
  const { from, text } = JSON.parse(Buffer.concat(chunks));
  return [200, await ask(room, { say: { from: String(from), text: String(text), via: name } })];
}

const server = createServer((request, response) => {
  answer(request)
    .catch((error) => {
      const isOurs = error instanceof HubError;
      return [isOurs ? 503 : 400, { error: error.message, maybeExecuted: isOurs && error.maybeExecuted }];
    })
    .then(([status, body]) => {
      response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    });
});

process.once('SIGTERM', async () => {
  // Requests that came are answered before the rooms are given away.
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeIdleConnections();
  });
  const report = await hub.stop();
  console.log(JSON.stringify({ moved: report.moved.length, lost: report.restarted.length + report.failed.length }));
});

server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ hub: hub.address, http: `http://127.0.0.1:${server.address().port}` }));
});
