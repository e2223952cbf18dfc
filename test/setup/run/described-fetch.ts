/** Marks the function below, because the files of one process share their globals. */
const described = Symbol.for('loom.described');

/**
 * Checks each answer of a node that a test reads whole, see `assertDescribed`: also those of nodes in containers, and
 * long streams to their end. It reads nothing by itself, so a test still decides how fast it takes a stream.
 */
function describeAnswers(original: typeof fetch): typeof fetch {
  const wrapped: typeof fetch = async (input, init) => {
    const answer = await original(input, init);
    // Every node sends both headers. Other servers of the tests do not.
    if (!answer.headers.has('x-request-id') || answer.headers.get('cache-control') !== 'no-store') return answer;
    const { pathname, search } = new URL(answer.url);
    const method = init?.method ?? (input instanceof Request ? input.method : 'GET');
    const readText = answer.text.bind(answer);
    const text = async (): Promise<string> => {
      const found = await readText();
      // Most files fetch nothing, so they need not load the document.
      const { assertDescribed } = await import('../node/described.ts');
      const headers = Object.fromEntries(answer.headers);
      assertDescribed({ method, url: `${pathname}${search}`, status: answer.status, headers, text: found });
      return found;
    };
    return Object.assign(answer, { text, json: async () => JSON.parse(await text()) });
  };
  return Object.assign(wrapped, { [described]: true });
}

if (!(described in globalThis.fetch)) globalThis.fetch = describeAnswers(globalThis.fetch);
