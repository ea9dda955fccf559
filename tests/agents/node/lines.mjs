/** The lines this agent writes. */

import { writeSync } from 'node:fs';

/** Writes one line, whole and at once. */
export function write(line) {
  let rest = Buffer.from(`${JSON.stringify(line)}\n`);
  while (rest.length > 0) {
    try {
      rest = rest.subarray(writeSync(1, rest));
    } catch (error) {
      // The pipe is full, and not blocking: its reader is slow.
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}
