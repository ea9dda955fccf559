/** A node that several hubs of this process share. */

import { documentText, nodeDocument } from './config.js';
import type { NodeOptions, Profile } from './config.js';
import { InvalidArgumentError } from './error-classes.js';
import { calling } from './errors.js';
import { rename, toSnake } from './names.js';
import { native } from './native.js';
import type { NativeNode } from './native.js';
import { Hold, runtime } from './runtime.js';
import { checkOptions, toMs, waitFor } from './waiting.js';
import type { TimeoutOptions, WaitOptions } from './waiting.js';

/**
 * One member of the cluster, for several hubs of this process over one port.
 *
 * A hub started with `node` does not stop it: stop the node after its hubs.
 */
export class Node {
  readonly #native: NativeNode;
  readonly #hold: Hold;
  #stopping: Promise<void> | undefined;

  private constructor(started: NativeNode) {
    this.#native = started;
    this.#hold = new Hold();
  }

  /** Listens, and begins to look for the other nodes. */
  static async start(options: NodeOptions & { readonly profile?: Profile } & WaitOptions = {}): Promise<Node> {
    if (typeof options !== 'object' || options === null) {
      throw new InvalidArgumentError('the options must be an object', { operation: 'start_node' });
    }
    const { profile, signal, ...rest } = options;
    return Node.#start(nodeDocument(rest), profile, signal);
  }

  /**
   * Starts a node of the object `node` of the configuration document; its keys `profile` and
   * `hubs_discover_interval_ms` are read here, too.
   */
  static async fromConfig(
    config: Readonly<Record<string, unknown>>,
    given?: { readonly profile?: Profile } & WaitOptions,
  ): Promise<Node> {
    const options = checkOptions(given, 'start_node', 'profile', 'signal');
    return Node.#start(config, options.profile, options.signal);
  }

  static async #start(config: object, profile: Profile | undefined, signal: WaitOptions['signal']): Promise<Node> {
    const timers = typeof profile === 'object' && profile !== null ? rename(profile, toSnake) : profile;
    // What is no document is for the core to refuse.
    const isDocument = typeof config === 'object' && config !== null && !Array.isArray(config);
    const document = isDocument && timers !== undefined ? { ...config, profile: timers } : config;
    const text = documentText(document, 'start_node');
    const made = new native.NativeNode();
    const { environment } = runtime();
    const begin = (): number => calling(() => made.start(environment, text));
    const started = runtime().work('start_node', undefined, begin, () => new Node(made));
    try {
      return await waitFor('start_node', started, signal);
    } catch (error) {
      // Nobody gets to see a node whose start was not waited for.
      void started.then((node) => node.stop()).catch(() => undefined);
      throw error;
    }
  }

  /** The node's name. */
  get name(): string {
    return calling(() => this.#native.name);
  }

  /** The `host:port` that peers are told. */
  get address(): string {
    return calling(() => this.#native.address);
  }

  /** Stops the hubs that still run on it, and leaves the cluster. Stopping again does nothing. */
  async stop(options?: TimeoutOptions): Promise<void> {
    const { timeoutMs: limit, signal } = checkOptions(options, 'stop_node', 'timeoutMs', 'signal');
    const timeoutMs = limit === undefined ? null : toMs(limit, 'timeoutMs', 'stop_node', 0);
    this.#stopping ??= this.#stop(timeoutMs);
    return waitFor('stop_node', this.#stopping, signal);
  }

  async #stop(timeoutMs: number | null): Promise<void> {
    const { environment } = runtime();
    const begin = (): number => calling(() => this.#native.stop(environment, timeoutMs));
    try {
      await runtime().work('stop_node', undefined, begin, () => undefined);
    } finally {
      this.#hold.end();
    }
  }

  /** Lets the node keep the process alive, as it does from the start. */
  ref(): this {
    this.#hold.ref();
    return this;
  }

  /** Lets the process end although the node runs. */
  unref(): this {
    this.#hold.unref();
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  /** @internal */
  static nativeOf(node: Node): NativeNode {
    return node.#native;
  }
}
