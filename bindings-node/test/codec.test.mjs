/** Values cross as JSON, strictly, and bytes as they are. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import vm from 'node:vm';

import * as ph from 'process-hub';

import { internal } from './help/internal.mjs';

const { encode, decode } = await internal('values');

const good = [
  null,
  true,
  false,
  0,
  -1,
  2 ** 53,
  -(2 ** 53),
  1.5,
  1e300,
  5e-324,
  '',
  'text',
  'quotes " and \\ and \n and é and 🐍 and \u2028',
  [],
  {},
  [1, [2, [3]]],
  { a: { b: [null, true, 1, 'x'] } },
  JSON.parse('{"__proto__": {"polluted": true}}'),
  Object.assign(Object.create(null), { bare: 1 }),
  vm.runInNewContext('({of: ["another realm"]})'),
];

for (const value of good) {
  test(`value ${JSON.stringify(value).slice(0, 40)} encoded and decoded then equal`, () => {
    const back = decode(encode(value, 'test'));
    assert.equal(JSON.stringify(back), JSON.stringify(value));
    assert.equal({}.polluted, undefined);
  });
}

test('bytes then as they are', () => {
  for (const value of [new Uint8Array(), Buffer.from([0, 255])]) {
    assert.equal(decode(encode(value, 'test')), value);
  }
});

test('nothing then null', () => {
  assert.equal(decode(encode(undefined, 'test')), null);
});

class Thing {}
const throwing = {
  get price() {
    throw new Error('no price');
  },
};
const bad = [
  [undefined, '$.items[2].price', 'undefined', (it) => ({ items: [1, 2, { price: it }] })],
  [[1, , 3], '$[1]', 'undefined'], // eslint-disable-line no-sparse-arrays
  [NaN, '$[0]', 'NaN', (it) => [it]],
  [Infinity, '$.x', 'Infinity', (it) => ({ x: it })],
  [2 ** 53 + 2, '$[0]', '2^53', (it) => [it]],
  [-(2 ** 60), '$', '2^53'],
  [1n, '$.a', 'bigint', (it) => ({ a: it })],
  [Symbol('s'), '$', 'symbol'],
  [() => 1, '$.f', 'function', (it) => ({ f: it })],
  [new Date(0), '$["a b"]', 'Date', (it) => ({ 'a b': it })],
  [new Map(), '$', 'Map'],
  [new Thing(), '$', 'Thing'],
  [new Float64Array(1), '$', 'Float64Array'],
  [Buffer.from('x'), '$.raw', 'bytes', (it) => ({ raw: it })],
  [new ph.Payload(Buffer.from('x'), 'a/b'), '$[0]', 'bytes', (it) => [it]],
  ['\ud800', '$', 'surrogate'],
  [1, '$["\\ud800"]', 'surrogate', (it) => ({ '\ud800': it })],
  [{ [Symbol('k')]: 1 }, '$', 'symbol'],
  [throwing, '$', 'no price'],
];

for (const [value, path, why, put = (it) => it] of bad) {
  test(`value with ${why} then refused with the path ${path}`, () => {
    assert.throws(
      () => encode(put(value), 'test'),
      (error) => {
        assert.ok(error instanceof ph.NotEncodableError);
        assert.equal(error.message.split(': ')[0], path);
        assert.ok(error.message.includes(why), error.message);
        return true;
      },
    );
  });
}

test('value that holds itself then refused', () => {
  const loop = [];
  loop.push(loop);
  assert.throws(() => encode(loop, 'test'), /nested deeper/);
});

test('deep value then refused at the depth that can be read back', () => {
  const nested = (depth) => (depth === 0 ? 1 : [nested(depth - 1)]);
  assert.deepEqual(decode(encode(nested(127), 'test')), nested(127));
  assert.throws(() => encode(nested(128), 'test'), ph.NotEncodableError);
});

test('foreign content type then handed over as payload', () => {
  const payload = decode(encode(new ph.Payload(Buffer.from('x'), 'application/x-other'), 'test'));
  assert.ok(payload instanceof ph.Payload);
  assert.deepEqual([payload.contentType, payload.data.toString()], ['application/x-other', 'x']);
});

test('JSON of a broken peer then handed over as payload', () => {
  const payload = decode('{"a":');
  assert.deepEqual([payload.contentType, payload.data.toString()], ['application/json', '{"a":']);
});
