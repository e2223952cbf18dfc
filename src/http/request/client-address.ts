import type { IncomingMessage } from 'node:http';
import { BlockList, isIP, isIPv4 } from 'node:net';
import type { Config } from '../../config/config.ts';
import { limits } from '../../limits.ts';

/** Returns the address of the client that sent a request. */
export type ReadAddress = (request: IncomingMessage) => string;

type TrustsHop = (address: string, hop: number) => boolean;

/** Stands for the address of a connection that the client reset before the node accepted it. */
const UNKNOWN = 'unknown';

/**
 * Creates a reader of client addresses. It follows `X-Forwarded-For` from its end: each trusted proxy appended the
 * address of its own client. The first address of the list comes from the client, which can write anything. A malformed
 * address ends the search, so the result is the last proxy's address.
 */
export function createAddressReader(trust: Config['http']['trustProxy']): ReadAddress {
  const trusts = createTrust(trust);
  return ({ socket, headers }) => {
    let address = toAddress(socket?.remoteAddress ?? '') ?? UNKNOWN;
    const header = headers['x-forwarded-for'];
    if (typeof header !== 'string' || trust === false) return address;
    let end = header.length;
    for (let hop = 0; hop < limits.maxForwardedAddresses && end > 0 && trusts(address, hop); hop += 1) {
      const start = header.lastIndexOf(',', end - 1);
      const previous = toAddress(header.slice(start + 1, end).trim());
      if (previous === undefined) break;
      address = previous;
      end = start;
    }
    return address;
  };
}

function createTrust(trust: Config['http']['trustProxy']): TrustsHop {
  if (trust === false) return () => false;
  if (typeof trust === 'number') return (_address, hop) => hop < trust;
  const networks = new BlockList();
  for (const one of trust) addNetwork(networks, one);
  return (address) => {
    const [plain = ''] = address.split('%', 1);
    return isIP(plain) !== 0 && networks.check(plain, isIPv4(plain) ? 'ipv4' : 'ipv6');
  };
}

function addNetwork(networks: BlockList, network: string): void {
  const [address = '', prefix] = network.split('/');
  const family = isIPv4(address) ? 'ipv4' : 'ipv6';
  if (prefix === undefined) networks.addAddress(address, family);
  else networks.addSubnet(address, Number(prefix), family);
}

/** Returns an address without brackets, port and the prefix of mapped IPv4; undefined for any other text. */
function toAddress(text: string): string | undefined {
  if (text.length > limits.maxAddressCharacters) return undefined;
  const bracketEnd = text.startsWith('[') ? text.indexOf(']') : -1;
  const colon = text.indexOf(':');
  const isHostWithPort = colon > 0 && colon === text.lastIndexOf(':');
  const address = bracketEnd > 0 ? text.slice(1, bracketEnd) : isHostWithPort ? text.slice(0, colon) : text;
  const mapped = address.toLowerCase().startsWith('::ffff:') ? address.slice('::ffff:'.length) : address;
  if (isIPv4(mapped)) return mapped;
  return isIP(address) === 0 ? undefined : address;
}
