/** Text that nbaas writes for people: requests, calls, magics. Pure; no token is part of it. */
import { IEndpoint, ITensorSignature } from './api';
import { readableJson } from './json';

/** Return a request that fits the signature: one row of zeros. */
export function requestFor(endpoint: Pick<IEndpoint, 'inputs'>): string {
  return readableJson({ inputs: endpoint.inputs.map(zeros) });
}

const MOST = 4096; // values of a filled-in tensor; a picture is better sent from Python

function zeros(input: ITensorSignature): object {
  const shape = input.shape.map(size => (size < 1 ? 1 : size));
  const count = shape.reduce((product, size) => product * size, 1);
  const data = new Array<number>(Math.min(count, MOST)).fill(0);
  return { name: input.name, datatype: input.datatype, shape, data };
}

/** Return the values of a tensor as nested lists, a row on each line: what the form shows. */
export function filledIn(input: ITensorSignature): string {
  const [rows = 1, ...inner] = input.shape.map(size => (size < 1 ? 1 : size));
  const value = input.datatype === 'BYTES' ? '' : 0;
  const row = (sizes: number[]): unknown => {
    const [size, ...rest] = sizes;
    return size === undefined
      ? value
      : Array.from({ length: size }, () => row(rest));
  };
  const count = inner.reduce((product, size) => product * size, rows);
  return count > MOST
    ? ''
    : rowsOf(Array.from({ length: rows }, () => row(inner)));
}

function rowsOf(rows: unknown[]): string {
  return `[${rows.map(row => JSON.stringify(row)).join(',\n ')}]`;
}

/**
 * Return the request for what stands in the form, by the inputs' names.
 *
 * Throws an Error that names the input whose values are no list of equal rows.
 */
export function requestFrom(
  inputs: readonly ITensorSignature[],
  texts: Readonly<Record<string, string>>
): string {
  return readableJson({
    inputs: inputs.map(input => {
      let value: unknown;
      try {
        value = JSON.parse(texts[input.name] ?? '');
      } catch {
        throw new Error(
          `${input.name}: not a list of numbers, such as [[1, 2]]`
        );
      }
      const shape = shapeOf(value);
      if (shape === null) {
        throw new Error(`${input.name}: its rows are not equally long`);
      }
      return {
        name: input.name,
        datatype: input.datatype,
        shape,
        data: [value].flat(Infinity)
      };
    })
  });
}

/** Return the sizes of nested lists, null where they are not the same everywhere. */
function shapeOf(value: unknown): number[] | null {
  if (!Array.isArray(value)) {
    return [];
  }
  const shapes = value.map(shapeOf);
  const first = shapes[0] ?? [];
  const same = shapes.every(
    shape => shape !== null && shape.join() === first.join()
  );
  return same ? [value.length, ...first] : null;
}

function bodyOf(endpoint: IEndpoint): string {
  return JSON.stringify(JSON.parse(requestFor(endpoint)));
}

export function curlOf(url: string, endpoint: IEndpoint): string {
  const body = bodyOf(endpoint).replace(/'/g, "'\\''");
  return [
    `curl -s '${url.replace(/'/g, "'\\''")}'`,
    `-H "Authorization: Bearer $NBAAS_TOKEN"`,
    `-H 'Content-Type: application/json'`,
    `-d '${body}'`
  ].join(' \\\n  ');
}

export function pythonOf(url: string, endpoint: IEndpoint): string {
  const body = JSON.stringify(bodyOf(endpoint));
  return [
    'import json, os, urllib.request',
    '',
    'request = urllib.request.Request(',
    `    ${JSON.stringify(url)},`,
    `    data=${body}.encode(),`,
    '    headers={',
    '        "Authorization": "Bearer " + os.environ["NBAAS_TOKEN"],',
    '        "Content-Type": "application/json",',
    '    },',
    ')',
    'print(json.load(urllib.request.urlopen(request))["outputs"])',
    ''
  ].join('\n');
}

const LOOP = /^\s*(for|while)\b.*:/m;
const STEP = /\.backward\(|\.fit\(|\btrain\w*\(/;

/** Whether a cell's source looks like one that trains and has no magic yet. */
export function looksLikeTraining(source: string): boolean {
  if (source.trimStart().startsWith('%%')) {
    return false;
  }
  return source.includes('.fit(') || (LOOP.test(source) && STEP.test(source));
}

export function withTrainMagic(source: string, ranks: number): string {
  return `%%train --ranks ${ranks}\n${source}`;
}
