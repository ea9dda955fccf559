/** The hub. */

import { documentText, hasHandover, hubDocument } from './config.js';
import type { HubOptions } from './config.js';
import type { ChildClass, Kind } from './child.js';
import { BaseHub, checkText } from './base-hub.js';
import { ClosedError, InvalidArgumentError, NotEncodableError, WouldDeadlockError } from './error-classes.js';
import { calling } from './errors.js';
import type { HookHandlers } from './events.js';
import { chainOf, readReply, runsInside } from './host.js';
import { Kinds } from './kinds.js';
import { toSnake } from './names.js';
import type { Cell, Content, NativeHub } from './native.js';
import { Node } from './node.js';
import * as results from './results.js';
import type {
  DrainReport,
  Plan,
  PlanChange,
  StartResult,
  Started,
  StopResult,
  Stopped,
  Where,
} from './results.js';
import { Hold, runtime } from './runtime.js';
import { specDocument } from './spec.js';
import type { ChildSpec } from './spec.js';
import { StrategyTable } from './strategies.js';
import type { Strategies } from './strategies.js';
import { encode, encodeJson } from './values.js';
import { checkOptions, checkSignal, toMs, waitFor } from './waiting.js';
import type { AbortSignalLike, TimeoutOptions, WaitOptions } from './waiting.js';

const CALL_MS = 5_000;
const STOP_CHILDREN_MS = 10_000;
const DRAIN_MS = 60_000;
const START_OPTIONS = ['timeoutMs', 'checkExisting', 'ifExists', 'onFailure', 'metadata', 'childMapping', 'signal'] as const;

/** Options of `startChild`. */
export interface StartChildOptions extends TimeoutOptions {
  /** ProcessHub's option; the owner decides in any case. */
  readonly checkExisting?: boolean;
  /** What to answer for an id that is already wanted: its error, or the running child. */
  readonly ifExists?: 'error' | 'return';
}

/** Options of `startChildren`. */
export interface StartChildrenOptions extends StartChildOptions {
  /** What a failed child means for the others: nothing, or they are stopped again. */
  readonly onFailure?: 'continue' | 'rollback';
  /** Keys for the metadata of specs that leave them out. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** Under `guided`: the nodes of each child, the owner first. */
  readonly childMapping?: Readonly<Record<string, readonly string[]>>;
}

/** Options of `call`. */
export interface CallOptions extends TimeoutOptions {
  /** To the instance on this node. */
  readonly node?: string;
}

/** Options of `send`. */
export interface SendOptions extends CallOptions {
  /** To every instance. */
  readonly all?: boolean;
}

/** What a hub is made of besides its document. */
interface Parts {
  readonly kinds?: HubOptions['kinds'];
  readonly node?: Node | undefined;
  readonly strategies?: Strategies | undefined;
  readonly hooks?: HookHandlers | undefined;
}

/**
 * One hub of this process. `Hub.start` starts it; `stop`, or the end of an `await using` block, gives its children
 * away and leaves. Like a listening server it keeps the process alive until then, unless `unref` says otherwise.
 *
 * Its hooks are events: `hub.on('stateLost', ({childId}) => …)`.
 */
export class Hub extends BaseHub {
  #hold: Hold | undefined;
  #stopping: Promise<DrainReport> | undefined;

  private constructor(document: Record<string, unknown>, parts: Parts) {
    super(String(document?.['hub_id'] ?? ''), new Kinds(hasHandover(document)), new StrategyTable(parts.strategies));
    for (const [name, code] of Object.entries(parts.kinds ?? {})) {
      this.kinds.register(name, code);
    }
    this.addHandlers(parts.hooks ?? {});
  }

  // --- starting and ending -----------------------------------------------------

  /** Starts a hub. */
  static async start(options: HubOptions & WaitOptions): Promise<Hub> {
    const { signal, ...rest } = options ?? {};
    return Hub.#open(hubDocument(rest as HubOptions), rest, signal);
  }

  /** Starts a hub of the configuration document that all languages share. */
  static async fromConfig(
    config: Readonly<Record<string, unknown>>,
    given?: Pick<HubOptions, 'kinds' | 'node' | 'strategies' | 'hooks'> & WaitOptions,
  ): Promise<Hub> {
    const options = checkOptions(given, 'start', 'kinds', 'node', 'strategies', 'hooks', 'signal');
    const isObject = typeof config === 'object' && config !== null && !Array.isArray(config);
    const document = isObject && options.node === undefined ? { node: {}, ...config } : config;
    return Hub.#open(document, options, options.signal);
  }

