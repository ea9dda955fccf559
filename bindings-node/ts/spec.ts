/** What is needed to start a child anywhere. */

import { rename, toCamel, toSnake } from './names.js';

/** A child to start, on any node that registered its kind. */
export interface ChildSpec {
  /** Unique in the hub, 1 to 255 bytes. */
  readonly id: string;
  /** The name under which nodes registered the code. */
  readonly kind: string;
  /** The argument of `start`: JSON, or a `Uint8Array`. */
  readonly args?: unknown;
  /** Free; the key `tag` is what `tagQuery` looks for. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** What an exit does: always restart, after a crash only, or never. */
  readonly restart?: 'permanent' | 'transient' | 'temporary';
  /** What an exception in `handle` does to the instance. */
  readonly onError?: 'continue' | 'restart';
  /** Labels a node must have to be given the child. */
  readonly require?: Readonly<Record<string, string>>;
  /** Longest time of `stop`. */
  readonly shutdownMs?: number;
}

/** The spec as the document every language reads. What is no object stays, for the core to refuse. */
export function specDocument(spec: ChildSpec): unknown {
  return typeof spec === 'object' && spec !== null ? rename(spec, toSnake) : spec;
}

/** The spec of a document. */
export function specFromDocument(document: object): ChildSpec {
  return rename(document, toCamel) as unknown as ChildSpec;
}
