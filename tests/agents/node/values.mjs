/** Values that are no JSON, and names, as the protocol shows them. */

import { Payload } from 'process-hub';

const BYTES = 'application/octet-stream';

/** Whether a value that came out of the hub is JSON. */
export function isJson(value) {
  return !(value instanceof Uint8Array || value instanceof Payload);
}

/** A value as it appears in a reply. */
export function shown(value) {
  if (isJson(value)) return value ?? null;
  const [contentType, data] = value instanceof Payload ? [value.contentType, value.data] : [BYTES, value];
  return { content_type: contentType, base64: Buffer.from(data).toString('base64') };
}

/** The value that a request shows. */
export function given({ content_type: contentType, base64 }) {
  const data = Buffer.from(base64, 'base64');
  return contentType === BYTES ? data : new Payload(data, contentType);
}

export const toSnake = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
export const toCamel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

/** The object with the names of its own keys changed. */
export function rename(object, change) {
  return Object.fromEntries(Object.entries(object).map(([name, value]) => [change(name), value]));
}

/** A row as its document. */
export function rowDocument(row) {
  return {
    id: row.id,
    spec: rename(row.spec, toSnake),
    metadata: row.metadata,
    instances: row.instances.map((instance) => rename(instance, toSnake)),
    state_lost: row.stateLost,
  };
}

/** The answer of `where` as its document. */
export function whereDocument(where) {
  return {
    ...rename(where, toSnake),
    rows: where.rows === null ? null : rowDocument(where.rows),
    last_moves: where.lastMoves.map((move) => rename(move, toSnake)),
  };
}

/** The document of an error. */
export function errorDocument(error) {
  const { kind, number: code, operation, message, childId, node, maybeExecuted, cause } = error;
  return {
    kind,
    code,
    operation,
    message,
    child_id: childId ?? null,
    node: node ?? null,
    maybe_executed: maybeExecuted,
    trace: cause?.name === 'RemoteError' ? cause.stack : null,
  };
}
