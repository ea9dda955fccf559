/** Errors of the core as ours. */

import { ERRORS } from './error-classes.js';
import { HubError } from './hub-error.js';

/** An error of the core as its JSON document. */
interface ErrorDocument {
  kind: string;
  operation: string;
  message: string;
  child_id?: string | null;
  node?: string | null;
  maybe_executed?: boolean;
  trace?: string | null;
}

/** The error of a document of the core; a kind that a newer core added is a plain HubError. */
export function fromDocument(document: ErrorDocument): HubError {
  const found = ERRORS.find((candidate) => candidate.kind === document.kind) ?? HubError;
  return new found(document.message, {
    operation: document.operation,
    childId: document.child_id ?? undefined,
    node: document.node ?? undefined,
    maybeExecuted: document.maybe_executed ?? false,
    trace: document.trace ?? undefined,
  });
}

/** The error of the JSON text of a document. */
export function fromText(text: string): HubError {
  return fromDocument(JSON.parse(text) as ErrorDocument);
}

/** What a call of the native half threw, as our error. */
export function fromThrown(thrown: unknown): unknown {
  if (thrown instanceof HubError || !(thrown instanceof Error)) {
    return thrown;
  }
  try {
    return fromText(thrown.message);
  } catch {
    return thrown;
  }
}

/** Calls the native half; what it throws becomes ours. */
export function calling<T>(work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    throw fromThrown(thrown);
  }
}
