/** The strategies of this agent (tests/agents/README.md). */

import { InvalidArgumentError } from 'process-hub';

import { write } from './lines.mjs';
import { toCamel } from './values.mjs';

const MANNERS = {
  backwards: ({ moves }) => moves.map(({ id }) => id).reverse(),
  throw: () => {
    throw new Error('no idea');
  },
  nonsense: () => 7,
  never: () => new Promise(() => undefined),
};

function strategy(hubId, family, name, how) {
  if (!Object.hasOwn(MANNERS, how)) {
    throw new InvalidArgumentError(`\`strategies\`: no such manner: ${JSON.stringify(how)}`, { operation: 'agent' });
  }
  return (question) => {
    write({ event: 'decide', hub_id: hubId, family, strategy: name, question });
    return MANNERS[how](question);
  };
}

/** The functions for families and names mapped to their manners. */
export function strategies(hubId, given) {
  const families = Object.entries(given).map(([family, of]) => {
    const named = Object.entries(of).map(([name, how]) => [name, strategy(hubId, family, name, how)]);
    return [toCamel(family), Object.fromEntries(named)];
  });
  return Object.fromEntries(families);
}
