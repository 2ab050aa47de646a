import * as React from 'react';
import { renderToStaticMarkup } from 'react-dom/server';
import { describe, expect, test } from 'vitest';

import { Actions } from './actions';
import { IEndpoint, IHost, IJob } from './api';
import { Endpoints, trafficOf } from './endpoints';
import { Hosts } from './hosts';
import { progressOf, RecentJobs, RunningJobs, whereOf } from './jobs';

const EVIL = '<img src=x onerror="alert(1)">';
const SAFE = '&lt;img src=x onerror=&quot;alert(1)&quot;&gt;';

const actions = {
  trans: {
    __: (text: string, ...args: unknown[]) =>
      text.replace(/%(\d)/g, (_, index) => String(args[Number(index) - 1]))
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
  ranks: 0,
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
  inputs: []
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

describe('p67: names are text nodes', () => {
  test.each([
    ['running', <RunningJobs jobs={[JOB]} actions={actions} />],
    ['recent', recent({ ...JOB, final: true, state: 'FAILED' })],
    ['hosts', <Hosts hosts={[HOST]} actions={actions} />],
    ['endpoints', <Endpoints endpoints={[ENDPOINT]} actions={actions} />]
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
    const html = renderToStaticMarkup(
      <Endpoints endpoints={[]} actions={actions} />
    );
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
    expect(trafficOf(ENDPOINT)).toBe(
      '1 of 2 ready · 41.2 req/s · p99 2.5 ms · 3 errors'
    );
    expect(
      trafficOf({ ...ENDPOINT, requests: 0, requests_per_second: 0, errors: 0 })
    ).toBe('1 of 2 ready · 0 requests');
  });

  test('with one version cannot be rolled back', () => {
    const one = { ...ENDPOINT, versions: ENDPOINT.versions.slice(1) };
    const html = (endpoint: IEndpoint): string =>
      renderToStaticMarkup(
        <Endpoints endpoints={[endpoint]} actions={actions} />
      );
    expect(html(ENDPOINT)).toContain('>Roll back<');
    expect(html(one)).not.toContain('>Roll back<');
  });
});
