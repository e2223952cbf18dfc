import { randomBytes } from 'node:crypto';

/**
 * A UUID version 7 (RFC 9562 §5.7): its first 48 bits are the time, so the index over event ids grows at one end
 * instead of all over. Unique without any order between nodes.
 */
export function createEventId(nowMs: number = Date.now()): string {
  const bytes = randomBytes(16);
  bytes.writeUIntBE(nowMs, 0, 6);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x70, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  const hex = bytes.toString('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

/** The name of a line of history: short enough for an entity tag, 60 random bits against a meeting of two. */
export function createEpoch(): string {
  return randomBytes(8).toString('base64url').replaceAll(/[-_]/g, 'x').slice(0, 10);
}
