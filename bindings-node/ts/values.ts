/** Values as they cross between nodes: strictly as JSON, bytes as they are. */

import { inspect, types } from 'node:util';

import { NotEncodableError } from './error-classes.js';
import type { Content } from './native.js';

/** Deepest nesting that is encoded; what the other languages read back. */
const MAX_DEPTH = 127;
/** Largest integer that every language's numbers can hold: 2^53. */
const MAX_INTEGER = 2 ** 53;
/** From here on JSON text has an exponent, and is read as a float everywhere. */
const EXPONENT_FROM = 1e21;

/**
 * Bytes with a content type that is neither JSON nor plain bytes. A kind's codec makes and reads them; a value whose
 * content type no registered kind reads is handed over as this.
 */
export class Payload {
  constructor(
    readonly data: Uint8Array,
    readonly contentType: string,
  ) {}
}

/** Why a value cannot be encoded, and where in it: steps from the faulty value outwards. */
class Fault {
  readonly #steps: string[] = [];

  constructor(readonly problem: string) {}

  inside(step: string): this {
    this.#steps.push(step);
    return this;
  }

  toString(): string {
    return `$${this.#steps.reverse().join('')}: ${this.problem}`;
  }
}

/** Writes a value. What would not come back equal is refused with its path; undefined is null. */
export function encode(value: unknown, operation: string, childId?: string): Content {
  if (typeof value === 'object') {
    if (types.isUint8Array(value)) {
      return bytes(value);
    }
    if (value instanceof Payload) {
      return [value.contentType, bytes(value.data)];
    }
  }
  return value === undefined ? 'null' : encodeJson(value, operation, childId);
}

/** JSON text of a value. */
export function encodeJson(value: unknown, operation: string, childId?: string): string {
  let problem: string;
  try {
    const fault = findFault(value, MAX_DEPTH);
    if (fault === null) {
      return JSON.stringify(value);
    }
    problem = fault.toString();
  } catch (error) {
    problem = `$: reading the value failed: ${inspect(error, { depth: 0 })}`;
  }
  throw new NotEncodableError(problem, { operation, ...(childId === undefined ? {} : { childId }) });
}

/** Memory that another thread may write to is copied before it is read. */
function bytes(value: Uint8Array): Uint8Array {
  return types.isSharedArrayBuffer(value.buffer) ? new Uint8Array(value) : value;
}

function findFault(value: unknown, depth: number): Fault | null {
  switch (typeof value) {
    case 'string':
      return value.isWellFormed() ? null : new Fault('the text holds a lone surrogate and has no UTF-8 form');
    case 'number':
      return numberFault(value);
    case 'boolean':
      return null;
    case 'object':
      if (value === null) {
        return null;
      }
      if (depth === 0) {
        return new Fault(`nested deeper than ${MAX_DEPTH} levels`);
      }
      return Array.isArray(value) ? arrayFault(value, depth - 1) : objectFault(value, depth - 1);
    case 'undefined':
      return new Fault('undefined would be left out; use null');
    case 'bigint':
      return new Fault('a bigint has no JSON form');
    case 'symbol':
    case 'function':
      return new Fault(`a ${typeof value} has no JSON form`);
  }
}

function numberFault(value: number): Fault | null {
  if (!Number.isFinite(value)) {
    return new Fault(`${value} has no JSON form`);
  }
  const size = Math.abs(value);
  if (size > MAX_INTEGER && size < EXPONENT_FROM) {
    return new Fault('the integer is past 2^53 and would not survive in every language');
  }
  return null;
}

function arrayFault(value: readonly unknown[], depth: number): Fault | null {
  for (let index = 0; index < value.length; index += 1) {
    const fault = findFault(value[index], depth);
    if (fault !== null) {
      return fault.inside(`[${index}]`);
    }
  }
  return null;
}

function objectFault(value: object, depth: number): Fault | null {
  const prototype: unknown = Object.getPrototypeOf(value);
  // The prototype of a plain object is the root of its realm.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) {
    return new Fault(refusal(value));
  }
  if (Object.getOwnPropertySymbols(value).length > 0) {
    return new Fault('a key that is a symbol has no JSON form');
  }
  for (const key of Object.keys(value)) {
    const fault = key.isWellFormed()
      ? findFault((value as Record<string, unknown>)[key], depth)
      : new Fault('the key holds a lone surrogate and has no UTF-8 form');
    if (fault !== null) {
      return fault.inside(keyStep(key));
    }
  }
  return null;
}

function refusal(value: object): string {
  if (types.isUint8Array(value) || value instanceof Payload) {
    return 'bytes are sent only as the whole value, not inside another';
  }
  return `a value of type ${value.constructor?.name || 'object'} is neither JSON nor bytes`;
}

function keyStep(key: string): string {
  return /^[\p{Alphabetic}_][\p{Alphabetic}\p{N}_]*$/u.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
}

/**
 * Reads a value. JSON that does not parse, from a broken peer, is handed over as a payload too, never as an error:
 * the child or the caller sees what arrived.
 */
export function decode(content: Content): unknown {
  if (typeof content === 'string') {
    try {
      return JSON.parse(content);
    } catch {
      return new Payload(Buffer.from(content), 'application/json');
    }
  }
  return Array.isArray(content) ? new Payload(content[1], content[0]) : content;
}
