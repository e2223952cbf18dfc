/** Requests of the client commands. The room knows the node's HTTP API, and of persistence only the schema version. */
import { nodeUrlFault } from '../../config/checks.ts';
import { type ClientConfig, parseClientConfig } from '../../config/config.ts';
import { actorNameFault } from '../../domain/actor.ts';
import { codeOf } from '../../errors.ts';
import { createNodeClient, type NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import {
  type Command,
  type CommandDefinition,
  type CommandInput,
  type CommandResult,
  createCommand,
  readFile,
} from '../command.ts';
import { type OptionTypes, UsageError, valued } from '../terminal/arguments.ts';

export interface ClientTools {
  /** Aborts its requests when the command is stopped. */
  client: NodeClient;
  /** Configures another client, for requests that a stop does not abort. */
  config: ClientConfig;
}

interface ClientCommandDefinition<Given extends OptionTypes> extends Omit<CommandDefinition<Given>, 'run'> {
  run(input: CommandInput<Given> & ClientTools): Promise<CommandResult>;
}

/** An option of commands that write an audit entry. */
export const ACTOR_OPTION = {
  actor: valued('NAME', 'name who does this, for the audit entry; by default, the entry names only the kind of token'),
};

const URL_OPTION = valued('URL', 'the address of the node; default: LOOM_URL, else LOOM_HOST and LOOM_PORT');

/**
 * Creates a command that sends requests to a node. The token comes from the environment or a file. It never comes from
 * the command line, which every user of the machine can read.
 */
export function createClientCommand<Given extends OptionTypes>(definition: ClientCommandDefinition<Given>): Command {
  const { help } = definition;
  return createCommand({
    ...definition,
    help: {
      succeeds: 'done',
      fails: 'failed, refused, not confirmed, or interrupted: standard error says why',
      ...help,
      about: `${help.about} The token comes from LOOM_ADMIN_TOKEN, or from the file that LOOM_ADMIN_TOKEN_FILE names.`,
    },
    options: { ...definition.options, url: URL_OPTION } as Given,
    run: async (input) => {
      const { url, actor } = input.values as { url?: string; actor?: string };
      const fault = url === undefined ? undefined : nodeUrlFault(url);
      if (fault !== undefined) throw new UsageError(`--url ${fault}.`);
      const actorFault = actor === undefined ? undefined : actorNameFault(actor);
      if (actorFault !== undefined) throw new UsageError(`--actor ${actorFault}.`);
      const config = parseClientConfig(input.context.env, { readFile, ...(url === undefined ? {} : { url }) });
      const client = createNodeClient({ ...config, actor, signal: input.context.stop });
      try {
        return await definition.run({ ...input, client, config });
      } catch (error) {
        throw isOfAnotherForm(error) ? otherForm(config.url, error) : error;
      } finally {
        await client.close();
      }
    },
  });
}

/** Recognizes the error of code that reads a member of another type. Errors of Node's modules have a code. */
function isOfAnotherForm(error: unknown): error is TypeError {
  return error instanceof TypeError && codeOf(error) === undefined;
}

/** The client checks only some members of an answer, so that nodes of other versions may add and omit members. */
function otherForm(url: string, cause: TypeError): NodeError {
  const found = `The answer lacks a member that this command needs, or it has another type (${cause.message}).`;
  const message = `${url}: ${found} Check that the node and this command have the same version of LOOM.`;
  return new NodeError('unexpected_answer', message, { cause });
}
