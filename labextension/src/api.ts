/**
 * The server extension's REST interface, typed.
 *
 * Rule: what the server sent is data; nothing of it is ever parsed as HTML or run.
 */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';

export interface IRank {
  rank: number;
  host: string;
  gpu: number | null;
  state: string;
  step: number | null;
}

export interface IFailure {
  rank: number;
  kind: string;
  message: string;
}

/** A job as the lists show it; times in seconds since the epoch. */
export interface IJob {
  id: string;
  name: string;
  state: string;
  final: boolean;
  flags: string[];
  engine: string;
  placed: string;
  origin: string;
  created: number;
  since: number;
  seconds: number;
  reason: string;
  failure: IFailure | null;
  step: number;
  epoch: number;
  batch: number | null;
  batches: number | null;
  steps_per_second: number | null;
  metric: string;
  value: number | null;
  spark: (number | null)[];
  ranks: IRank[];
  /** The step of the last complete checkpoint, from which a job can go on. */
  checkpoint?: number | null;
}

/** `finished` is how many have ended in all. */
export interface IJobs {
  jobs: IJob[];
  finished: number;
}

export interface ISeries {
  x: number[];
  y: (number | null)[];
}

export interface IJobDetail extends IJob {
  series: Record<string, ISeries>;
  traceback: string;
}

/** What an ended job leaves in a notebook, as the file holds it. */
export interface IOutputs {
  figure: { data: Record<string, unknown>; metadata: Record<string, unknown> };
  summary: { data: Record<string, unknown>; metadata: Record<string, unknown> };
}

/** A piece of a log; `start`, `end` and `size` are bytes of the file. */
export interface ILogPart {
  text: string;
  start: number;
  end: number;
  size: number;
  ranks: number;
}

export interface IGpu {
  index: number;
  name: string;
  memory_used: number;
  memory_total: number;
  use: number | null;
  temperature: number | null;
  jobs: string[];
}

/** A job that uses a host, and with how many ranks. */
export interface IHostJob {
  name: string;
  ranks: number;
}

/** A host of config.toml; it takes `slots` ranks, null as many as it has GPUs. */
export interface IOtherHost {
  name: string;
  slots: number | null;
  jobs: IHostJob[];
  /** 'ready', or what it lacks; '' before it has answered. */
  state: string;
  hint: string;
  /** Such as '3 of 4 GPUs'. */
  free: string;
}

/** What a host has or lacks; the hint is the way out. */
export interface IFact {
  name: string;
  ok: boolean;
  text: string;
  hint: string;
}

export interface IHosts {
  hosts: IHost[];
  others: IOtherHost[];
}

/** `free` is how many more ranks fit: GPUs, or cores where there are none. */
export interface IHost {
  name: string;
  cores: number;
  load: number;
  memory_used: number;
  memory_total: number;
  ranks: number;
  free: number;
  jobs: IHostJob[];
  gpus: IGpu[];
}

export interface ITensorSignature {
  name: string;
  datatype: string;
  shape: number[];
}

export interface IVersion {
  version: number;
  created: number;
  current: boolean;
}

/** A canary or a shadow beside the current version. */
export interface IShare {
  version: number;
  percent: number;
  requests: number;
  errors: number;
  p99_ms: number;
  replicas: number;
  ready: number;
}

/** `path` is below the server's base URL, `url` the gateway's own address on its host. */
export interface IEndpoint {
  name: string;
  state: string;
  reason: string;
  version: number;
  versions: IVersion[];
  path: string;
  url: string;
  replicas: number;
  ready: number;
  restarts: number;
  requests: number;
  errors: number;
  requests_per_second: number | null;
  p50_ms: number;
  p99_ms: number;
  /** Requests a second and p99 at the last looks, oldest first. */
  traffic: number[];
  latency: (number | null)[];
  inputs: ITensorSignature[];
  canary: IShare | null;
  shadow: IShare | null;
  /** What was done without anybody asking, such as to withdraw a canary. */
  notice: string;
}

