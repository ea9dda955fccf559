/** The hooks of a hub, as its events, and the interceptor of specs. */

import { InvalidArgumentError } from './error-classes.js';
import { log } from './logs.js';
import { rename, toCamel } from './names.js';
import { instance } from './results.js';
import type { DrainReport, InstanceDocument, RowInstance } from './results.js';
import { specDocument, specFromDocument } from './spec.js';
import type { ChildSpec, SpecDocument } from './spec.js';
import { encodeJson } from './values.js';

/** The payload of each hook. Those marked (E) fire on every node, the others where it happens. */
export interface HubEvents {
  /** (E) */
  preClusterJoin: { node: string };
  /** (E) */
  postClusterJoin: { node: string };
  /** (E) */
  preClusterLeave: { node: string };
  /** (E) */
  postClusterLeave: { node: string };
  /** (E) */
  preNodesRedistribution: { event: 'nodeup' | 'nodedown'; node: string };
  /** (E) */
  postNodesRedistribution: { event: 'nodeup' | 'nodedown'; node: string };
  preChildrenStart: { children: unknown[] };
  postChildrenStart: { children: unknown[] };
  /** (E) */
  registryPidInserted: { childId: string; instances: RowInstance[] };
  /** (E) */
  registryPidRemoved: { childId: string; instances: RowInstance[] };
  /** (E) */
  childProcessPidUpdated: { childId: string; node: string; epoch: number };
  childrenMigrated: { node: string; children: { id: string; state: 'handed_over' | 'none' | 'lost' }[] };
  forwardedMigration: { children: { id: string; node: string }[] };
  handoverConfirmed: { childId: string; from: string; to: string };
  handoverFailed: { childId: string; from: string; to: string; why: string };
  /** (E) */
  stateLost: { childId: string; epoch: number; version: number; node: string };
  lostOwnership: { childId: string; epoch: number };
  conflictResolved: { childId: string; winner: unknown; loser: unknown; state: unknown };
  childUnplaced: { childId: string; why: string };
  childFailed: { childId: string; node: string; callback: string; message: string };
  /** (E) */
  childQuarantined: { childId: string; node: string; restarts: number };
  priorityStateUpdated: { locked: boolean };
  partitionChanged: { partitioned: boolean };
  hostUnresponsive: { blockedMs: number };
  /** (E) */
  stopUndone: { childId: string };
  strategyFallback: { strategy: string; why: string };
  drainCompleted: { report: DrainReport };
  hubShutdown: { reason: string };
  /** The spec as it was asked for; `intercept` may change it. */
  childDataAlter: { spec: ChildSpec; nodes: string[] };
}

/** The name of a hook. */
export type HookName = keyof HubEvents;

/** Called with the payload of each firing. What it throws or rejects with is logged and disturbs nothing. */
export type HookHandler<K extends HookName> = (payload: HubEvents[K]) => unknown;

/**
 * May change a spec before its start: gives another one, or nothing to leave it. What fails, or is late, changes
 * nothing, and `childFailed` tells.
 */
export type Interceptor = (spec: ChildSpec, nodes: readonly string[]) => InterceptorResult;
type InterceptorResult = ChildSpec | undefined | void | PromiseLike<ChildSpec | undefined | void>;

/** Handlers by the name of their hook; that of `childDataAlter` is an interceptor. */
export type HookHandlers = {
  readonly [K in Exclude<HookName, typeof INTERCEPTED>]?: HookHandler<K> | readonly HookHandler<K>[];
} & { readonly childDataAlter?: Interceptor | readonly Interceptor[] };

/** How a handler is told from the others, and its place among them. */
export interface HandlerOptions {
  /** For `off`; the same id for the same hook replaces. */
  readonly id?: string;
  /** Higher ones are called first; those of one priority in the order of registration. */
  readonly priority?: number;
}

/** The hook whose handlers may change what they see. */
export const INTERCEPTED = 'childDataAlter';

const NAMES: { readonly [K in HookName]: true } = {
  preClusterJoin: true,
  postClusterJoin: true,
  preClusterLeave: true,
  postClusterLeave: true,
  preNodesRedistribution: true,
  postNodesRedistribution: true,
  preChildrenStart: true,
  postChildrenStart: true,
  registryPidInserted: true,
  registryPidRemoved: true,
  childProcessPidUpdated: true,
  childrenMigrated: true,
  forwardedMigration: true,
  handoverConfirmed: true,
  handoverFailed: true,
  stateLost: true,
  lostOwnership: true,
  conflictResolved: true,
  childUnplaced: true,
  childFailed: true,
  childQuarantined: true,
  priorityStateUpdated: true,
  partitionChanged: true,
  hostUnresponsive: true,
  stopUndone: true,
  strategyFallback: true,
  drainCompleted: true,
  hubShutdown: true,
  childDataAlter: true,
};

/** The names of all hooks. */
export const HOOK_NAMES = Object.keys(NAMES) as readonly HookName[];

/** Whether there is a hook of this name. */
export function isHookName(name: unknown): name is HookName {
  return typeof name === 'string' && Object.hasOwn(NAMES, name);
}

/** The payload of a hook from its document. */
export function payloadOf(hook: HookName, text: string): HubEvents[HookName] {
  const payload = rename(JSON.parse(text) as object, toCamel);
  if (hook === INTERCEPTED) {
    payload['spec'] = specFromDocument(payload['spec'] as SpecDocument);
  } else if ('instances' in payload) {
    payload['instances'] = (payload['instances'] as InstanceDocument[]).map(instance);
  }
  return payload as unknown as HubEvents[HookName];
}

interface Entry {
  readonly id: string | undefined;
  readonly priority: number;
  readonly handler: Interceptor;
}

/** The interceptors of specs, in their order. */
export class Interceptors {
  #entries: readonly Entry[] = [];

  get size(): number {
    return this.#entries.length;
  }

  add(handler: Interceptor, { id, priority = 0 }: HandlerOptions): void {
    if (typeof handler !== 'function') {
      throw new InvalidArgumentError(`the handler of ${INTERCEPTED} must be a function`, { operation: 'intercept' });
    }
    const others = this.#entries.filter((entry) => id === undefined || entry.id !== id);
    this.#entries = [...others, { id, priority, handler }].sort((a, b) => b.priority - a.priority);
  }

  remove(by: string | Interceptor): void {
    this.#entries = this.#entries.filter((entry) => entry.id !== by && entry.handler !== by);
  }

  /** Lets all of them change a spec, given and returned as JSON. */
  async alter(document: string, nodes: string): Promise<string> {
    let spec = specFromDocument(JSON.parse(document) as SpecDocument);
    const names = JSON.parse(nodes) as string[];
    for (const entry of this.#entries) {
      spec = (await entry.handler(spec, names)) ?? spec;
    }
    return encodeJson(specDocument(spec), INTERCEPTED);
  }
}

/** Logs that a handler of a hook failed. */
export function logFailure(hook: string, error: unknown): void {
  log('error', `a handler of ${hook} failed: ${error instanceof Error ? error.stack : String(error)}`);
}
