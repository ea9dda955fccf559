/** The base of the errors of process-hub. */

/** The facts of an error. */
export interface ErrorFacts {
  /** The operation that failed, such as `start_children`. */
  readonly operation?: string;
  readonly childId?: string | undefined;
  readonly node?: string | undefined;
  readonly maybeExecuted?: boolean;
  /** The stack trace of the host code that failed, as text; it becomes the cause. */
  readonly trace?: string | undefined;
  readonly cause?: unknown;
}

/** Host code that failed on the node that ran it; the cause of a HubError. Its stack is the remote one. */
export class RemoteError extends Error {
  constructor(trace: string) {
    super(trace.split('\n', 1)[0]);
    this.name = 'RemoteError';
    this.stack = trace;
  }
}

/** Anything a hub refuses or fails at. */
export class HubError extends Error {
  /** Name of the kind of error, the same in every language. */
  static readonly kind: string = 'internal';
  /** Its fixed number. */
  static readonly number: number = 9004;

  /** Name of the kind of error, the same in every language. */
  readonly kind: string;
  /** The kind's fixed number. */
  readonly number: number;
  /** `ERR_PROCESS_HUB_` and the kind in capitals. */
  readonly code: string;
  /** The operation that failed. */
  readonly operation: string;
  /** The child concerned, where there is one. */
  readonly childId: string | undefined;
  /** The node concerned, where there is one. */
  readonly node: string | undefined;
  /** For `call` and `send`: whether the message may have been handled. */
  readonly maybeExecuted: boolean;

  constructor(message: string, facts: ErrorFacts = {}) {
    const cause = facts.trace === undefined ? facts.cause : new RemoteError(facts.trace);
    super(message, cause === undefined ? {} : { cause });
    const { kind, number } = new.target;
    this.name = new.target.name;
    this.kind = kind;
    this.number = number;
    this.code = `ERR_PROCESS_HUB_${kind.toUpperCase()}`;
    this.operation = facts.operation ?? '';
    this.childId = facts.childId;
    this.node = facts.node;
    this.maybeExecuted = facts.maybeExecuted ?? false;
  }
}
