/// <reference lib="esnext.disposable" preserve="true" />
/** A hub in every instance of a service: clustered, supervised children that keep their state while they move. */

export { Child } from './child.js';
export type {
  ChildClass,
  Codec,
  Context,
  HandoverTarget,
  Kind,
  Mode,
  StartReason,
  StopReason,
} from './child.js';
export {
  coldSwap,
  consistentHashing,
  custom,
  divergence,
  dynamicQuorum,
  gossip,
  guided,
  loadBalanced,
  hotSwap,
  majorityQuorum,
  pubSub,
  replication,
  singularity,
  staticQuorum,
} from './config.js';
export type { HubOptions, NodeOptions, Profile, RestartOptions, Security, Strategy } from './config.js';
export * from './error-classes.js';
export type { ErrorFacts } from './hub-error.js';
export { HubError, RemoteError } from './hub-error.js';
export type { HandlerOptions, HookHandler, HookHandlers, HookName, HubEvents, Interceptor } from './events.js';
export { Hub } from './hub.js';
export type { CallOptions, SendOptions, StartChildOptions, StartChildrenOptions } from './hub.js';
export { setLogger } from './logs.js';
export type { LogLevel, LogRecord, Logger } from './logs.js';
export { version } from './native.js';
export { Node } from './node.js';
export type {
  ChildError,
  ChildReason,
  DebugStats,
  DrainReport,
  Plan,
  PlanChange,
  Row,
  RowInstance,
  StartResult,
  Started,
  StopResult,
  Stopped,
  Where,
} from './results.js';
export type { ChildSpec } from './spec.js';
export type { Decide, MigrationQuestion, Move, Strategies } from './strategies.js';
export { Payload } from './values.js';
export type { AbortSignalLike, Signal, TimeoutOptions, WaitOptions } from './waiting.js';
