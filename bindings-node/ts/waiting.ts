/** Answers that are still to come, and signals that end the wait for them. */

import { HubCancelledError, InvalidArgumentError } from './error-classes.js';

/** What we use of an AbortSignal where the program's types have none. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

/** The AbortSignal of the program's types. */
export type Signal = typeof globalThis extends { AbortSignal: { prototype: infer T extends AbortSignalLike } }
  ? T
  : AbortSignalLike;

/** An option of every operation that waits. */
export interface WaitOptions {
  /** Ends the wait, not what was begun, with HubCancelledError. */
  readonly signal?: AbortSignalLike | undefined;
}

/** An option of operations with a deadline. */
export interface TimeoutOptions extends WaitOptions {
  /** How long the operation may take, in milliseconds. */
  readonly timeoutMs?: number | undefined;
}

type Settle = (error: unknown, value: unknown) => void;

/** The answers that are still to come, by the number of their request. */
export class Answers {
  readonly #waiting = new Map<number, Settle>();

  get size(): number {
    return this.#waiting.size;
  }

  /**
   * A promise of the answer to what `begin` begins, read by `convert`. `cancel` is told when the signal ended the
   * wait. Whatever `begin` throws rejects the promise.
   */
  expect<T>(
    operation: string,
    signal: AbortSignalLike | undefined,
    begin: () => number,
    convert: (value: never) => T,
    cancel: (request: number) => void = () => undefined,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      checkSignal(operation, signal);
      const request = begin();
      const abort = (): void => {
        if (this.#waiting.delete(request)) {
          cancel(request);
          reject(cancelled(operation, signal));
        }
      };
      signal?.addEventListener('abort', abort);
      this.#waiting.set(request, (error, value) => {
        signal?.removeEventListener('abort', abort);
        if (error !== null) {
          reject(error);
          return;
        }
        try {
          resolve(convert(value as never));
        } catch (failure) {
          reject(failure);
        }
      });
    });
  }

  /** An answer came. What nobody waits for is dropped. */
  settle(request: number, error: unknown, value: unknown): void {
    const settle = this.#waiting.get(request);
    this.#waiting.delete(request);
    settle?.(error, value);
  }

  /** No answer comes any more. */
  settleAll(error: (request: number) => unknown): void {
    for (const request of [...this.#waiting.keys()]) {
      this.settle(request, error(request), null);
    }
  }
}

/** Ends the wait for a promise with the signal; what the promise is of goes on. */
export function waitFor<T>(operation: string, promise: Promise<T>, signal: AbortSignalLike | undefined): Promise<T> {
  if (signal === undefined) {
    return promise;
  }
  return new Promise((resolve, reject) => {
    checkSignal(operation, signal);
    const abort = (): void => reject(cancelled(operation, signal));
    signal.addEventListener('abort', abort);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}

/** Refuses what is no signal, and what was aborted before anything began. */
export function checkSignal(operation: string, signal: AbortSignalLike | undefined): void {
  if (signal !== undefined && typeof signal?.addEventListener !== 'function') {
    throw new InvalidArgumentError('`signal` must be an AbortSignal', { operation });
  }
  if (signal?.aborted === true) {
    throw cancelled(operation, signal);
  }
}

function cancelled(operation: string, signal: AbortSignalLike | undefined): HubCancelledError {
  const facts = { operation, maybeExecuted: true, cause: signal?.reason };
  return new HubCancelledError('the wait was ended by its signal; what was begun goes on', facts);
}

/** A whole number of milliseconds, or the default where none is given. */
export function toMs(value: number | undefined, name: string, operation: string, initial: number): number {
  if (value === undefined) {
    return initial;
  }
  if (!Number.isSafeInteger(value) || value < 0) {
    const message = `\`${name}\` must be a whole number of milliseconds, not ${String(value)}`;
    throw new InvalidArgumentError(message, { operation });
  }
  return value;
}

/** The options of an operation. What is no object, and names that are none of its options, are refused. */
export function checkOptions<T extends object>(
  options: T | null | undefined,
  operation: string,
  ...known: readonly (keyof T & string)[]
): T {
  if (options === undefined || options === null) {
    return {} as T;
  }
  if (typeof options !== 'object') {
    throw new InvalidArgumentError(`the options must be an object, not ${String(options)}`, { operation });
  }
  const unknown = Object.keys(options).find((name) => !(known as readonly string[]).includes(name));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(`there is no option \`${unknown}\`: there are ${known.join(', ')}`, { operation });
  }
  return options;
}
