/**
 * Runs three instances of the chat service and restarts them one after the other while people talk in 24 rooms; then
 * checks that every room has all that was said in it, once and in order.
 *
 * Usage: node rolling_restart.mjs; prints one line, and ends with status 0 if nothing was lost.
 */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const SERVICE = fileURLToPath(new URL('service.mjs', import.meta.url));
const ROOMS = Array.from({ length: 24 }, (_, n) => `room-${n}`);
const DEADLINE_MS = 120_000;

/** A running instance. */
class Instance {
  static #count = 0;

  static async start(seeds) {
    Instance.#count += 1;
    const instance = new Instance();
    instance.name = `chat-${Instance.#count}`;
    instance.process = spawn(process.execPath, [SERVICE, instance.name, ...seeds], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    instance.ended = once(instance.process, 'exit');
    instance.lines = createInterface({ input: instance.process.stdout })[Symbol.asyncIterator]();
    Object.assign(instance, await instance.line());
    return instance;
  }

  async line() {
    const { value, done } = await this.lines.next();
    assert.equal(done, false, `${this.name} ended without a word`);
    return JSON.parse(value);
  }

  async stop() {
    this.process.kill('SIGTERM');
    const report = await this.line();
    const [code] = await this.ended;
    assert.equal(code, 0, `${this.name} ended with ${code}`);
    return report;
  }
}

const giveUp = setTimeout(() => {
  console.error(`not done within ${DEADLINE_MS} ms`);
  process.exit(1);
}, DEADLINE_MS);

const instances = [await Instance.start([])];
process.on('exit', () => instances.forEach((instance) => instance.process.kill('SIGKILL')));
instances.push(await Instance.start([instances[0].hub]), await Instance.start([instances[0].hub]));

/** What was said and acknowledged in each room: number and text. */
const said = new Map(ROOMS.map((room) => [room, []]));
const stop = new AbortController();
let turn = 0;

/** Talks in a room, one line after the other, each over the next instance that serves. */
async function talk(room, n) {
  for (let line = 0; !stop.signal.aborted; line += 1) {
    const text = `${room} says ${line}`;
    for (;;) {
      turn += 1;
      const { http } = instances[turn % instances.length];
      let response;
      try {
        const body = JSON.stringify({ from: `person-${n}`, text });
        response = await fetch(`${http}/rooms/${room}`, { method: 'POST', body, headers: { connection: 'close' } });
      } catch {
        continue; // This instance has just gone, and never took the line: another one serves.
      }
      const answer = await response.json();
      assert.equal(response.status, 200, `${text}: ${JSON.stringify(answer)}`);
      said.get(room).push({ number: answer.number, text });
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const talking = ROOMS.map(talk);
/** Waits until everyone has said so many lines more. */
async function more(lines) {
  const goal = ROOMS.map((room) => said.get(room).length + lines);
  while (ROOMS.some((room, n) => said.get(room).length < goal[n])) {
    await Promise.race([new Promise((resolve) => setTimeout(resolve, 20)), ...talking]);
  }
}

await more(5);
let moved = 0;
for (let restarted = 0; restarted < 3; restarted += 1) {
  const old = instances.shift();
  const report = await old.stop();
  assert.equal(report.lost, 0, `${old.name} lost ${report.lost} rooms`);
  moved += report.moved;
  instances.push(await Instance.start(instances.map((instance) => instance.hub)));
  await more(5);
}
stop.abort();
await Promise.all(talking);

let lines = 0;
for (const room of ROOMS) {
  for (const { http } of instances) {
    const history = await (await fetch(`${http}/rooms/${room}?after=0`)).json();
    const texts = history.map(({ number, text }) => ({ number, text }));
    assert.deepEqual(texts, said.get(room), `${room} as ${http} tells it`);
    assert.deepEqual(texts.map(({ number }) => number), texts.map((_, index) => index + 1));
  }
  lines += said.get(room).length;
}
assert.ok(moved > 0, 'no room ever moved');
for (const instance of instances.splice(0)) {
  await instance.stop();
}
clearTimeout(giveUp);
console.log(`${lines} lines in ${ROOMS.length} rooms kept over 3 restarts, ${moved} rooms moved`);
