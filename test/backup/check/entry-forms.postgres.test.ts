import { expect, test } from 'vitest';
import { entryForms } from '../../../src/backup/check/entry-forms.ts';
import { createEmptyDatabase } from '../../setup/server/database.ts';

/** Returns the text shortened, lengthened, and with each character replaced. */
function variantsOf(text: string): string[] {
  const replaced = [...text].flatMap((_, at) =>
    [...'019afAFgZ-:.Té٣\n'].map((character) => text.slice(0, at) + character + text.slice(at + 1)),
  );
  return [text, '', `${text}0`, `${text}\n`, `\n${text}`, text.slice(1), text.slice(0, -1), ...replaced];
}

const days = ['0000', '0004', '1900', '2000', '2023', '2024'].flatMap((year) =>
  Array.from({ length: 14 * 33 }, (_, at) => [year, pad(Math.floor(at / 33)), pad(at % 33)].join('-')),
);

const samples: Record<keyof typeof entryForms, string[]> = {
  seq: [...variantsOf('123'), ...variantsOf('999999999999999'), '0', '1e3', '1.5', '-1'],
  hash: variantsOf('0123456789abcdef'.repeat(4)),
  event_id: variantsOf('01234567-89ab-cdef-0123-456789abcdef'),
  revision: [...variantsOf('4503599627370496'), '0', '00', '-1', '1.5', '1e3'],
  epoch: [...variantsOf('AZaz09_-xx'), 'a b', 'a"b', 'a.b', '\u0000'.slice(1), 'x'.repeat(64), 'x'.repeat(65)],
  recorded_at: [...variantsOf('2024-02-29T23:59:59.123456Z'), ...days.map((day) => `${day}T00:00:00.000000Z`)],
};

test('every form means the same in PostgreSQL as in JavaScript', async () => {
  const database = await createEmptyDatabase();
  try {
    for (const [member, texts] of Object.entries(samples) as [keyof typeof entryForms, string[]][]) {
      const source = entryForms[member];
      const form = new RegExp(source);
      const { rows } = await database.pool.query<{ text: string; matches: boolean }>(
        'select text, text ~ $2 as matches from unnest($1::text[]) as text',
        [texts, source],
      );
      expect(rows.filter(({ text, matches }) => matches !== form.test(text))).toEqual([]);
      expect(rows.some(({ matches }) => matches) && rows.some(({ matches }) => !matches)).toBe(true);
    }
  } finally {
    await database.drop();
  }
});

function pad(number: number): string {
  return String(number).padStart(2, '0');
}
