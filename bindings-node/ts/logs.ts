/** What the core and this package log, on its way to the program's logger. */

import type { Cell } from './native.js';

/** From the most to the least telling. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error';

/** One record. */
export interface LogRecord {
  readonly level: LogLevel;
  /** Which part of the library it comes from, such as `process_hub::net`. */
  readonly target: string;
  readonly message: string;
  /** Unix milliseconds. */
  readonly atMs: number;
}

/** Gets records; `console`, pino and winston have these methods too. */
export interface Logger {
  debug(message: string): void;
  info(message: string): void;
  warn(message: string): void;
  error(message: string): void;
}

const LEVELS: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error'];
const TARGET = 'process_hub::node';

type Sink = (record: LogRecord) => void;

/** Without a logger, warnings and errors of the library become warnings of the process. */
function warnProcess(record: LogRecord): void {
  process.emitWarning(record.message, { type: 'ProcessHubWarning', detail: record.target });
}

let sink: Sink | null = warnProcess;
let lowest = LEVELS.indexOf('warn');
let onLevel: (level: number) => void = () => undefined;

/**
 * Sets where records of this thread go: a logger such as `console`, a function that gets each record, or null for
 * nowhere. `level` is the lowest that is told, `warn` by default.
 */
export function setLogger(logger: Logger | Sink | null, level: LogLevel = 'warn'): void {
  lowest = LEVELS.indexOf(level);
  if (logger === null || typeof logger === 'function') {
    sink = logger;
  } else {
    sink = ({ level: of, target, message }) => {
      logger[of === 'trace' ? 'debug' : of](`${target}: ${message}`);
    };
  }
  onLevel(nativeLevel());
}

/** The level as the native half counts, from one; zero for none. */
export function nativeLevel(): number {
  return sink === null ? 0 : lowest + 1;
}

/** Sets who is told of a change of the level. */
export function followLevel(follow: (level: number) => void): void {
  onLevel = follow;
  follow(nativeLevel());
}

/** Tells a record of this package. */
export function log(level: LogLevel, message: string): void {
  tell({ level, target: TARGET, message, atMs: Date.now() });
}

/** Tells records of the native half: four cells each. */
export function tellRecords(cells: readonly Cell[]): void {
  for (let at = 0; at + 3 < cells.length; at += 4) {
    const level = LEVELS[Number(cells[at]) - 1] ?? 'error';
    tell({ level, target: String(cells[at + 1]), message: String(cells[at + 2]), atMs: Number(cells[at + 3]) });
  }
}

function tell(record: LogRecord): void {
  if (sink === null || LEVELS.indexOf(record.level) < lowest) {
    return;
  }
  try {
    sink(record);
  } catch (error) {
    process.emitWarning(`the logger of process-hub failed: ${String(error)}`, { type: 'ProcessHubWarning' });
  }
}
