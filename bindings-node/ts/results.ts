/** What operations answer. */

import type { Mode } from './child.js';
import { fromDocument } from './errors.js';
import type { HubError } from './hub-error.js';
import { rename, toCamel } from './names.js';
import { specFromDocument } from './spec.js';
import type { ChildSpec, SpecDocument } from './spec.js';

/** A child that runs and can be called from here, now. */
export interface Started {
  readonly id: string;
  readonly instances: readonly { readonly node: string; readonly epoch: number }[];
}

/** A child that was stopped everywhere, and the nodes that ran it. */
export interface Stopped {
  readonly id: string;
  readonly nodes: readonly string[];
}

/** Why one child of a request failed. */
export interface ChildError {
  /** Null where the spec had none. */
  readonly id: string | null;
  readonly node: string | null;
  readonly kind: string;
  readonly message: string;
}

/** One child and a reason. */
export interface ChildReason {
  readonly id: string;
  readonly why: string;
}

/** What became of each local child in `drain` and `stop`. */
export interface DrainReport {
  /** Moved with what state they had. */
  readonly moved: readonly string[];
  /** Running elsewhere, without their state. */
  readonly restarted: readonly ChildReason[];
  /** Stopped here and running nowhere. */
  readonly stopped: readonly string[];
  /** Still here, or lost. */
  readonly failed: readonly ChildReason[];
}

/** One instance in a `Row`. */
export interface RowInstance {
  readonly node: string;
  readonly mode: Mode;
  readonly epoch: number;
  /** Unix milliseconds. */
  readonly sinceMs: number;
}

/** What the registry knows of one child. */
export interface Row {
  readonly id: string;
  readonly spec: ChildSpec;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly instances: readonly RowInstance[];
  /** That the child was restarted without the state it had. */
  readonly stateLost: { readonly epoch: number; readonly version: number } | null;
}

/** Where a child is, and why. */
export interface Where {
  readonly id: string;
  readonly owner: string | null;
  readonly placement: readonly string[];
  readonly rows: Row | null;
  readonly moving: { readonly from: string; readonly to: string; readonly step: string } | null;
  readonly unplaced: string | null;
  readonly lastMoves: readonly {
    readonly atMs: number;
    readonly from: string;
    readonly to: string;
    readonly why: string;
  }[];
}

/** A change of the members to plan for. */
export type PlanChange =
  | { readonly join: readonly { readonly name: string; readonly kinds: readonly string[]; readonly weight?: number }[] }
  | { readonly leave: readonly string[] };

/** What would move. */
export interface Plan {
  readonly moves: readonly { readonly id: string; readonly from: string; readonly to: string }[];
}

/** Counts of what this process holds. */
export interface DebugStats {
  readonly hubs: number;
  readonly children: number;
  readonly instances: number;
  readonly threads: number;
  readonly handles: number;
  readonly descriptors: number;
  readonly queuedBytes: number;
}

/** The result of `startChildren`: which children run, and why others do not. */
export class StartResult {
  constructor(
    readonly started: readonly Started[],
    readonly errors: readonly ChildError[],
    /** Whether the started ones were stopped again because of the errors. */
    readonly rollback: boolean,
  ) {}

  /** `ok` if every child runs. */
  get status(): 'ok' | 'error' {
    return this.errors.length === 0 ? 'ok' : 'error';
  }

  /** Throws the error of the first child that failed, if one did. */
  raiseForErrors(): this {
    raiseFirst(this.errors, 'start_children');
    return this;
  }

  toJSON(): object {
    return { status: this.status, started: this.started, errors: this.errors, rollback: this.rollback };
  }
}

/** The result of `stopChildren`. */
export class StopResult {
  constructor(
    readonly stopped: readonly Stopped[],
    readonly errors: readonly ChildError[],
  ) {}

  /** `ok` if every child ended. */
  get status(): 'ok' | 'error' {
    return this.errors.length === 0 ? 'ok' : 'error';
  }

  /** Throws the error of the first child that failed, if one did. */
  raiseForErrors(): this {
    raiseFirst(this.errors, 'stop_children');
    return this;
  }

  toJSON(): object {
    return { status: this.status, stopped: this.stopped, errors: this.errors };
  }
}

function errorOf(error: ChildError, operation: string, more = 0): HubError {
  const message = more > 0 ? `${error.message} (and ${more} more)` : error.message;
  return fromDocument({ kind: error.kind, operation, message, child_id: error.id, node: error.node });
}

function raiseFirst(errors: readonly ChildError[], operation: string): void {
  const [first] = errors;
  if (first !== undefined) {
    throw errorOf(first, operation, errors.length - 1);
  }
}

/** The rows of children that were refused before they reached the hub. */
export function refusedRows(text: string): ChildError[] {
  return JSON.parse(text) as ChildError[];
}

/** The result of `startChildren` from its document, with what was refused before. */
export function startResult(text: string, refused: readonly ChildError[]): StartResult {
  const document = JSON.parse(text) as { started: Started[]; errors: ChildError[]; rollback: boolean };
  return new StartResult(document.started, [...refused, ...document.errors], document.rollback);
}

/** The only child of a request, or its error. */
export function oneStarted(result: StartResult): Started {
  return one(result.started, result.errors, 'start_child');
}

/** The result of `stopChildren` from its document. */
export function stopResult(text: string): StopResult {
  const document = JSON.parse(text) as { stopped: Stopped[]; errors: ChildError[] };
  return new StopResult(document.stopped, document.errors);
}

/** The only child of a request, or its error. */
export function oneStopped(text: string): Stopped {
  const result = stopResult(text);
  return one(result.stopped, result.errors, 'stop_child');
}

function one<T>(done: readonly T[], errors: readonly ChildError[], operation: string): T {
  const [failure] = errors;
  const [first] = done;
  if (failure !== undefined || first === undefined) {
    throw errorOf(failure ?? { id: null, node: null, kind: 'internal', message: 'an answer without a child' }, operation);
  }
  return first;
}

/** An instance as the core writes it. */
export interface InstanceDocument extends Omit<RowInstance, 'sinceMs'> {
  readonly since_ms: number;
}

/** The instance of a document. */
export function instance({ node, mode, epoch, since_ms: sinceMs }: InstanceDocument): RowInstance {
  return { node, mode, epoch, sinceMs };
}

/** A row as the core writes it. */
export interface RowDocument extends Omit<Row, 'spec' | 'instances' | 'stateLost'> {
  readonly spec: SpecDocument;
  readonly instances: readonly InstanceDocument[];
  readonly state_lost: Row['stateLost'];
}

/** The row of a document. */
export function row({ id, spec, metadata, instances, state_lost: stateLost }: RowDocument): Row {
  return { id, spec: specFromDocument(spec), metadata, instances: instances.map(instance), stateLost };
}

/** The rows of a list of documents. */
export function rows(text: string): Row[] {
  return (JSON.parse(text) as RowDocument[]).map(row);
}

/** The answer of `where` from its document. */
export function where(text: string): Where {
  const { rows: known, last_moves: moves, ...rest } = JSON.parse(text) as {
    rows: RowDocument | null;
    last_moves: object[];
  };
  return {
    ...rest,
    rows: known === null ? null : row(known),
    lastMoves: moves.map((move) => rename(move, toCamel)),
  } as unknown as Where;
}

/** Reads any document whose names are the same in every language. */
export function plainDocument<T>(text: string): T {
  return JSON.parse(text) as T;
}

/** The counts of a document. */
export function debugStats(text: string, instances: number): DebugStats {
  return { ...(rename(JSON.parse(text) as object, toCamel) as unknown as DebugStats), instances };
}
