/**
 * The host of a hub: takes what the core needs in batches, runs user code on the event loop, and completes it.
 *
 * Nothing here waits or blocks. What a callback throws completes its call as failed; a promise completes it later.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { inspect, types } from 'node:util';

import type { Child, HandoverTarget, Mode, StopReason } from './child.js';
import { NotEncodableError } from './error-classes.js';
import { calling, fromText } from './errors.js';
import { HubError } from './hub-error.js';
import type { Hub } from './hub.js';
import { Instance, InstanceContext } from './instance.js';
import type { StartFacts } from './instance.js';
import * as items from './items.js';
import type { Kinds } from './kinds.js';
import { log } from './logs.js';
import type { Cell, Content, NativeHub } from './native.js';
import { guarded } from './runtime.js';
import type { StrategyTable } from './strategies.js';
import { decode, encode } from './values.js';

/** Most items of one batch. */
const BATCH = 64;
/** After so many the loop gets to do other things. */
const MAX_ITEMS = 4 * BATCH;
const MAX_TRACE_CHARACTERS = 16_384;

/** In which callback the present code runs. */
interface Current {
  readonly host: Host;
  /** The children that wait for it, outermost first; empty where none does. */
  chain: readonly string[];
}

const current = new AsyncLocalStorage<Current>();

/** What a host tells the hub. */
export interface HostEvents {
  completed(request: number, error: unknown, value: Cell): void;
  hook(name: string, payload: string): void;
  alter(spec: string, nodes: string): Promise<string>;
  closed(): void;
}

type Callback = keyof Child & string;
type Finish = (instance: Instance, result: unknown) => Content | null;

const withoutValue: Finish = () => null;
const withReply: Finish = (instance, result) => instance.encode(result);
const withState: Finish = (instance, result) =>
  result === undefined || result === null ? null : instance.encode(result);

/** The children whose calls led to the present code, for calls made from here on this hub. */
export function chainOf(host: Host): string[] | null {
  const store = current.getStore();
  return store === undefined || store.host !== host || store.chain.length === 0 ? null : [...store.chain];
}

/** Whether the present code is a callback of this hub that has not ended. */
export function runsInside(host: Host): boolean {
  const store = current.getStore();
  return store !== undefined && store.host === host && store.chain !== ENDED;
}

/** The chain of a callback that ended: what it left behind is outside. */
const ENDED: readonly string[] = [];
/** The chain of a callback that no child waits for. */
const NOBODY: readonly string[] = [];

/** Runs the callbacks of one hub. */
export class Host {
  readonly #native: NativeHub;
  readonly #kinds: Kinds;
  readonly #strategies: StrategyTable;
  readonly #events: HostEvents;
  readonly #instances = new Map<number, Instance>();
  /** Number and content of calls that ended and were not told yet. */
  #completions: Cell[] = [];
  #nodeName: string | undefined;
  #isDraining = false;
  #isClosed = false;
  #isAgain = false;

  constructor(
    readonly hub: Hub,
    native: NativeHub,
    kinds: Kinds,
    strategies: StrategyTable,
    events: HostEvents,
  ) {
    this.#native = native;
    this.#kinds = kinds;
    this.#strategies = strategies;
    this.#events = events;
  }

  /** The name of the node, which a closed hub still knows. */
  get nodeName(): string {
    this.#nodeName ??= this.#native.nodeName;
    return this.#nodeName;
  }

  get instanceCount(): number {
    return this.#instances.size;
  }

  /** Takes what waits and does it, with a pause for the event loop when there is much. */
  drain(): void {
    if (this.#isDraining || this.#isClosed) {
      return;
    }
    this.#isDraining = true;
    try {
      // Under a lease a batch may be as short as one call.
      for (let taken = 0; taken < MAX_ITEMS; ) {
        const cells = this.#native.turn(this.#takeCompletions(), BATCH);
        if (cells.length === 0) {
          return;
        }
        for (let at = 0; at < cells.length && !this.#isClosed; at += items.WIDTH) {
          this.#perform(cells, at);
        }
        taken += cells.length / items.WIDTH;
        if (this.#isClosed) {
          return;
        }
      }
      this.#again();
    } finally {
      this.#isDraining = false;
    }
  }

