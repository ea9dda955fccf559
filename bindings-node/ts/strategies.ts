/**
 * Strategies of the program's own: functions that decide for a family. An answer that is late, missing or makes no
 * sense counts for nothing: the built-in decides, and the hook `strategyFallback` tells why.
 */

import { InvalidArgumentError } from './error-classes.js';
import { toSnake } from './names.js';

/** A child that is about to move, and the names of both nodes. */
export interface Move {
  readonly id: string;
  readonly from: string;
  readonly to: string;
}

/** In which order shall these moves begin? The answer: their ids, each once. */
export interface MigrationQuestion {
  readonly moves: readonly Move[];
}

/** A function that decides, at once or by a promise. */
export type Decide<Question = never, Answer = unknown> = (question: Question) => Answer | PromiseLike<Answer>;

/** The functions that decide, by their family and by the name in `custom`. */
export interface Strategies {
  readonly redundancy?: Readonly<Record<string, Decide>>;
  readonly migration?: Readonly<Record<string, Decide<MigrationQuestion, readonly string[]>>>;
  readonly partitionTolerance?: Readonly<Record<string, Decide>>;
  readonly distribution?: Readonly<Record<string, Decide>>;
}

/** The functions of one hub, by family and name. */
export class StrategyTable {
  readonly #byFamily = new Map<string, Map<string, Decide>>();

  constructor(given: Strategies | undefined) {
    for (const [family, named] of Object.entries(given ?? {})) {
      const functions = Object.entries((named ?? {}) as Record<string, unknown>);
      for (const [name, decide] of functions) {
        if (typeof decide !== 'function') {
          const message = `strategies.${family}.${name} must be a function, not ${String(decide)}`;
          throw new InvalidArgumentError(message, { operation: 'start' });
        }
      }
      this.#byFamily.set(toSnake(family), new Map(functions as [string, Decide][]));
    }
  }

  /** The families and names, as they are in the document. */
  infos(): [string, string][] {
    return [...this.#byFamily].flatMap(([family, named]) =>
      [...named.keys()].map((name): [string, string] => [family, name]),
    );
  }

  /** Asks the function of this family and name, which was registered with the hub. */
  decide(family: string, name: string, question: unknown): unknown {
    return this.#byFamily.get(family)?.get(name)?.(question as never);
  }
}
