/** The types as a program has them that has no types of Node and no DOM. Compiled only. */

import * as ph from 'process-hub';
import { Child, Hub, hotSwap } from 'process-hub';
import type { Context, DrainReport, Mode, Row, Started, StopReason } from 'process-hub';

function same<T>(_: T): void {}

class Cart extends Child<string[]> {
  override start(_ctx: Context, args: string[] | null): void {
    this.state = args ?? [];
  }

  override async handle(message: string): Promise<number> {
    return this.state.push(message);
  }

  override redundancySignal(_mode: Mode): void {}
  override stop(_reason: StopReason): void {}
}

class Loop extends Child {
  static override readonly stateless = true;

  override async run(ctx: Context): Promise<void> {
    ctx.signal.addEventListener('abort', () => undefined);
    same<boolean>(ctx.cancelled);
    same<Hub>(ctx.hub);
    ctx.exit(new Error('x'));
  }
}

export async function use(): Promise<void> {
  await using hub = await Hub.start({
    hubId: 'orders',
    kinds: {
      cart: Cart,
      loop: { child: Loop, codec: { contentType: 'a/b', encode: () => new Uint8Array(), decode: (data) => data.length } },
    },
    migration: ph.custom({ name: 'mine', base: hotSwap({ handover: true, retentionMs: 3000 }) }),
    strategies: { migration: { mine: ({ moves }) => moves.map(({ id, from, to }) => (same<string>(from + to), id)) } },
    hooks: { stateLost: ({ childId, epoch }) => same<[string, number]>([childId, epoch]), drainCompleted: [() => 1] },
  });
  same<Started>(await hub.startChild({ id: 'c', kind: 'cart', args: ['sku1'] }, { timeoutMs: 5000 }));
  same<unknown>(await hub.call('c', 'sku2'));
  same<number>(await hub.call<number>('c', 'sku2', { timeoutMs: 1000, node: 'a' }));
  same<Row | null>(hub.childLookup('c'));
  same<DrainReport>(await hub.stop({ timeoutMs: 1 }));
  same<Hub>(hub.on('hostUnresponsive', ({ blockedMs }) => same<number>(blockedMs), { id: 'x', priority: 1 }));
  same<Hub>(hub.once('childUnplaced', ({ why }) => same<string>(why)));
  hub.off('childUnplaced', 'x');
  hub.intercept('childDataAlter', (spec, nodes) => ({ ...spec, args: nodes.length }));
  hub.intercept('childDataAlter', async () => undefined);
  hub.on('childDataAlter', ({ spec, nodes }) => same<string>(spec.id + nodes.join()));
  ph.setLogger((record) => same<string>(record.message), 'debug');
  ph.setLogger(null);

  same<ph.Strategies>({ migration: { later: async ({ moves }) => moves.map(({ id }) => id) } });
  // @ts-expect-error the answer is a list of ids
  same<ph.Strategies>({ migration: { mine: () => 7 } });
  // @ts-expect-error a strategy of the program has a name
  ph.custom({});
  // @ts-expect-error a duration has its unit in its name
  hotSwap({ retention: 3 });
  // @ts-expect-error the name of the document is not that of this language
  hub.on('state_lost', () => undefined);
  // @ts-expect-error a payload has what the hook says
  hub.on('stateLost', ({ why }) => why);
  // @ts-expect-error a spec needs its kind
  await hub.startChild({ id: 'c' });
  // @ts-expect-error a kind is a class of children
  await hub.register('x', class {});
  // @ts-expect-error a hub is started, not made
  new Hub({});

  try {
    await hub.call('c', 1);
  } catch (error) {
    if (error instanceof ph.HubTimeoutError) {
      same<'timeout'>(ph.HubTimeoutError.kind);
      same<string>(error.code);
      same<boolean>(error.maybeExecuted);
      same<string | undefined>(error.childId);
    }
  }
}