  /** Drains in a later turn of the event loop. */
  #again(): void {
    if (!this.#isAgain) {
      this.#isAgain = true;
      setImmediate(() => {
        this.#isAgain = false;
        guarded(() => this.drain());
      });
    }
  }

  /** Tells what an instance does of its own accord. */
  tell(instance: number, what: string, reason: string | null): void {
    calling(() => this.#native.instanceEvent(instance, what, reason));
  }

  #takeCompletions(): Cell[] {
    const completions = this.#completions;
    if (completions.length > 0) {
      this.#completions = [];
    }
    return completions;
  }

  #complete(number: number, content: Cell): void {
    const isFirst = this.#completions.length === 0;
    this.#completions.push(number, content);
    if (isFirst && !this.#isDraining) {
      queueMicrotask(() => guarded(() => this.#flush()));
    }
  }

  #flush(): void {
    if (this.#completions.length > 0 && !this.#isClosed) {
      this.#native.turn(this.#takeCompletions(), 0);
    }
  }

  #fail(number: number, error: unknown): void {
    this.#complete(number, [null, ...describe(error)]);
  }

  // --- one item ----------------------------------------------------------------

  #perform(cells: readonly Cell[], at: number): void {
    const operation = cells[at] as number;
    const number = cells[at + 1] as number;
    try {
      this.#dispatch(operation, number, cells[at + 2] as number, cells[at + 3], cells[at + 4]);
    } catch (error) {
      if (operation > items.LAST_CALL) {
        // Answers and hooks have numbers of their own, or none.
        log('error', `a fault of process-hub: ${String(error)}`);
      } else {
        this.#fail(number, error);
      }
    }
  }

  #dispatch(operation: number, number: number, key: number, first: unknown, second: unknown): void {
    switch (operation) {
      case items.HANDLE:
        return this.#handle(number, key, first as Content, second as string | null);
      case items.COMPLETED:
        return this.#events.completed(number, first === null ? null : fromText(first as string), second as Cell);
      case items.START:
        return this.#start(number, key, first as StartFacts, second as Content);
      case items.RUN:
        return this.#run(number, key);
      case items.CANCEL_RUN:
        this.#instances.get(key)?.context.cancelRun();
        return this.#complete(number, null);
      case items.PREPARE_STATE:
        return this.#call(number, key, 'prepareHandoverState', [], withState);
      case items.ALTER_STATE:
        return this.#callWith(number, key, 'alterHandoverState', first as Content);
      case items.RESOLVE_CONFLICT:
        return this.#callWith(number, key, 'resolveConflict', first as Content);
      case items.REDUNDANCY_SIGNAL: {
        const mode = first as Mode;
        this.#instances.get(key)?.context.setMode(mode);
        return this.#call(number, key, 'redundancySignal', [mode]);
      }
      case items.HANDOVER_START:
        return this.#call(number, key, 'handoverStart', [JSON.parse(first as string) as HandoverTarget]);
      case items.SET_ROLE: {
        const context = this.#instances.get(key)?.context;
        context?.setEpoch(first as number);
        context?.setMode(second as Mode);
        return this.#complete(number, null);
      }
      case items.STOP:
        try {
          return this.#call(number, key, 'stop', [JSON.parse(first as string) as StopReason]);
        } finally {
          this.#instances.delete(key);
        }
      case items.DISCARD:
        this.#instances.get(key)?.context.cancelRun();
        this.#instances.delete(key);
        return this.#complete(number, null);
      case items.ALTER_SPEC:
        return this.#alter(number, first as string, second as string);
      case items.DECIDE:
        return this.#decide(number, first as string, second as string);
      case items.HOOK:
        return this.#events.hook(first as string, second as string);
      case items.NOTHING:
        return undefined;
      case items.CLOSED:
        this.#isClosed = true;
        return this.#events.closed();
      default:
        throw new Error(`there is no operation ${operation}: the native half is of another version`);
    }
  }

  #start(number: number, key: number, start: StartFacts, args: Content): void {
    const [childId, name] = start;
    const kind = this.#kinds.get(name);
    if (kind === undefined) {
      throw new Error(`kind ${JSON.stringify(name)} is not registered here`);
    }
    const context = new InstanceContext(this, key, start);
    const child = current.run({ host: this, chain: [childId] }, kind.make);
    const instance = new Instance(child, context, kind);
    this.#instances.set(key, instance);
    try {
      this.#call(number, key, 'start', [context, instance.decode(args)]);
    } catch (error) {
      this.#instances.delete(key);
      throw error;
    }
  }

  #handle(number: number, key: number, message: Content, chain: string | null): void {
    const instance = this.#known(key);
    const outer = chain === null ? [] : (JSON.parse(chain) as string[]);
    this.#call(number, key, 'handle', [instance.decode(message)], withReply, [...outer, instance.context.childId]);
  }

  #callWith(number: number, key: number, callback: Callback, content: Content): void {
    this.#call(number, key, callback, [this.#known(key).decode(content)]);
  }

  #known(key: number): Instance {
    const instance = this.#instances.get(key);
    if (instance === undefined) {
      throw new Error('no such instance here');
    }
    return instance;
  }

  /** Calls a callback and completes its number, now or when its promise is settled. */
  #call(
    number: number,
    key: number,
    callback: Callback,
    values: readonly unknown[],
    finish: Finish = withoutValue,
    chain?: readonly string[],
  ): void {
    const instance = this.#known(key);
    const store: Current = { host: this, chain: chain ?? [instance.context.childId] };
    const method = instance.child[callback] as (...values: readonly unknown[]) => unknown;
    let result: unknown;
    try {
      result = current.run(store, () => Reflect.apply(method, instance.child, values));
    } catch (error) {
      store.chain = ENDED;
      throw error;
    }
    if (!isPromiseLike(result)) {
      store.chain = ENDED;
      this.#complete(number, finish(instance, result));
      return;
    }
    void Promise.resolve(result)
      .then((value) => this.#complete(number, finish(instance, value)))
      .catch((error: unknown) => {
        if (callback === 'start') {
          this.#instances.delete(key);
        }
        this.#fail(number, error);
      })
      .finally(() => {
        store.chain = ENDED;
      });
  }

  #run(number: number, key: number): void {
    const instance = this.#known(key);
    const signal = instance.context.beginRun();
    const store: Current = { host: this, chain: NOBODY };
    const body = async (): Promise<void> => {
      try {
        await instance.child.run(instance.context);
      } catch (error) {
        if (!signal.aborted || !isAbort(error, signal)) {
          this.#fail(number, error);
          return;
        }
      } finally {
        store.chain = ENDED;
      }
      this.#complete(number, null);
    };
    void current.run(store, body);
  }

  /** Has a strategy decide, now or by its promise. */
  #decide(number: number, strategy: string, question: string): void {
    const decide = async (): Promise<unknown> => {
      const [family, name] = JSON.parse(strategy) as [string, string];
      return this.#strategies.decide(family, name, JSON.parse(question));
    };
    void current.run({ host: this, chain: NOBODY }, () =>
      decide()
        .then((answer) => this.#complete(number, encode(answer, 'decide')))
        .catch((error: unknown) => this.#fail(number, error)),
    );
  }

  #alter(number: number, spec: string, nodes: string): void {
    void current.run({ host: this, chain: NOBODY }, () =>
      this.#events.alter(spec, nodes).then(
        (altered) => this.#complete(number, altered),
        (error: unknown) => this.#fail(number, error),
      ),
    );
  }
}

