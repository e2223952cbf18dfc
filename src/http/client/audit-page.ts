import type { ListedEntry } from '../../domain/audit.ts';
import type { AuditPage } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { createJsonScanner } from '../../json/scanner/scanner.ts';
import type { ObjectVisit, SkipVisit, Visit } from '../../json/visit.ts';
import { limits } from '../../limits.ts';
import type { AnswerReader } from './transport.ts';

type Members = Record<string, unknown>;

const SKIP: SkipVisit = { kind: 'skip', maxDepth: limits.maxAuditEntryDepth };

/**
 * Creates a reader of a page of audit entries. It keeps the members of `ListedEntry` and skips all others, so its
 * memory does not depend on the size of an entry.
 */
export function createPageReader(): AnswerReader<AuditPage<ListedEntry>> {
  const page: Members = {};
  const entries: Members[] = [];
  const scanner = createJsonScanner(
    objectVisit((name) => {
      if (name !== 'entries') return ['next', 'head'].includes(name) ? keep(page, name) : SKIP;
      page.entries = entries;
      return {
        kind: 'array',
        onElement: (index) => {
          if (index >= limits.maxPageEntries) throw otherForm('has too many entries');
          const entry: Members = {};
          entries.push(entry);
          return objectVisit((member) =>
            ['seq', 'hash', 'action', 'event_id'].includes(member) ? keep(entry, member) : SKIP,
          );
        },
        onOther: () => {
          throw otherForm('has no list of entries');
        },
      };
    }),
  );
  return {
    write: (chunk) => scanner.write(chunk),
    end: () => {
      scanner.end();
      if (!('entries' in page && 'head' in page)) throw otherForm('has no entries or no head');
      return page as unknown as AuditPage<ListedEntry>;
    },
  };
}

function objectVisit(onMember: (name: string) => Visit): ObjectVisit {
  return {
    kind: 'object',
    uniqueNames: 'caller',
    onMember,
    onOther: () => {
      throw otherForm('has another form');
    },
  };
}

function keep(into: Members, name: string): Visit {
  return {
    kind: 'capture',
    maxBytes: limits.maxBackupMemberBytes,
    maxDepth: 3,
    onValue: ({ text }) => {
      into[name] = JSON.parse(text.toString('utf8'));
    },
  };
}

function otherForm(what: string): LoomError {
  return new LoomError('invalid_json', `It ${what}`);
}
