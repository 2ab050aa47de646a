/**
 * A run as a saved notebook holds it: from JSON to what the panel draws.
 *
 * Rule: a notebook may come from anywhere, so what does not fit is left out and nothing is run.
 */

export const MIME = 'application/vnd.nbaas.run+json';

export interface IStoredRun {
  view: Record<string, unknown>;
  message: { kind: string; reset: boolean; curves: object[] };
  buffers: DataView[];
  pictures: { message: object; buffers: DataView[] }[];
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const records = (value: unknown): Record<string, unknown>[] =>
  Array.isArray(value) ? value.filter(isRecord) : [];

const text = (value: unknown): string =>
  typeof value === 'string' ? value : '';

/** A number as JSON holds it: NaN and infinities are the words that Python has for them. */
export function numeric(value: unknown): number {
  if (typeof value === 'number') {
    return value;
  }
  return value === 'inf' ? Infinity : value === '-inf' ? -Infinity : NaN;
}

/** Return what the panel takes; null where `stored` is no run. */
export function readStored(stored: unknown): IStoredRun | null {
  if (!isRecord(stored) || !isRecord(stored.view)) {
    return null;
  }
  const curves: object[] = [];
  const buffers: DataView[] = [];
  for (const { name, group, x, y } of records(stored.curves)) {
    if (!Array.isArray(x) || !Array.isArray(y) || x.length !== y.length) {
      continue;
    }
    curves.push({ name: text(name), group: text(group) });
    buffers.push(
      new DataView(Float64Array.from(x, numeric).buffer),
      new DataView(Float32Array.from(y, numeric).buffer)
    );
  }
  const kept = records(stored.pictures);
  const pictures = kept.map(picture => ({
    message: { ...picture, index: 0 },
    buffers: text(picture.png) ? [bytes(text(picture.png))] : []
  }));
  const listed = kept.map(({ name, counts }) => ({
    name: text(name),
    count: 1,
    histogram: Array.isArray(counts)
  }));
  const view = { ...stored.view, pictures: listed, tail: false };
  const message = { kind: 'curves', reset: true, curves };
  return { view, message, buffers, pictures };
}

function bytes(base64: string): DataView {
  try {
    const decoded = atob(base64);
    return new DataView(
      Uint8Array.from(decoded, letter => letter.charCodeAt(0)).buffer
    );
  } catch {
    return new DataView(new ArrayBuffer(0));
  }
}
