/** What users write (`Child`) and what a child is given (`Context`). */

import type { Hub } from './hub.js';
import type { Signal } from './waiting.js';

/** The role of an instance. */
export type Mode = 'active' | 'passive';
/** Why an instance was started. */
export type StartReason = 'initial' | 'restart' | 'migration' | 'failover';
/** Why an instance is stopped. */
export type StopReason = 'stopped' | 'migrated' | 'shutdown' | 'partitioned' | 'lost_ownership';

/** Whom a hand-over goes to, or why the new instance could not start. */
export type HandoverTarget = { readonly node: string; readonly epoch: number } | { readonly error: string };

/** What an instance knows about itself, and how it acts of its own accord. */
export interface Context {
  readonly childId: string;
  readonly kind: string;
  readonly hubId: string;
  /** The name of the node that runs this instance. */
  readonly node: string;
  /** The fencing number: rises whenever the owner of the child changes. */
  readonly epoch: number;
  /** The present role. */
  readonly mode: Mode;
  /** The metadata of the child's spec. */
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly startReason: StartReason;
  /** Whether `run` is to return, because the child is frozen or stopped. */
  readonly cancelled: boolean;
  /** Aborted when `run` is to return: for timers and requests of its body. */
  readonly signal: Signal;
  /** The hub, to call other children. */
  readonly hub: Hub;
  /** Says that the outgoing instance, kept after a hot swap, may be stopped. */
  retentionHandled(): void;
  /** Ends the instance: normally, or with a reason as a crash. */
  exit(reason?: string | Error): void;
  /** Stops the child for good: it is no longer wanted. */
  stopSelf(): void;
}

/**
 * A child: stateful callbacks that run on the node that owns it.
 *
 * Override what is needed, as methods; every one may be async. At most one callback of an instance runs at a time,
 * `run` apart, in the order in which they came. What `start` and `handle` throw is told to the caller.
 *
 * A child's state is what it keeps in `this.state`, as far as it is JSON or a `Uint8Array`: that moves with it (with
 * `handover: true`) and is named as lost when its node dies. Children without state say
 * `static stateless = true`.
 */
export class Child<State = unknown> {
  /** Whether there is nothing to hand over, and so nothing to lose. */
  static readonly stateless: boolean = false;

  declare state: State;

  /** Begins: once per instance, before anything else. */
  start(_ctx: Context, _args: unknown): unknown {
    return undefined;
  }

  /**
   * Works on its own, if overridden, after `start` and after a state came. It is to return when `ctx.signal` is
   * aborted; to return otherwise ends the instance.
   */
  run(_ctx: Context): unknown {
    return undefined;
  }

  /** Handles the message of a `call` or `send`, and returns the reply. */
  handle(_message: unknown): unknown {
    throw new Error(`${this.constructor.name} handles no messages`);
  }

  /** Takes note of the role, at start and on every change. */
  redundancySignal(_mode: Mode): unknown {
    return undefined;
  }

  /** Takes note that a hand-over begins. */
  handoverStart(_target: HandoverTarget): unknown {
    return undefined;
  }

  /** Gives the state to hand over; null or undefined for none. */
  prepareHandoverState(): unknown {
    return this.state;
  }

  /** Takes the state of the instance this one replaces. */
  alterHandoverState(state: unknown): unknown {
    this.state = state as State;
    return undefined;
  }

  /** Takes note of the state of the other side after a heal; by default keeps its own. */
  resolveConflict(_state: unknown): unknown {
    return undefined;
  }

  /** Ends: the last call of an instance. */
  stop(_reason: StopReason): unknown {
    return undefined;
  }
}

/** A class of children. */
export type ChildClass = (new () => Child<unknown>) & { readonly stateless: boolean };

/** How the values of a kind are written, in place of strict JSON. */
export interface Codec {
  /** The name of the format; the same on every node. */
  readonly contentType: string;
  /** Writes a value. */
  encode(value: unknown): Uint8Array;
  /** Reads it back. */
  decode(data: Uint8Array): unknown;
}

/** A kind with more to say than its class. */
export interface Kind {
  /** The class of its children. */
  readonly child: ChildClass;
  /** What makes a child; by default the class without arguments. */
  readonly factory?: () => Child<unknown>;
  /** How arguments, messages, replies and states are written. */
  readonly codec?: Codec;
}
