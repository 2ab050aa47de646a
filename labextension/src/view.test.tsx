import * as React from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { describe, expect, test } from 'vitest';

import { Actions } from './actions';
import { IEndpoint, IHost, IHostJob, IJob } from './api';
import { countsOf, Endpoints } from './endpoints';
import { freeOf, Hosts } from './hosts';
import {
  canResume,
  jobsWith,
  progressOf,
  RecentJobs,
  RunningJobs,
  whereOf
} from './jobs';

const EVIL = '<img src=x onerror="alert(1)">';
const SAFE = '&lt;img src=x onerror=&quot;alert(1)&quot;&gt;';

const actions = {
  trans: {
    __: (text: string, ...args: unknown[]) =>
      text.replace(/%(\d)/g, (_, index) => String(args[Number(index) - 1])),
    _n: (one: string, many: string, count: number) =>
      (count === 1 ? one : many).replace('%1', String(count))
  }
} as unknown as Actions;

const JOB: IJob = {
  id: '20260101-000000-00000000',
  name: EVIL,
  state: 'RUNNING',
  final: false,
  flags: [EVIL],
  engine: EVIL,
  placed: EVIL,
  origin: EVIL,
  created: 0,
  since: 0,
  seconds: 12,
  reason: EVIL,
  failure: { rank: 1, kind: EVIL, message: EVIL },
  step: 1200,
  epoch: 3,
  batch: 6,
  batches: 24,
  steps_per_second: 41,
  metric: EVIL,
  value: 0.5,
  spark: [1, 0.5],
  ranks: [
    { rank: 0, host: EVIL, gpu: 0, state: 'running', step: 3 },
    { rank: 1, host: EVIL, gpu: null, state: EVIL, step: null }
  ]
};

const HOST: IHost = {
  name: EVIL,
  cores: 2,
  load: 1,
  memory_used: 1,
  memory_total: 2,
  ranks: 2,
  free: 0,
  jobs: [{ name: EVIL, ranks: 2 }],
  gpus: [
    {
      index: 0,
      name: EVIL,
      memory_used: 0,
      memory_total: 0,
      use: null,
      temperature: null,
      jobs: [EVIL]
    }
  ]
};

const ENDPOINT: IEndpoint = {
  name: EVIL,
  state: EVIL,
  reason: EVIL,
  version: 2,
  versions: [
    { version: 1, created: 0, current: false },
    { version: 2, created: 0, current: true }
  ],
  path: EVIL,
  url: EVIL,
  replicas: 2,
  ready: 1,
  restarts: 0,
  requests: 1200,
  errors: 3,
  requests_per_second: 41.234,
  p50_ms: 0.5,
  p99_ms: 2.5,
  traffic: [0, 20, 41],
  latency: [null, 2.4, 2.5],
  inputs: [],
  canary: {
    version: 3,
    percent: 10,
    requests: 40,
    errors: 1,
    p99_ms: 3.5,
    replicas: 1,
    ready: 1
  },
  shadow: null,
  notice: EVIL
};

function recent(job: IJob): JSX.Element {
  return (
    <RecentJobs
      jobs={[job]}
      finished={1}
      now={0}
      more={() => undefined}
      actions={actions}
    />
  );
}

function others(jobs: IHostJob[]): JSX.Element {
  const told = { state: EVIL, hint: EVIL, free: EVIL };
  const host = { name: EVIL, slots: null, jobs, ...told };
  return <Hosts hosts={[]} others={[host]} actions={actions} />;
}

function endpoints(...shown: IEndpoint[]): JSX.Element {
  return <Endpoints endpoints={shown} now={0} actions={actions} />;
}

