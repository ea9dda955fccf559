/** One running copy of a child in a hub, and what it is told about itself. */

import type { Child, Context, Mode, StartReason } from './child.js';
import type { Host } from './host.js';
import type { Hub } from './hub.js';
import type { Registered } from './kinds.js';
import { decodeWith, encodeWith } from './kinds.js';
import type { Content } from './native.js';
import { decode, encode } from './values.js';

/** The facts of a start: child, kind, epoch, mode, reason, and the metadata as JSON where there are any. */
export type StartFacts = [string, string, number, Mode, StartReason, string | null];

/** The context of one instance. */
export class InstanceContext implements Context {
  readonly childId: string;
  readonly kind: string;
  readonly startReason: StartReason;
  readonly #host: Host;
  readonly #instance: number;
  readonly #metadata: string | null;
  #epoch: number;
  #mode: Mode;
  #run: AbortController | undefined;

  constructor(host: Host, instance: number, start: StartFacts) {
    this.#host = host;
    this.#instance = instance;
    [this.childId, this.kind, this.#epoch, this.#mode, this.startReason, this.#metadata] = start;
  }

  get hubId(): string {
    return this.#host.hub.hubId;
  }

  get node(): string {
    return this.#host.nodeName;
  }

  get epoch(): number {
    return this.#epoch;
  }

  get mode(): Mode {
    return this.#mode;
  }

  get metadata(): Readonly<Record<string, unknown>> {
    return JSON.parse(this.#metadata ?? '{}') as Record<string, unknown>;
  }

  get cancelled(): boolean {
    return this.#run?.signal.aborted ?? false;
  }

  get signal(): AbortSignal {
    this.#run ??= new AbortController();
    return this.#run.signal;
  }

  get hub(): Hub {
    return this.#host.hub;
  }

  retentionHandled(): void {
    this.#host.tell(this.#instance, 'retention_handled', null);
  }

  exit(reason?: string | Error): void {
    this.#host.tell(this.#instance, 'exit', reason === undefined ? null : String(reason));
  }

  stopSelf(): void {
    this.#host.tell(this.#instance, 'stop_self', null);
  }

  /** @internal A body begins. */
  beginRun(): AbortSignal {
    this.#run = new AbortController();
    return this.#run.signal;
  }

  /** @internal The body is to return. */
  cancelRun(): void {
    this.#run?.abort();
  }

  /** @internal */
  setEpoch(epoch: number): void {
    this.#epoch = Math.max(this.#epoch, epoch);
  }

  /** @internal */
  setMode(mode: Mode): void {
    this.#mode = mode;
  }
}

/** One running copy of a child. */
export class Instance {
  constructor(
    readonly child: Child<unknown>,
    readonly context: InstanceContext,
    readonly kind: Registered,
  ) {}

  encode(value: unknown): Content {
    const codec = this.kind.codec;
    return encode(codec === undefined ? value : encodeWith(codec, value), 'complete', this.context.childId);
  }

  decode(content: Content): unknown {
    return decodeWith(this.kind.codec, decode(content));
  }
}
