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