describe('p67: names are text nodes', () => {
  test.each([
    ['running', <RunningJobs jobs={[JOB]} actions={actions} />],
    ['recent', recent({ ...JOB, final: true, state: 'FAILED' })],
    ['hosts', <Hosts hosts={[HOST]} others={[]} actions={actions} />],
    ['others', others([{ name: EVIL, ranks: 1 }])],
    ['endpoints', endpoints(ENDPOINT)]
  ])('%s', (_, view) => {
    const html = renderToStaticMarkup(view);
    expect(html).toContain(SAFE);
    expect(html).not.toContain('<img');
  });
});

describe('empty states teach', () => {
  test('how a job begins', () => {
    const html = renderToStaticMarkup(
      <RunningJobs jobs={[]} actions={actions} />
    );
    expect(html).toContain('%%train --ranks 2');
  });

  test('how a model is deployed', () => {
    const html = renderToStaticMarkup(endpoints());
    expect(html).toContain('%deploy model --name digits');
  });
});

describe('a running job', () => {
  test('says where it is', () => {
    expect(whereOf(JOB)).toBe('epoch 3 · step 1,200 · 41 steps/s');
    expect(progressOf(JOB)).toBe(0.25);
    expect(progressOf({ ...JOB, batches: null })).toBeNull();
  });

  test('that is stopping can be killed', () => {
    const stopping = { ...JOB, state: 'STOPPING' };
    const html = renderToStaticMarkup(
      <RunningJobs jobs={[stopping]} actions={actions} />
    );
    expect(html).toContain('>Kill<');
    expect(html).not.toContain('>Stop<');
  });

  test('counts the ranks that are up', () => {
    const html = renderToStaticMarkup(
      <RunningJobs jobs={[JOB]} actions={actions} />
    );
    expect(html).toContain('1 of 2 ranks up');
  });
});

describe('an endpoint', () => {
  test('says what it does', () => {
    expect(countsOf(ENDPOINT)).toBe('1 of 2 ready · 1,200 requests · 3 errors');
    const html = renderToStaticMarkup(endpoints(ENDPOINT));
    expect(html).toContain('41.2 req/s');
    expect(html).toContain('p99 2.5 ms');
    const idle = { ...ENDPOINT, requests: 0, errors: 0 };
    expect(renderToStaticMarkup(endpoints(idle))).not.toContain('p99 2.5 ms');
  });

  test('with a canary shows its share', () => {
    const html = renderToStaticMarkup(endpoints(ENDPOINT));
    expect(html).toContain('type="range"');
    expect(html).toContain('40 requests · 1 errors');
    const alone = { ...ENDPOINT, canary: null };
    expect(renderToStaticMarkup(endpoints(alone))).not.toContain('range');
  });

  test('with one version cannot be rolled back', () => {
    const one = { ...ENDPOINT, versions: ENDPOINT.versions.slice(1) };
    const html = (endpoint: IEndpoint): string =>
      renderToStaticMarkup(endpoints(endpoint));
    expect(html(ENDPOINT)).toContain('>Roll back<');
    expect(html(one)).not.toContain('>Roll back<');
  });
});

describe('a host', () => {
  test('says how much is free', () => {
    expect(freeOf(HOST, actions)).toBe('0 of 1 GPUs free');
    expect(freeOf({ ...HOST, gpus: [], free: 1 }, actions)).toBe(
      '1 of 2 cores free'
    );
  });
});

describe('a job that has ended', () => {
  const over = { ...JOB, name: 'digits', reason: '', state: 'FAILED' };

  test('is found by words of its name, state and failure', () => {
    expect(jobsWith([over], 'dig fail')).toEqual([over]);
    expect(jobsWith([over], 'img')).toEqual([over]); // the kind of its failure
    expect(jobsWith([over], 'succeeded')).toEqual([]);
    expect(jobsWith([over], ' ')).toEqual([over]);
  });

  test('can go on where it left a checkpoint, unless it succeeded', () => {
    expect(canResume(over)).toBe(false);
    expect(canResume({ ...over, checkpoint: 0 })).toBe(true);
    expect(canResume({ ...over, checkpoint: 9, state: 'SUCCEEDED' })).toBe(
      false
    );
  });
});
