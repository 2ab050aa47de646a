/**
 * What the panel shows: the last good answers, asked anew every two seconds while somebody looks.
 */
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Api, ApiError, IEndpoint, IHost, IJob, IJobs } from './api';

const INTERVAL = 2000; // ms
const FEW = 30; // finished jobs asked for at first
const MOST = 30000; // ms between two questions to a server that does not answer

export class Model implements IDisposable {
  jobs: IJob[] = [];
  hosts: IHost[] = [];
  endpoints: IEndpoint[] = [];
  /** How many jobs have ended in all; `jobs` holds the newest of them. */
  finished = 0;
  /** Whether any answer has come yet. */
  loaded = false;
  /** Why the last question failed; the last good answer stays. */
  error = '';
  /** Seconds since the epoch of the last good answer. */
  asOf = 0;

  constructor(
    readonly api: Api,
    interval = INTERVAL
  ) {
    this.poll = new Poll({
      auto: false,
      name: 'nbaas:panel',
      factory: () => this.refresh(),
      frequency: { interval, backoff: true, max: MOST },
      standby: 'when-hidden'
    });
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emits each job that reached its end since the last answer. */
  get ended(): ISignal<this, IJob> {
    return this._ended;
  }

  get running(): IJob[] {
    return this.jobs.filter(job => !job.final);
  }

  get recent(): IJob[] {
    return this.jobs.filter(job => job.final);
  }

  /** Begin or end asking: the panel came into view or left it. */
  set visible(visible: boolean) {
    if (visible) {
      void this.poll.refresh();
    } else {
      void this.poll.stop();
    }
  }

  /** Ask once; the three lists are independent, one that fails keeps its last answer. */
  async refresh(): Promise<void> {
    const [jobs, hosts, endpoints] = await Promise.allSettled([
      this.api.jobs(this.limit),
      this.api.hosts(),
      this.api.endpoints()
    ]);
    if (this.isDisposed) {
      return;
    }
    if (jobs.status === 'fulfilled') {
      this.take(jobs.value);
    }
    if (hosts.status === 'fulfilled') {
      this.hosts = hosts.value;
    }
    if (endpoints.status === 'fulfilled') {
      this.endpoints = endpoints.value;
    }
    const failed = [jobs, hosts, endpoints].find(
      answer => answer.status === 'rejected'
    ) as PromiseRejectedResult | undefined;
    this.error = failed ? reasonOf(failed.reason) : '';
    this._changed.emit();
    if (jobs.status === 'rejected') {
      throw jobs.reason; // the poll backs off
    }
  }

  /** Do something on the server, then look at what became of it. */
  async act(action: () => Promise<void>): Promise<void> {
    await action();
    await this.poll.refresh();
    await this.poll.tick;
  }

  get isDisposed(): boolean {
    return this.poll.isDisposed;
  }

  dispose(): void {
    this.poll.dispose();
    Signal.clearData(this);
  }

  /** Ask for more of the finished jobs, from now on. */
  async more(): Promise<void> {
    this.limit += 200;
    await this.refresh();
  }

  private take({ jobs, finished }: IJobs): void {
    const before = new Map(this.jobs.map(job => [job.id, job.final]));
    this.jobs = jobs;
    this.finished = finished;
    this.asOf = Date.now() / 1000;
    const first = !this.loaded;
    this.loaded = true;
    if (first) {
      return;
    }
    for (const job of jobs) {
      if (job.final && before.get(job.id) === false) {
        this._ended.emit(job);
      }
    }
  }

  private limit = FEW;
  private readonly poll: Poll<void>;
  private readonly _changed = new Signal<this, void>(this);
  private readonly _ended = new Signal<this, IJob>(this);
}

function reasonOf(reason: unknown): string {
  if (reason instanceof ApiError) {
    return reason.text;
  }
  return reason instanceof Error ? reason.message : String(reason);
}
