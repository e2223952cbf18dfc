/** Numbers that look random and are the same for the same seed, so that what was seen failing can be run again. */
export interface Random {
  /** 0 ≤ x < 1. */
  fraction(): number;
  /** A whole number from `least` to `most`, both included. */
  integer(least: number, most: number): number;
  pick<T>(values: readonly T[]): T;
}

/** Mulberry32: a counter stepped by a constant and mixed. */
export function createRandom(seed: number): Random {
  let counter = seed >>> 0;
  const fraction = (): number => {
    counter = (counter + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(counter ^ (counter >>> 15), counter | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  const integer = (least: number, most: number): number => least + Math.floor(fraction() * (most - least + 1));
  return {
    fraction,
    integer,
    pick: (values) => {
      const value = values[integer(0, values.length - 1)];
      if (value === undefined) throw new Error('there is nothing to pick from');
      return value;
    },
  };
}

export function createSeed(): number {
  return Math.floor(Math.random() * 2 ** 32);
}
