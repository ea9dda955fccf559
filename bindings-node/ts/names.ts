/** Names in the manner of this language and of the documents that all languages share. */

/** `retentionMs` to `retention_ms`. */
export function toSnake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** `retention_ms` to `retentionMs`. */
export function toCamel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** The object with the names of its own keys changed, and without those that are undefined. */
export function rename(object: object, change: (name: string) => string): Record<string, unknown> {
  const given = Object.entries(object).filter(([, value]) => value !== undefined);
  return Object.fromEntries(given.map(([name, value]) => [change(name), value as unknown]));
}
