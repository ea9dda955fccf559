/** Scripts as processes of their own, with their exit code and time. */

import { spawn } from 'node:child_process';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

const PRELUDE = `
import * as ph from 'process-hub';
class Counter extends ph.Child {
  start(ctx, args) { this.ctx = ctx; this.state = args ?? 0; }
  async handle(message) {
    if (message === 'hang') { console.log('hanging'); return new Promise(() => {}); }
    if (message === 'exit') process.exit(5);
    if (message === 'throw later') setTimeout(() => { throw new Error('thrown later'); }, 0);
    else this.state += message;
    return this.state;
  }
}
const make = (options = {}) =>
  ph.Hub.start({ hubId: 'exit', kinds: { counter: Counter }, profile: 'fast', ...options });
`;

/**
 * Runs a script to its end; gives code, signal, output (both streams) and how long it took. With \`interruptAfter\`,
 * SIGINT is sent when that was printed.
 */
export function script(body, { interruptAfter, timeoutMs = 20_000, flags = [], prelude = PRELUDE, type = 'module' } = {}) {
  const begin = Date.now();
  const cwd = dirname(dirname(fileURLToPath(import.meta.url)));
  const child = spawn(process.execPath, [...flags, `--input-type=${type}`, '--eval', prelude + body], {
    cwd,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  let hasInterrupted = false;
  const take = (chunk) => {
    output += chunk;
    if (interruptAfter !== undefined && !hasInterrupted && output.includes(interruptAfter)) {
      hasInterrupted = true;
      child.kill('SIGINT');
    }
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  let isLate = false;
  const timer = setTimeout(() => {
    isLate = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  return new Promise((resolve) => {
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal: isLate ? 'too late' : signal, output, seconds: (Date.now() - begin) / 1000 });
    });
  });
}