/** An answer with a status of 400 or above: `message` is what is wrong, `hint` the way out. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = ''
  ) {
    super(message);
    this.name = 'ApiError';
  }

  get text(): string {
    return this.hint ? `${this.message} (${this.hint})` : this.message;
  }
}

export class Api {
  constructor(private readonly settings = ServerConnection.makeSettings()) {}

  /** All jobs that run and the newest `limit` that have ended. */
  jobs(limit: number): Promise<IJobs> {
    return this.request(`jobs?limit=${limit}`);
  }

  job(id: string, points = 600): Promise<IJobDetail> {
    return this.request(`jobs/${encodeURIComponent(id)}?points=${points}`);
  }

  /** The log from byte `start` on; its last `tail` bytes where start is null. */
  log(
    id: string,
    rank: number,
    start: number | null,
    tail: number
  ): Promise<ILogPart> {
    const where = start === null ? `tail=${tail}` : `start=${start}`;
    const query = `rank=${rank}&${where}`;
    return this.request(`jobs/${encodeURIComponent(id)}/log?${query}`);
  }

  outputs(id: string): Promise<IOutputs> {
    return this.request(`jobs/${encodeURIComponent(id)}/outputs`);
  }

  async stop(id: string): Promise<void> {
    await this.request(`jobs/${encodeURIComponent(id)}/stop`, 'POST');
  }

  async kill(id: string): Promise<void> {
    await this.request(`jobs/${encodeURIComponent(id)}/kill`, 'POST');
  }

  /** Start a job again from its last checkpoint. */
  async resume(id: string): Promise<void> {
    await this.request(`jobs/${encodeURIComponent(id)}/resume`, 'POST');
  }

  hosts(): Promise<IHosts> {
    return this.request('hosts');
  }

  /** What the server's host has and lacks for training. */
  async check(): Promise<IFact[]> {
    const answer = await this.request<{ facts: IFact[] }>(
      'hosts/check',
      'POST'
    );
    return answer.facts;
  }

  async endpoints(): Promise<IEndpoint[]> {
    const answer = await this.request<{ endpoints: IEndpoint[] }>('endpoints');
    return answer.endpoints;
  }

  async undeploy(name: string): Promise<void> {
    await this.request(
      `endpoints/${encodeURIComponent(name)}/undeploy`,
      'POST'
    );
  }

  /** Serve `version`, or the one before the current. */
  async rollback(name: string, version: number | null): Promise<void> {
    await this.request(
      `endpoints/${encodeURIComponent(name)}/rollback`,
      'POST',
      version === null ? {} : { version }
    );
  }

  /** Give `version` a share of the requests: 0 withdraws it, 100 makes it the current one. */
  async canary(name: string, version: number, percent: number): Promise<void> {
    await this.request(
      `endpoints/${encodeURIComponent(name)}/canary`,
      'POST',
      percent > 0 ? { version, percent } : { percent }
    );
  }

  /** The token that opens an endpoint; asked for by a click only, and kept nowhere. */
  async token(name: string): Promise<string> {
    const answer = await this.request<{ token: string }>(
      `endpoints/${encodeURIComponent(name)}/token`,
      'POST'
    );
    return answer.token;
  }

  /** Post an Open Inference Protocol request as it is written; returns the answer's text. */
  async infer(name: string, body: string): Promise<string> {
    const path = `nbaas/v2/models/${encodeURIComponent(name)}/infer`;
    return this.send(path, 'POST', body);
  }

  /** The endpoint's address as seen from this browser: works behind a hub and a base URL. */
  url(path: string): string {
    return URLExt.join(this.settings.baseUrl, path);
  }

  private async request<T>(
    path: string,
    method = 'GET',
    body: object = {}
  ): Promise<T> {
    const text = JSON.stringify(body);
    return JSON.parse(await this.send(`nbaas/api/${path}`, method, text)) as T;
  }

  private async send(
    path: string,
    method: string,
    body?: string
  ): Promise<string> {
    const init: RequestInit = { method };
    if (method !== 'GET') {
      init.body = body ?? '{}';
      init.headers = { 'Content-Type': 'application/json' };
    }
    const response = await ServerConnection.makeRequest(
      this.url(path),
      init,
      this.settings
    );
    const text = await response.text();
    if (!response.ok) {
      throw errorFrom(response.status, text);
    }
    return text;
  }
}

/** Return the error an answer tells of; an answer of a proxy in between may be anything. */
export function errorFrom(status: number, text: string): ApiError {
  try {
    const told = JSON.parse(text) as { error?: unknown; hint?: unknown };
    if (typeof told.error === 'string') {
      return new ApiError(
        status,
        told.error,
        typeof told.hint === 'string' ? told.hint : ''
      );
    }
  } catch {
    // Not JSON: a proxy's page. Its status is all we show.
  }
  const hint =
    status === 404
      ? 'is the nbaas server extension enabled? jupyter server extension list'
      : '';
  return new ApiError(status, `the server answered ${status}`, hint);
}
