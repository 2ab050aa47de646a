/** What the copy buttons put on the clipboard. Pure; no token is ever part of it. */
import { IEndpoint } from './api';
import { requestFor } from './tryout';

export function curlOf(url: string, endpoint: IEndpoint): string {
  const body = requestFor(endpoint)
    .replace(/\n\s*/g, '')
    .replace(/'/g, "'\\''");
  return [
    `curl -s '${url.replace(/'/g, "'\\''")}'`,
    `-H "Authorization: Bearer $NBAAS_TOKEN"`,
    `-H 'Content-Type: application/json'`,
    `-d '${body}'`
  ].join(' \\\n  ');
}

export function pythonOf(url: string, endpoint: IEndpoint): string {
  const body = JSON.stringify(requestFor(endpoint).replace(/\n\s*/g, ''));
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
