/**
 * The configuration, as objects that become the core's one JSON document. Only what is set is passed on: the core
 * holds the defaults, checks everything, and reports all problems at once.
 */

import type { ChildClass, Kind } from './child.js';
import { InvalidArgumentError, InvalidConfigError, NotEncodableError } from './error-classes.js';
import type { HookHandlers } from './events.js';
import { rename, toSnake } from './names.js';
import type { Node } from './node.js';
import { specDocument } from './spec.js';
import type { ChildSpec } from './spec.js';
import type { Strategies } from './strategies.js';
import { encodeJson } from './values.js';

/** One tagged object of the document, with its names as they are there. */
export interface Strategy {
  readonly type: string;
  readonly [option: string]: unknown;
}

function strategy(type: string, options: object = {}): Strategy {
  return { type, ...rename(options, toSnake) };
}

/** One instance of each child. */
export function singularity(): Strategy {
  return strategy('singularity');
}

/** Several instances of each child, on different nodes. */
export function replication(
  options: {
    /** How many; `cluster_size`: one on each member of the hub. */
    replicationFactor?: number | 'cluster_size';
    /** Whether all of them are active, or one while the others stand by. */
    replicationModel?: 'active_active' | 'active_passive';
    /** Which roles `redundancySignal` is told. */
    redundancySignal?: 'none' | 'active' | 'passive' | 'all';
  } = {},
): Strategy {
  return strategy('replication', options);
}

/** Children move by stopping, then starting. */
export function coldSwap(
  options: {
    /** Whether the state goes along. */
    handover?: boolean;
    /** How long ending `run` and giving the state may take together. */
    handoverDataWaitMs?: number;
  } = {},
): Strategy {
  return strategy('cold_swap', options);
}

/** Children move by starting, handing over, then stopping. */
export function hotSwap(
  options: {
    /** Whether the state goes along. */
    handover?: boolean;
    /** How long an outgoing instance whose state was not delivered lives on. */
    retentionMs?: number;
    /** Whether `childrenMigrated` waits for `alterHandoverState`. */
    confirmHandover?: boolean;
    /** How long ending `run` and giving the state may take together. */
    handoverDataWaitMs?: number;
    /** How long the new instance may take to start. */
    childMigrationTimeoutMs?: number;
  } = {},
): Strategy {
  return strategy('hot_swap', options);
}

/** A family of which a function of the program decides: the option `strategies` of the hub. */
export function custom(options: {
  /** Under which the function is registered. */
  name: string;
  /** The built-in whose options hold, and which decides where the function gives no good answer. */
  base?: Strategy;
}): Strategy {
  return strategy('custom', options);
}

/** The registry travels as deltas to every member, and digests at an interval. */
export function pubSub(options: { syncIntervalMs?: number } = {}): Strategy {
  return strategy('pub_sub', options);
}

/** The registry travels to a few members at a time, who pass on what is new to them. */
export function gossip(
  options: {
    /** How often digests are exchanged. */
    syncIntervalMs?: number;
    /** How many members are told at a time. */
    recipients?: number;
    /** Whether only the member with the smallest name begins the exchange of digests, or each its own. */
    restrictedInit?: boolean;
  } = {},
): Strategy {
  return strategy('gossip', options);
}

/** Both sides of a partition run everything, and merge when it heals. */
export function divergence(): Strategy {
  return strategy('divergence');
}

/** Only a side with so many members runs anything. */
export function staticQuorum(options: {
  /** The members needed; less than a majority promises less. */
  quorumSize: number;
  /** Whether requests before the first quorum fail at once with `partitioned`. */
  startupConfirm?: boolean;
  /** How long a node may run children after a quorum last heard of it. */
  leaseMs?: number;
}): Strategy {
  return strategy('static_quorum', options);
}

/** Only a side with this share of the members runs anything. */
export function dynamicQuorum(options: {
  /** The share, in percent, of the members that are there or were lost lately. */
  quorumSize: number;
  /** After this time with a quorum a lost member counts no more. */
  thresholdTimeMs?: number;
  /** How long a node may run children after a quorum last heard of it. */
  leaseMs?: number;
}): Strategy {
  return strategy('dynamic_quorum', options);
}

/** Only a side with more than half of the members runs anything. */
export function majorityQuorum(options: {
  /** So many members begin a cluster together. */
  initialClusterSize: number;
  /** Whether a cluster that was larger needs more than half of its largest size. */
  trackMaxSize?: boolean;
  /** How long a node may run children after a quorum last heard of it. */
  leaseMs?: number;
}): Strategy {
  return strategy('majority_quorum', options);
}

/** Children are shared out by weighted rendezvous hashing. */
export function consistentHashing(): Strategy {
  return strategy('consistent_hashing');
}

/** Children go to the nodes that the `childMapping` of each start names. */
export function guided(
  options: {
    /** Where a child goes while a node it is mapped to cannot run it: nowhere, or where hashing says. */
    fallback?: 'wait' | 'consistent_hashing';
  } = {},
): Strategy {
  return strategy('guided', options);
}

/** Each start goes to the nodes with most capacity left, by the members' loads. */
export function loadBalanced(
  options: {
    /** How many measured loads a member's score is made of. */
    maxHistorySize?: number;
    /** What each of them counts relative to the one after it: from 0 to 1. */
    weightDecayFactor?: number;
    /** How often each member measures its load and tells the others. */
    pushIntervalMs?: number;
    /** Whether a node that joins is given its share of the children that run already. */
    nodeupRedistribution?: boolean;
  } = {},
): Strategy {
  return strategy('load_balanced', options);
}

