/** What a hub is made of, and its local reads. */

import { HookEmitter } from './emitter.js';
import { ClosedError, InvalidArgumentError } from './error-classes.js';
import { calling } from './errors.js';
import { payloadOf } from './events.js';
import type { HookName } from './events.js';
import { Host } from './host.js';
import type { Hub } from './hub.js';
import type { Kinds } from './kinds.js';
import type { StrategyTable } from './strategies.js';
import { toCamel, toSnake } from './names.js';
import { native } from './native.js';
import type { NativeHub } from './native.js';
import * as results from './results.js';
import type { DebugStats, Row } from './results.js';
import { Answers } from './waiting.js';
import type { AbortSignalLike } from './waiting.js';

/** A hub without its operations. */
export abstract class BaseHub extends HookEmitter {
  /** @internal */
  protected readonly native: NativeHub = new native.NativeHub();
  /** @internal */
  protected readonly host: Host;
  /** @internal */
  protected readonly answers = new Answers();
  /** @internal */
  protected state: 'starting' | 'started' | 'closed' = 'starting';

  /** @internal */
  protected constructor(
    /** The id of this hub. */
    readonly hubId: string,
    /** @internal */
    protected readonly kinds: Kinds,
    /** @internal */
    protected readonly strategies: StrategyTable,
  ) {
    super();
    this.host = new Host(this as unknown as Hub, this.native, kinds, strategies, {
      completed: (request, error, value) => this.answers.settle(request, error, value),
      hook: (name, payload) => {
        const hook = toCamel(name) as HookName;
        this.dispatch(hook, payloadOf(hook, payload));
      },
      alter: (spec, nodes) => this.interceptors.alter(spec, nodes),
      closed: () => this.ended(),
    });
  }

  /** What the registry knows of a child; local, without the network. */
  childLookup(childId: string): Row | null {
    checkText(childId, 'childId', 'child_lookup');
    const text = this.read('child_lookup', (hub) => hub.childLookup(childId));
    return text === null ? null : results.row(JSON.parse(text) as results.RowDocument);
  }

  /** Every row by its child's id. */
  processRegistry(): Map<string, Row> {
    const all = results.rows(this.read('process_registry', (hub) => hub.processRegistry()));
    return new Map(all.map((known) => [known.id, known]));
  }

  /** The rows whose metadata has this `tag`. */
  tagQuery(tag: string): Row[] {
    checkText(tag, 'tag', 'tag_query');
    return results.rows(this.read('tag_query', (hub) => hub.tagQuery(tag)));
  }

  /** The rows whose metadata has this key. */
  metadataQuery(key: string): Row[] {
    checkText(key, 'key', 'metadata_query');
    return results.rows(this.read('metadata_query', (hub) => hub.metadataQuery(key)));
  }

  /** The names of the members of this hub. */
  nodes(includeLocal = false): string[] {
    return this.read('nodes', (hub) => hub.nodes(includeLocal === true));
  }

  /** The name of this node. */
  get nodeName(): string {
    return this.read('node_name', (hub) => hub.nodeName);
  }

  /** The `host:port` that peers are told. */
  get address(): string {
    return this.read('address', (hub) => hub.address);
  }

  /** Whether the hub runs. */
  isAlive(): boolean {
    return this.state === 'started' && this.native.isAlive();
  }

  /** Whether this node has moves open or lacks quorum. */
  isLocked(): boolean {
    return this.read('is_locked', (hub) => hub.isLocked());
  }

  /** Whether this side of the cluster has no quorum. */
  isPartitioned(): boolean {
    return this.read('is_partitioned', (hub) => hub.isPartitioned());
  }

  /** The hub's metrics as Prometheus text. */
  metricsText(): string {
    return this.read('metrics_text', (hub) => hub.metricsText());
  }

  /** Counts of what this process holds. */
  debugStats(): DebugStats {
    const text = this.read('debug_stats', (hub) => hub.debugStats());
    return results.debugStats(text, this.host.instanceCount);
  }

  // --- the way in --------------------------------------------------------------

  /** @internal The native half, or why there is none. */
  protected started(operation: string): NativeHub {
    if (this.state === 'closed') {
      throw new ClosedError('the hub was stopped', { operation });
    }
    return this.native;
  }

  /** @internal Reads what the hub published. */
  protected read<T>(operation: string, read: (hub: NativeHub) => T): T {
    const hub = this.started(operation);
    return calling(() => read(hub));
  }

  /** @internal Begins an operation whose answer comes out of the queue. */
  protected request<T>(
    operation: string,
    signal: AbortSignalLike | undefined,
    begin: (hub: NativeHub) => number,
    convert: (value: never) => T,
  ): Promise<T> {
    const hub = this.started(operation);
    return this.answers.expect(
      operation,
      signal,
      () => calling(() => begin(hub)),
      convert,
      (request) => hub.cancel(request),
    );
  }

  /** @internal Nothing comes any more. */
  protected abstract ended(): void;

  /** @internal */
  protected override checkOpen(operation: string): void {
    this.started(operation);
  }

  /** @internal */
  protected override subscribe(hooks: string[]): void {
    if (this.state === 'started') {
      this.native.subscribeHooks(hooks.map(toSnake));
    }
  }

  /** What `console.log` and `inspect` show. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return `<Hub ${JSON.stringify(this.hubId)} ${this.state}>`;
  }
}

/** Refuses what is no text. */
export function checkText(value: unknown, name: string, operation: string): void {
  if (typeof value !== 'string' || !value.isWellFormed()) {
    throw new InvalidArgumentError(`\`${name}\` must be a text, not ${String(value)}`, { operation });
  }
}
