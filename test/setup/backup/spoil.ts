/** Removes a member from `value` and returns `value`. */
export function without(value: object, member: string): object {
  Reflect.deleteProperty(value, member);
  return value;
}

export type Path = (string | number)[];

/** Returns the path of each scalar in a value. */
export function scalarsOf(value: unknown, path: Path): Path[] {
  if (Array.isArray(value)) return value.flatMap((element, index) => scalarsOf(element, [...path, index]));
  if (typeof value !== 'object' || value === null) return [path];
  return Object.entries(value).flatMap(([name, member]) => scalarsOf(member, [...path, name]));
}

/** Replaces a scalar with a similar value of the same type. */
export function change(target: object, path: Path): void {
  const last = path.at(-1) ?? '';
  const holder = path.slice(0, -1).reduce<object>((one, step) => Reflect.get(one, step), target);
  const old: unknown = Reflect.get(holder, last);
  Reflect.set(holder, last, other(old));
}

function other(value: unknown): unknown {
  if (typeof value === 'number') return value + 1 === value ? value * 2 : value + 1;
  if (typeof value === 'boolean') return !value;
  if (typeof value !== 'string') return false;
  return /\d$/.test(value) ? value.slice(0, -1) + ((Number(value.at(-1)) + 1) % 10) : `${value.slice(0, -1)}~`;
}