function isPromiseLike(value: unknown): value is PromiseLike<unknown> {
  return types.isPromise(value) || typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}

/** Whether an error says no more than that the signal was followed. */
function isAbort(error: unknown, signal: AbortSignal): boolean {
  return error === signal.reason || (error instanceof Error && error.name === 'AbortError');
}

/** Message, trace and kind of a failure of user code. */
function describe(error: unknown): [string, string | null, string | null] {
  try {
    if (!types.isNativeError(error)) {
      return [`a value that is no Error was thrown: ${inspect(error, { depth: 1 })}`, null, null];
    }
    const kind = error instanceof HubError ? ` (${error.kind})` : '';
    const message = (error.message === '' ? error.name : `${error.name}: ${error.message}`) + kind;
    const trace = String(error.stack ?? message).slice(0, MAX_TRACE_CHARACTERS);
    return [message.toWellFormed(), trace.toWellFormed(), error instanceof NotEncodableError ? error.kind : null];
  } catch (failure) {
    log('warn', `an error of a callback could not be read: ${String(failure)}`);
    return ['an error that cannot be read was thrown', null, null];
  }
}

/** Reads the reply of a call: JSON, bytes, or what another codec wrote. */
export function readReply(kinds: Kinds): (content: Content) => unknown {
  return (content) => kinds.decode(decode(content));
}
