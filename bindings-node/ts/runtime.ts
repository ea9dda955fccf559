/** What this thread has of the library: the doorbell's other end, its open hubs, and work it waits for. */

import { fromText } from './errors.js';
import { followLevel, log, tellRecords } from './logs.js';
import { native } from './native.js';
import type { Environment } from './native.js';
import { Answers } from './waiting.js';
import type { AbortSignalLike } from './waiting.js';

/** Longest interval of a timer; it holds the event loop and is never due. */
const FOREVER_MS = 2 ** 31 - 1;

/** Something that takes what waits for it when the bell rang. */
export interface Listener {
  drain(): void;
}

class Runtime {
  readonly environment: Environment = new native.Environment(() => this.#wake());
  readonly #answers = new Answers();
  readonly #listeners = new Set<Listener>();

  constructor() {
    followLevel((level) => this.environment.setLogLevel(level));
    // What ends without this event, such as a terminated worker, is noticed by the native half.
    process.once('exit', () => this.environment.close());
  }

  /** Lets a hub take what waits whenever the bell rings. It is held until it is removed. */
  add(listener: Listener): void {
    this.#listeners.add(listener);
  }

  remove(listener: Listener): void {
    this.#listeners.delete(listener);
  }

  /** A promise of the answer to work on a native thread; the process stays alive until it came. */
  work<T>(
    operation: string,
    signal: AbortSignalLike | undefined,
    begin: () => number,
    convert: (text: string) => T,
  ): Promise<T> {
    const hold = new Hold();
    const answer = this.#answers.expect(operation, signal, begin, convert);
    return answer.finally(() => hold.end());
  }

  #wake(): void {
    guarded(() => this.#takeAnswers());
    for (const listener of this.#listeners) {
      guarded(() => listener.drain());
    }
    guarded(() => tellRecords(this.environment.records()));
  }

  #takeAnswers(): void {
    const answers = this.environment.answers();
    for (let at = 0; at + 2 < answers.length; at += 3) {
      const error = answers[at + 1];
      this.#answers.settle(Number(answers[at]), typeof error === 'string' ? fromText(error) : null, answers[at + 2]);
    }
  }
}

/** Does something that fails only by a fault of ours, which ends nothing else. */
export function guarded(work: () => void): void {
  try {
    work();
  } catch (error) {
    log('error', `a fault of process-hub: ${error instanceof Error ? error.stack : String(error)}`);
  }
}

/** Keeps the event loop alive, as a listening server does. */
export class Hold {
  readonly #timer = setInterval(() => undefined, FOREVER_MS);

  ref(): void {
    this.#timer.ref();
  }

  unref(): void {
    this.#timer.unref();
  }

  end(): void {
    clearInterval(this.#timer);
  }
}

let made: Runtime | undefined;

/** The runtime of this thread, made when it is first needed. */
export function runtime(): Runtime {
  made ??= new Runtime();
  return made;
}