/** The restart budget of each child; past it the child is quarantined. */
export interface RestartOptions {
  readonly maxRestarts?: number;
  readonly windowMs?: number;
  /** The first and the longest pause. */
  readonly backoffMs?: readonly [number, number];
}

/** How peers prove themselves. */
export type Security =
  | { readonly mode: 'key'; readonly keyFile: string }
  | { readonly mode: 'mtls'; readonly caFile: string; readonly certFile: string; readonly keyFile: string }
  | { readonly mode: 'insecure_plaintext' };

/** Failure detection: a name, or timers in milliseconds. */
export type Profile = 'fast' | 'lan' | 'wan' | { readonly [timer: string]: number };

/** The options of a node. */
export interface NodeOptions {
  /** Unique in the cluster; by default the host's name and a random suffix. */
  readonly name?: string;
  /** `host:port` to listen on. */
  readonly listen?: string;
  /** `host:port` that peers are told; by default the bound one. */
  readonly advertise?: string;
  /** Where other nodes may be. */
  readonly seeds?: readonly string[];
  readonly security?: Security;
  readonly labels?: Readonly<Record<string, string>>;
  /** The node's share of the children. */
  readonly weight?: number;
}

/** The options of a hub; those of its own node too, unless it is given one. */
export interface HubOptions extends NodeOptions {
  /** Hubs with the same id on connected nodes form one hub cluster. */
  readonly hubId: string;
  /** The code this hub can run: names, and classes that extend `Child`. */
  readonly kinds?: Readonly<Record<string, ChildClass | Kind>>;
  /** A node to run on instead of one of its own. */
  readonly node?: Node;
  /** Static children: ensured by every node that lists them. */
  readonly childSpecs?: readonly ChildSpec[];
  readonly redundancy?: Strategy;
  readonly migration?: Strategy;
  readonly synchronization?: Strategy;
  readonly partitionTolerance?: Strategy;
  readonly distribution?: Strategy;
  readonly restart?: RestartOptions;
  /** How often seeds are tried again. */
  readonly hubsDiscoverIntervalMs?: number;
  /** When open moves are aborted. */
  readonly deadlockRecoveryTimeoutMs?: number;
  /** One child's budget for a move. */
  readonly migrationBaseTimeoutMs?: number;
  /** How long `stop` may take. */
  readonly shutdownTimeoutMs?: number;
  /** Of no effect here: callbacks run on the event loop. */
  readonly hostThreads?: number;
  readonly profile?: Profile;
  /** The functions that decide where a strategy is `custom`: `{ migration: { mine: order } }`. */
  readonly strategies?: Strategies;
  /** Handlers by the name of their hook, which see the first events too. */
  readonly hooks?: HookHandlers;
}

type Document = Record<string, unknown>;

const NODE_OPTIONS = new Set(['name', 'listen', 'advertise', 'seeds', 'security', 'labels', 'weight']);
/** Options whose value is an object with names of ours. */
const NESTED = new Set(['security', 'restart', 'profile']);

function documentOf(options: object, accepts: (name: string) => boolean): Document {
  const document: Document = {};
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined || !accepts(name)) {
      continue;
    }
    const isNested = NESTED.has(name) && typeof value === 'object' && value !== null;
    document[toSnake(name)] = isNested ? rename(value as object, toSnake) : value;
  }
  return document;
}

/** The object `node` of the document. */
export function nodeDocument(options: NodeOptions): Document {
  return documentOf(options, () => true);
}

/** The document of these options, without what is no part of it: kinds, node object, strategies, hooks. */
export function hubDocument(options: HubOptions): Document {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidArgumentError('the options must be an object', { operation: 'start' });
  }
  const { kinds, node, strategies, hooks, childSpecs, ...rest } = options;
  const document = documentOf(rest, (name) => !NODE_OPTIONS.has(name));
  const own = documentOf(rest, (name) => NODE_OPTIONS.has(name));
  if (childSpecs !== undefined) {
    document['child_specs'] = Array.isArray(childSpecs) ? childSpecs.map(specDocument) : childSpecs;
  }
  if (node === undefined) {
    document['node'] = own;
  } else if (Object.keys(own).length > 0) {
    const message = `\`node\` is given, so these options belong to it: ${Object.keys(own).join(', ')}`;
    throw new InvalidArgumentError(message, { operation: 'start' });
  }
  return document;
}

/** The text of a document. What has no JSON form is a problem of the configuration. */
export function documentText(document: unknown, operation: string): string {
  try {
    return encodeJson(document, operation);
  } catch (error) {
    if (error instanceof NotEncodableError) {
      throw new InvalidConfigError(error.message.replace(/^\$\.?/, ''), { operation });
    }
    throw error;
  }
}

/** Whether this document has `handover` on. */
export function hasHandover(document: Document): boolean {
  // What is no document is for the core to refuse.
  return handsOver((document as Document | null)?.['migration']);
}

function handsOver(migration: unknown): boolean {
  if (typeof migration !== 'object' || migration === null) {
    return false;
  }
  const { handover, base } = migration as Document;
  return handover === true || handsOver(base);
}
