/** Parts of the installed package that are no part of its interface. */

const entry = import.meta.resolve('process-hub');

/** A module of the package by its name. */
export function internal(name) {
  return import(new URL(`./${name}.js`, entry));
}
