/** The shapes of tests/vectors/results.json, with the names in the manner of this language. */

const BASIC = {
  any: () => true,
  text: (value) => typeof value === 'string',
  number: (value) => typeof value === 'number',
  boolean: (value) => typeof value === 'boolean',
  null: (value) => value === null,
};

const toCamel = (name) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());

/** Says where a value differs from a shape; nothing where it does not. */
export function difference(shapes, shape, value, path = '$') {
  if (typeof shape === 'string') {
    if (shape.includes(' | ')) {
      const differences = shape.split(' | ').map((one) => difference(shapes, one, value, path));
      return differences.includes(undefined) ? undefined : differences[0];
    }
    if (!(shape in BASIC)) return difference(shapes, shapes[shape], value, path);
    return BASIC[shape](value) ? undefined : `${path}: ${JSON.stringify(value)} is no ${shape}`;
  }
  if (Array.isArray(shape)) {
    if (!Array.isArray(value)) return `${path}: ${JSON.stringify(value)} is no list`;
    return first(value.map((item, at) => [shape[0], item, `${path}[${at}]`]));
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return `${path}: ${JSON.stringify(value)} is no object`;
  }
  if ('*' in shape) return first(Object.entries(value).map(([key, item]) => [shape['*'], item, `${path}.${key}`]));
  const wanted = Object.keys(shape).map(toCamel).sort();
  const found = Object.keys(value).sort();
  if (wanted.join() !== found.join()) return `${path}: the keys are ${found}, not ${wanted}`;
  return first(Object.entries(shape).map(([key, one]) => [one, value[toCamel(key)], `${path}.${toCamel(key)}`]));

  function first(parts) {
    return parts.map((part) => difference(shapes, ...part)).find((found) => found !== undefined);
  }
}