  static async #open(
    document: Record<string, unknown>,
    parts: Parts,
    signal: AbortSignalLike | undefined,
  ): Promise<Hub> {
    const text = documentText(document, 'start');
    if (parts.node !== undefined && !(parts.node instanceof Node)) {
      throw new InvalidArgumentError('`node` must be a Node', { operation: 'start' });
    }
    const hub = new Hub(document, parts);
    const node = parts.node === undefined ? null : Node.nativeOf(parts.node);
    const kinds = JSON.stringify(hub.kinds.infos());
    const strategies = JSON.stringify(hub.strategies.infos());
    const hooks = hub.wantedHooks().map(toSnake);
    const { environment } = runtime();
    const begin = (): number => calling(() => hub.native.start(environment, text, kinds, strategies, hooks, node));
    const started = runtime().work('start', undefined, begin, () => hub.#begin());
    try {
      return await waitFor('start', started, signal);
    } catch (error) {
      // Nobody gets to see a hub whose start was not waited for.
      void started.then(
        () => hub.stop().catch(() => undefined),
        () => hub.ended(),
      );
      throw error;
    }
  }

  #begin(): this {
    this.state = 'started';
    this.#hold = new Hold();
    runtime().add(this.host);
    this.host.drain();
    return this;
  }

  /** Nothing comes any more. */
  /** @internal */
  protected override ended(): void {
    runtime().remove(this.host);
    this.#hold?.end();
    this.answers.settleAll(() => new ClosedError('the hub was stopped'));
  }

  /**
   * Gives the children away, leaves and stops; later calls answer the same.
   *
   * Rejects with HubTimeoutError if the children did not end in time, and the hub is closed all the same; with
   * WouldDeadlockError in a callback of a child of this hub.
   */
  async stop(options?: TimeoutOptions): Promise<DrainReport> {
    const { timeoutMs: limit, signal } = checkOptions(options, 'stop', 'timeoutMs', 'signal');
    if (runsInside(this.host)) {
      const message = 'a callback cannot stop its own hub and wait for it';
      throw new WouldDeadlockError(message, { operation: 'stop' });
    }
    const timeoutMs = limit === undefined ? null : toMs(limit, 'timeoutMs', 'stop', 0);
    this.#stopping ??= this.#stop(timeoutMs);
    return waitFor('stop', this.#stopping, signal);
  }

  async #stop(timeoutMs: number | null): Promise<DrainReport> {
    const { environment } = runtime();
    const begin = (): number => calling(() => this.native.stop(environment, timeoutMs));
    try {
      return await runtime().work('stop', undefined, begin, results.plainDocument<DrainReport>);
    } finally {
      // Hooks of the end may still wait.
      this.host.drain();
      this.state = 'closed';
      this.ended();
    }
  }

  /** Lets the hub keep the process alive, as it does from the start. */
  ref(): this {
    this.#hold?.ref();
    return this;
  }

  /** Lets the process end although the hub runs. */
  unref(): this {
    this.#hold?.unref();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // --- children ----------------------------------------------------------------

  /** Starts one child. Done means: callable from here, now. */
  startChild(spec: ChildSpec, options?: StartChildOptions): Promise<Started> {
    return optional(this.#start('start_child', [spec], options).then(results.oneStarted));
  }

  /** Starts children; one that fails refuses none of the others. */
  startChildren(specs: readonly ChildSpec[], options?: StartChildrenOptions): Promise<StartResult> {
    return optional(this.#start('start_children', specs, options));
  }

  async #start(
    operation: string,
    specs: readonly ChildSpec[],
    given: StartChildrenOptions | undefined,
  ): Promise<StartResult> {
    const { signal, ...options } = checkOptions(given, operation, ...START_OPTIONS);
    checkSignal(operation, signal);
    if (!Array.isArray(specs)) {
      throw new InvalidArgumentError('the specs must be an array', { operation });
    }
    const hub = this.started(operation);
    const optionsText = encodeJson(startOptions(options, operation), operation);
    const written = (specs as readonly ChildSpec[]).map((spec) => this.#writeSpec(spec));
    const documents = `[${written.map(({ document }) => document).join(',')}]`;
    const args = written.map((spec) => spec.args);
    const [request, told] = calling(() => hub.startChildren(documents, args, optionsText));
    if (request === null) {
      return results.startResult(told, []);
    }
    const refused = results.refusedRows(told);
    const convert = (text: string): StartResult => results.startResult(text, refused);
    return this.answers.expect(operation, signal, () => request, convert, (begun) => hub.cancel(begun));
  }

  /** A spec without its arguments as text, and those; in their place, why one of the two has no JSON form. */
  #writeSpec(spec: ChildSpec): { document: string; args: Cell } {
    const operation = 'start_children';
    if (typeof spec !== 'object' || spec === null) {
      return { document: encodeJson(String(spec), operation), args: null };
    }
    try {
      const { args, ...rest } = spec;
      const value = this.kinds.hasCodecs ? this.kinds.encodeFor(spec.kind, args) : args;
      const content = value === undefined || value === null ? null : encode(value, operation);
      return { document: encodeJson(specDocument(rest as ChildSpec), operation), args: content };
    } catch (error) {
      if (!(error instanceof NotEncodableError)) {
        throw error;
      }
      const id = typeof spec.id === 'string' ? spec.id.toWellFormed() : null;
      return { document: JSON.stringify({ id }), args: [null, error.message] };
    }
  }

  /** Stops one child everywhere; done when its instances have ended. */
  stopChild(childId: string, options?: TimeoutOptions): Promise<Stopped> {
    const stopped = this.#stopAll('stop_child', [childId], options, results.oneStopped);
    return optional(stopped);
  }

  /** Stops children everywhere. */
  stopChildren(childIds: readonly string[], options?: TimeoutOptions): Promise<StopResult> {
    return optional(this.#stopAll('stop_children', childIds, options, results.stopResult));
  }

  async #stopAll<T>(
    operation: string,
    ids: readonly string[],
    options: TimeoutOptions | undefined,
    convert: (text: string) => T,
  ): Promise<T> {
    const { timeoutMs, signal } = checkOptions(options, operation, 'timeoutMs', 'signal');
    if (!Array.isArray(ids)) {
      throw new InvalidArgumentError('the ids must be an array', { operation });
    }
    ids.forEach((id) => checkText(id, 'childId', operation));
    const ms = toMs(timeoutMs, 'timeoutMs', operation, STOP_CHILDREN_MS);
    return this.request(operation, signal, (hub) => hub.stopChildren(ids as readonly string[], ms), convert);
  }

  // --- messages ----------------------------------------------------------------

  /**
   * Sends a message to a child, wherever it is, and gives its reply; with `node`, to the instance there.
   *
   * What `handle` throws comes as ChildFailedError; an error's `maybeExecuted` says whether the message may have been
   * handled.
   */
  async call<T = unknown>(childId: string, message?: unknown, options?: CallOptions): Promise<T> {
    const { timeoutMs, node, signal } = checkOptions(options, 'call', 'timeoutMs', 'node', 'signal');
    const [ms, content] = this.#message('call', childId, message, timeoutMs, node);
    const chain = chainOf(this.host);
    const read = readReply(this.kinds) as (content: Content) => T;
    return this.request('call', signal, (hub) => hub.call(childId, content, ms, node ?? null, chain), read);
  }

  /** Sends a message without waiting for a reply; done when it is on its way. */
  async send(childId: string, message?: unknown, options?: SendOptions): Promise<void> {
    const { timeoutMs, node, all, signal } = checkOptions(options, 'send', 'timeoutMs', 'node', 'all', 'signal');
    const [ms, content] = this.#message('send', childId, message, timeoutMs, node);
    const chain = chainOf(this.host);
    const begin = (hub: NativeHub): number => hub.send(childId, content, ms, node ?? null, all === true, chain);
    return this.request('send', signal, begin, nothing);
  }

  #message(
    operation: string,
    childId: string,
    message: unknown,
    timeoutMs: number | undefined,
    node: string | undefined,
  ): [number, Content] {
    checkText(childId, 'childId', operation);
    if (node !== undefined) {
      checkText(node, 'node', operation);
    }
    let value = message;
    if (this.kinds.hasCodecs) {
      value = this.kinds.encodeFor(this.read(operation, (hub) => hub.kindOf(childId)), message);
    }
    return [toMs(timeoutMs, 'timeoutMs', operation, CALL_MS), encode(value, operation, childId)];
  }

  // --- the cluster -------------------------------------------------------------

  /** The ids of the children on each node; `global` asks the members. */
  async whichChildren(
    scope: 'local' | 'global' = 'local',
    options?: TimeoutOptions,
  ): Promise<Record<string, string[]>> {
    const { timeoutMs, signal } = checkOptions(options, 'which_children', 'timeoutMs', 'signal');
    const read = results.plainDocument<Record<string, string[]>>;
    if (scope === 'local') {
      return read(this.read('which_children', (hub) => hub.whichChildrenLocal()));
    }
    if (scope !== 'global') {
      const message = `the scope must be local or global, not ${String(scope)}`;
      throw new InvalidArgumentError(message, { operation: 'which_children' });
    }
    const ms = toMs(timeoutMs, 'timeoutMs', 'which_children', CALL_MS);
    return this.request('which_children', signal, (hub) => hub.whichChildren(ms), read);
  }

  /** Gives every local child away, and stays a member that owns nothing. */
  async drain(options?: TimeoutOptions): Promise<DrainReport> {
    const { timeoutMs, signal } = checkOptions(options, 'drain', 'timeoutMs', 'signal');
    const ms = toMs(timeoutMs, 'timeoutMs', 'drain', DRAIN_MS);
    return this.request('drain', signal, (hub) => hub.drain(ms), results.plainDocument<DrainReport>);
  }

  /** Where a child is, and why. */
  async where(childId: string, options?: WaitOptions): Promise<Where> {
    const { signal } = checkOptions(options, 'where', 'signal');
    checkText(childId, 'childId', 'where');
    return this.request('where', signal, (hub) => hub.where(childId), results.where);
  }

  /** What would move if these nodes joined or left. Nothing is done. */
  async plan(change: PlanChange, options?: WaitOptions): Promise<Plan> {
    const { signal } = checkOptions(options, 'plan', 'signal');
    const text = encodeJson(change, 'plan');
    return this.request('plan', signal, (hub) => hub.plan(text), results.plainDocument<Plan>);
  }

  /** Done when every reachable node has what this node had written. */
  async sync(options?: TimeoutOptions): Promise<void> {
    const { timeoutMs, signal } = checkOptions(options, 'sync', 'timeoutMs', 'signal');
    const ms = toMs(timeoutMs, 'timeoutMs', 'sync', CALL_MS);
    return this.request('sync', signal, (hub) => hub.sync(ms), nothing);
  }

  /** Clears the `stateLost` of a child. */
  async acknowledgeLoss(childId: string, options?: WaitOptions): Promise<void> {
    const { signal } = checkOptions(options, 'acknowledge_loss', 'signal');
    checkText(childId, 'childId', 'acknowledge_loss');
    return this.request('acknowledge_loss', signal, (hub) => hub.acknowledgeLoss(childId), nothing);
  }

  /** Lets so many members count from now on: under `majorityQuorum` only. */
  async resetClusterSize(size: number, options?: WaitOptions): Promise<void> {
    const { signal } = checkOptions(options, 'reset_cluster_size', 'signal');
    if (!Number.isSafeInteger(size)) {
      const message = `\`size\` must be a whole number, not ${String(size)}`;
      throw new InvalidArgumentError(message, { operation: 'reset_cluster_size' });
    }
    return this.request('reset_cluster_size', signal, (hub) => hub.resetClusterSize(size), nothing);
  }

  /** Adds code that this hub can run; done when the hub counts it among its kinds. */
  async register(name: string, code: ChildClass | Kind, options?: WaitOptions): Promise<void> {
    const { signal } = checkOptions(options, 'register', 'signal');
    checkText(name, 'name', 'register');
    this.started('register');
    const info = JSON.stringify([this.kinds.register(name, code).info()]);
    return this.request('register', signal, (hub) => hub.register(info), nothing);
  }
}

/** An answer that may be left unread: its failure is no unhandled rejection. */
function optional<T>(answer: Promise<T>): Promise<T> {
  answer.catch(() => undefined);
  return answer;
}

function nothing(): void {
  return undefined;
}

function startOptions(options: Omit<StartChildrenOptions, 'signal'>, operation: string): object {
  const { timeoutMs, metadata, ...rest } = options;
  const names = Object.entries(rest).filter(([, value]) => value !== undefined);
  return {
    ...Object.fromEntries(names.map(([name, value]) => [toSnake(name), value])),
    ...(timeoutMs === undefined ? {} : { timeout_ms: toMs(timeoutMs, 'timeoutMs', operation, 0) }),
    ...(metadata === undefined ? {} : { metadata }),
  };
}
