/** An EventEmitter whose events are the hooks of a hub. */

import { EventEmitter } from 'node:events';

import { InvalidArgumentError } from './error-classes.js';
import { HOOK_NAMES, INTERCEPTED, Interceptors, isHookName, logFailure } from './events.js';
import type { HandlerOptions, HookHandler, HookHandlers, HookName, HubEvents, Interceptor } from './events.js';

/** The methods of Node's EventEmitter that observers use. */
export interface Emitter {
  once<K extends HookName>(hook: K, handler: HookHandler<K>): this;
  prependOnceListener<K extends HookName>(hook: K, handler: HookHandler<K>): this;
  emit(hook: string | symbol, ...values: unknown[]): boolean;
  listenerCount(hook: string | symbol): number;
  listeners(hook: string | symbol): ((...values: never[]) => unknown)[];
  rawListeners(hook: string | symbol): ((...values: never[]) => unknown)[];
  eventNames(): (string | symbol)[];
  setMaxListeners(count: number): this;
  getMaxListeners(): number;
}

/** Typed here, so that programs need no types of Node for ours. */
const Base = EventEmitter as unknown as new () => Emitter;
const plain = EventEmitter.prototype;

type Handler = (payload: never) => unknown;
/** Events of EventEmitter itself, which its helpers listen to. */
const OWN = new Set<string | symbol>(['error', 'newListener', 'removeListener']);

/** Observers and interceptors of one hub. */
export abstract class HookEmitter extends Base {
  readonly #options = new Map<HookName, Map<Handler, HandlerOptions>>();
  /** @internal */
  protected readonly interceptors = new Interceptors();

  /**
   * Calls `handler` with the payload of each firing of a hook: on the event loop, higher priority first, then in the
   * order of registration. A failing one is logged and disturbs nothing.
   */
  on<K extends HookName>(hook: K, handler: HookHandler<K>, options: HandlerOptions = {}): this {
    return this.#add(hook, handler, options, () => plain.on.call(this as never, hook, handler as never));
  }

  /** As `on`. */
  addListener<K extends HookName>(hook: K, handler: HookHandler<K>): this {
    return this.on(hook, handler);
  }

  /** As `on`, before the others of its priority. */
  prependListener<K extends HookName>(hook: K, handler: HookHandler<K>): this {
    return this.#add(hook, handler, {}, () => plain.prependListener.call(this as never, hook, handler as never));
  }

  /** Removes a handler, or the one with this id; an interceptor too. */
  off(hook: typeof INTERCEPTED, by: Interceptor | HookHandler<typeof INTERCEPTED> | string): this;
  off<K extends HookName>(hook: K, by: HookHandler<K> | string): this;
  off(hook: HookName | typeof INTERCEPTED, by: Handler | Interceptor | string): this {
    if (hook === INTERCEPTED) {
      this.interceptors.remove(by as Interceptor | string);
      this.#changed();
    }
    const handler = typeof by === 'string' ? this.#named(hook, by) : (by as Handler);
    if (handler !== undefined) {
      plain.removeListener.call(this as never, hook, handler as never);
      this.#options.get(hook)?.delete(handler);
      this.#changed();
    }
    return this;
  }

  /** As `off`. */
  removeListener<K extends HookName>(hook: K, handler: HookHandler<K>): this {
    return this.off(hook, handler);
  }

  /** Removes all handlers of a hook, or of all hooks. */
  removeAllListeners(hook?: HookName): this {
    for (const name of hook === undefined ? HOOK_NAMES : [hook]) {
      plain.removeAllListeners.call(this as never, name);
      this.#options.delete(name);
    }
    this.#changed();
    return this;
  }

  /**
   * Lets `handler` change specs before their start. It is given the spec and the names of the nodes, and returns
   * another spec, or nothing to leave it.
   */
  intercept(hook: typeof INTERCEPTED, handler: Interceptor, options: HandlerOptions = {}): this {
    if (hook !== INTERCEPTED) {
      const message = `only ${INTERCEPTED} can be intercepted, not ${String(hook)}`;
      throw new InvalidArgumentError(message, { operation: 'intercept' });
    }
    this.checkOpen('intercept');
    this.interceptors.add(handler, options);
    this.#changed();
    return this;
  }

  /** @internal Adds the handlers a hub is started with. */
  protected addHandlers(handlers: HookHandlers): void {
    for (const [hook, given] of Object.entries(handlers)) {
      for (const handler of Array.isArray(given) ? (given as unknown[]) : [given]) {
        if (hook === INTERCEPTED) {
          this.intercept(hook, handler as Interceptor);
        } else {
          this.on(hook as HookName, handler as never);
        }
      }
    }
  }

  /** @internal The hooks that have handlers, in the manner of this language. */
  protected wantedHooks(): string[] {
    const isWanted = (hook: HookName): boolean => hook === INTERCEPTED && this.interceptors.size > 0;
    return HOOK_NAMES.filter((hook) => isWanted(hook) || this.listenerCount(hook) > 0);
  }

  /** @internal Refuses handlers where nothing comes any more. */
  protected abstract checkOpen(operation: string): void;

  /** @internal Called after each change of the handlers. */
  protected abstract subscribe(hooks: string[]): void;

  /** @internal Calls the handlers of a hook, each apart from the others. */
  protected dispatch<K extends HookName>(hook: K, payload: HubEvents[K]): void {
    const options = this.#options.get(hook);
    const priority = (raw: Handler & { listener?: Handler }): number =>
      options?.get(raw.listener ?? raw)?.priority ?? 0;
    const handlers = this.rawListeners(hook) as (Handler & { listener?: Handler })[];
    for (const handler of handlers.sort((a, b) => priority(b) - priority(a))) {
      try {
        const result: unknown = Reflect.apply(handler, this, [payload]);
        void Promise.resolve(result).catch((error: unknown) => logFailure(hook, error));
      } catch (error) {
        logFailure(hook, error);
      }
    }
  }

  #add(hook: HookName, handler: unknown, options: HandlerOptions, add: () => void): this {
    if (!isHookName(hook) && !OWN.has(hook)) {
      const message = `there is no hook named ${String(hook)}: the names are ${HOOK_NAMES.join(', ')}`;
      throw new InvalidArgumentError(message, { operation: 'on' });
    }
    if (typeof handler !== 'function') {
      throw new InvalidArgumentError(`the handler of ${hook} must be a function`, { operation: 'on' });
    }
    this.checkOpen('on');
    if (options.id !== undefined) {
      this.off(hook, options.id);
    }
    add();
    if (options.id !== undefined || options.priority !== undefined) {
      const all = this.#options.get(hook) ?? new Map<Handler, HandlerOptions>();
      this.#options.set(hook, all.set(handler as Handler, options));
    }
    this.#changed();
    return this;
  }

  #named(hook: HookName, id: string): Handler | undefined {
    const entries = [...(this.#options.get(hook) ?? [])];
    return entries.find(([, options]) => options.id === id)?.[0];
  }

  #changed(): void {
    this.subscribe(this.wantedHooks());
  }
}
