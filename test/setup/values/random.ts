// Room `values`: generated and odd values. It imports nothing from other rooms.

/** Draws pseudo-random numbers. The same seed gives the same numbers, so that a failure can be repeated. */
export interface Random {
  /** Returns a number from 0 up to but excluding 1. */
  fraction(): number;
  /** Returns a whole number from `min` to `max`, both included. */
  integer(min: number, max: number): number;
  pick<T>(values: readonly T[]): T;
}

/** Implements Mulberry32, which steps a counter by a constant and mixes its bits. */
export function createRandom(seed: number): Random {
  let counter = seed >>> 0;
  const fraction = (): number => {
    counter = (counter + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(counter ^ (counter >>> 15), counter | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (min: number, max: number): number => min + Math.floor(fraction() * (max - min + 1));
  return {
    fraction,
    integer,
    pick: (values) => {
      const value = values[integer(0, values.length - 1)];
      if (value === undefined) throw new Error('cannot pick from an empty list');
      return value;
    },
  };
}
