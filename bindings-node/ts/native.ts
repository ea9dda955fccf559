/** Loads the native half and tells its shape; internal, and of the same version always. */

import { createRequire } from 'node:module';

/** A value on its way to or from the native half. Null is none; a text is JSON; bytes are bytes. */
export type Cell = null | number | string | Uint8Array | Cell[];

/** The content of a payload: JSON text, bytes, or `[content type, bytes]`. */
export type Content = string | Uint8Array | [string, Uint8Array];

export interface Environment {
  close(): void;
  answers(): Cell[];
  setLogLevel(level: number): void;
  records(): Cell[];
  tables(): string;
  checkConfig(document: string): void;
}

export interface NativeNode {
  start(environment: Environment, config: string): number;
  stop(environment: Environment, timeoutMs: number | null): number;
  readonly name: string;
  readonly address: string;
}

export interface NativeHub {
  start(
    environment: Environment,
    config: string,
    kinds: string,
    strategies: string,
    hooks: string[],
    node: NativeNode | null,
  ): number;
  stop(environment: Environment, timeoutMs: number | null): number;
  startChildren(specs: string, args: Cell[], options: string): [number | null, string];
  stopChildren(ids: readonly string[], timeoutMs: number): number;
  call(child: string, message: Content, timeoutMs: number, node: string | null, chain: string[] | null): number;
  send(
    child: string,
    message: Content,
    timeoutMs: number,
    node: string | null,
    all: boolean,
    chain: string[] | null,
  ): number;
  whichChildren(timeoutMs: number): number;
  drain(timeoutMs: number): number;
  where(child: string): number;
  plan(change: string): number;
  sync(timeoutMs: number): number;
  acknowledgeLoss(child: string): number;
  resetClusterSize(size: number): number;
  register(kinds: string): number;
  subscribeHooks(names: string[]): void;
  cancel(request: number): void;
  turn(completions: Cell[], max: number): Cell[];
  instanceEvent(instance: number, what: string, reason: string | null): void;
  childLookup(child: string): string | null;
  kindOf(child: string): string | null;
  processRegistry(): string;
  whichChildrenLocal(): string;
  tagQuery(tag: string): string;
  metadataQuery(key: string): string;
  nodes(includeLocal: boolean): string[];
  readonly nodeName: string;
  readonly address: string;
  isAlive(): boolean;
  isLocked(): boolean;
  isPartitioned(): boolean;
  metricsText(): string;
  debugStats(): string;
}

interface Native {
  Environment: new (bell: () => void) => Environment;
  NativeHub: new () => NativeHub;
  NativeNode: new () => NativeNode;
}

/** The package that holds the native half for this machine. */
function platformPackage(): string {
  const libc = process.platform === 'linux' ? '-gnu' : '';
  return `process-hub-${process.platform}-${process.arch}${libc}`;
}

function load(): Native {
  const name = platformPackage();
  try {
    return createRequire(import.meta.url)(name) as Native;
  } catch (cause) {
    const message =
      `process-hub needs the package ${name} for its native half, and it did not load: install it beside ` +
      'process-hub, in the same version (npm leaves it out with --no-optional and on other platforms)';
    throw new Error(message, { cause });
  }
}

export const native: Native = load();

/** The version of this package. */
export const version = (createRequire(import.meta.url)('../package.json') as { version: string }).version;
