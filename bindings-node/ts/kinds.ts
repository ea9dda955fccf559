/** The kinds a hub can run. */

import { Child } from './child.js';
import type { ChildClass, Codec, Kind } from './child.js';
import { InvalidArgumentError, NotEncodableError } from './error-classes.js';
import { log } from './logs.js';
import { Payload } from './values.js';

const HANDOVER_CALLBACKS = ['handoverStart', 'prepareHandoverState', 'alterHandoverState'] as const;

/** What the host needs to know of a kind, looked up once. */
export class Registered {
  readonly make: () => Child<unknown>;
  readonly codec: Codec | undefined;
  readonly #child: ChildClass;

  constructor(
    readonly name: string,
    code: ChildClass | Kind,
  ) {
    const kind: Partial<Kind> = typeof code === 'function' ? { child: code } : (code ?? {});
    const { child, factory, codec } = kind;
    if (typeof child !== 'function' || !(child.prototype instanceof Child)) {
      const message = `the code of kind ${JSON.stringify(name)} must be a class that extends Child, or {child: …}`;
      throw new InvalidArgumentError(message, { operation: 'register' });
    }
    this.#child = child;
    this.make = factory ?? (() => new child());
    this.codec = codec;
  }

  /** Whether a method of `Child` is overridden. */
  overrides(callback: keyof Child): boolean {
    return this.#child.prototype[callback] !== Child.prototype[callback];
  }

  /** What the core needs to know. */
  info(): { name: string; has_state: boolean; has_run: boolean } {
    const hasState = !this.#child.stateless || this.overrides('prepareHandoverState');
    return { name: this.name, has_state: hasState, has_run: this.overrides('run') };
  }
}

/** The kinds of one hub, and the codecs of their values. */
export class Kinds {
  readonly #kinds = new Map<string, Registered>();
  readonly #codecs = new Map<string, Codec>();
  #hasWarned = false;

  constructor(readonly hasHandover: boolean) {}

  /** Adds a kind; warns, once, if its hand-over callbacks are never called. */
  register(name: string, code: ChildClass | Kind): Registered {
    const kind = new Registered(name, code);
    this.#kinds.set(name, kind);
    if (kind.codec !== undefined) {
      this.#codecs.set(kind.codec.contentType, kind.codec);
    }
    const unused = HANDOVER_CALLBACKS.filter((callback) => kind.overrides(callback));
    if (unused.length > 0 && !this.hasHandover && !this.#hasWarned) {
      this.#hasWarned = true;
      log(
        'warn',
        `kind ${JSON.stringify(name)} has ${unused.join(', ')}, but this hub's migration never calls it: ` +
          'set the option `handover: true` of coldSwap or hotSwap',
      );
    }
    return kind;
  }

  get(name: string): Registered | undefined {
    return this.#kinds.get(name);
  }

  get hasCodecs(): boolean {
    return this.#codecs.size > 0;
  }

  infos(): object[] {
    return [...this.#kinds.values()].map((kind) => kind.info());
  }

  /** Writes a value for a child of this kind, if the kind has a codec. */
  encodeFor(kind: string | null, value: unknown): unknown {
    const codec = kind === null ? undefined : this.#kinds.get(kind)?.codec;
    return codec === undefined ? value : encodeWith(codec, value);
  }

  /** Reads a value that no kind was given for; what nobody reads stays. */
  decode(value: unknown): unknown {
    const codec = value instanceof Payload ? this.#codecs.get(value.contentType) : undefined;
    return codec === undefined ? value : codec.decode((value as Payload).data);
  }
}

/** Writes a value with a codec. */
export function encodeWith(codec: Codec, value: unknown): Payload {
  try {
    return new Payload(codec.encode(value), codec.contentType);
  } catch (cause) {
    const message = `$: the codec ${codec.contentType} failed: ${String(cause)}`;
    throw new NotEncodableError(message, { operation: 'encode', cause });
  }
}

/** Reads a value with a codec, if it was written with it. */
export function decodeWith(codec: Codec | undefined, value: unknown): unknown {
  const isIts = codec !== undefined && value instanceof Payload && value.contentType === codec.contentType;
  return isIts ? codec.decode(value.data) : value;
}
