/** The Node agent: one JSON object a line in, one a line out. */

import { createInterface } from 'node:readline';
import { inspect } from 'node:util';

import { HubError, InternalError, setLogger } from 'process-hub';

import { Agent, bad } from './commands.mjs';
import { write } from './lines.mjs';
import { errorDocument } from './values.mjs';

/** The document of anything thrown. */
function failure(error) {
  const isOurs = error instanceof HubError;
  return errorDocument(isOurs ? error : new InternalError(inspect(error), { operation: 'agent' }));
}

function parse(line) {
  let request;
  try {
    request = JSON.parse(line);
  } catch (error) {
    throw bad(`no JSON: ${error.message}`);
  }
  if (typeof request !== 'object' || request === null || Array.isArray(request)) {
    throw bad(`a request must be an object, not ${line.slice(0, 100)}`);
  }
  return request;
}

setLogger(({ level, target, message }) => process.stderr.write(`${level} ${target}: ${message}\n`));
const agent = new Agent();
let isEnding = false;

/** Stops every hub, answers, and ends the process. */
async function end(id) {
  if (isEnding) return;
  isEnding = true;
  await agent.close();
  if (id !== undefined) write({ id, ok: null });
  process.exit(0);
}

/** Carries out one request and writes its reply. */
async function answer(line) {
  let id = null;
  try {
    const request = parse(line);
    id = request.id ?? null;
    if (request.cmd === 'exit') {
      await end(id);
      return;
    }
    write({ id, ok: await agent.perform(request) });
  } catch (error) {
    write({ id, error: failure(error) });
  }
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  if (line.trim() !== '') void answer(line);
});
lines.on('close', () => void end());
