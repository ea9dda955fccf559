/** What is needed to start a child anywhere. */

import { toSnake } from './names.js';

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
  /** Under `guided`: the nodes that run it, the owner first. The option `childMapping` of `startChildren` fills it. */
  readonly mapping?: readonly string[];
}

/** The spec as the document every language reads. What is no object stays, for the core to refuse. */
export function specDocument(spec: ChildSpec): unknown {
  if (typeof spec !== 'object' || spec === null) {
    return spec;
  }
  const document: Record<string, unknown> = {};
  for (const name of Object.keys(spec)) {
    const value = spec[name as keyof ChildSpec];
    if (value !== undefined) {
      document[NAMES.get(name) ?? toSnake(name)] = value;
    }
  }
  return document;
}

/** Made once: specs come by the thousand. */
const NAMES = new Map(
  ['id', 'kind', 'args', 'metadata', 'restart', 'onError', 'require', 'shutdownMs', 'mapping'].map((name) => [name, toSnake(name)]),
);

/** A spec as the core writes it. */
export interface SpecDocument extends Omit<ChildSpec, 'onError' | 'shutdownMs'> {
  readonly on_error: 'continue' | 'restart';
  readonly shutdown_ms: number;
}

/** The spec of a document. */
export function specFromDocument(document: SpecDocument): ChildSpec {
  const { on_error: onError, shutdown_ms: shutdownMs, ...rest } = document;
  return { ...rest, onError, shutdownMs };
}
