/**
 * What the panel shows: the last good answers.
 *
 * The server pushes what changes. While it cannot (a proxy without WebSockets, a restart), the
 * model asks every two seconds, and only while somebody looks.
 */
import { IDisposable } from '@lumino/disposable';
import { Poll } from '@lumino/polling';
import { ISignal, Signal } from '@lumino/signaling';

import { Api, ApiError, IEndpoint, IHost, IJob, IOtherHost } from './api';
import { ILive, INews } from './live';

const INTERVAL = 2000; // ms
const FEW = 30; // finished jobs asked for at first
const MORE = 200;
const MOST = 30000; // ms between two questions to a server that does not answer

export class Model implements IDisposable {
  jobs: IJob[] = [];
  hosts: IHost[] = [];
  others: IOtherHost[] = [];
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
    private readonly live: ILive,
    interval = INTERVAL
  ) {
    this.poll = new Poll({
      auto: false,
      name: 'nbaas:panel',
      factory: () => this.refresh(),
      frequency: { interval, backoff: true, max: MOST },
      standby: 'when-hidden'
    });
    live.onNews = news => this.hear(news);
    live.onOpen = open => {
      this.pushed = open;
      this.ask();
    };
    live.connect();
  }

  get changed(): ISignal<this, void> {
    return this._changed;
  }

  /** Emits each job once as it reaches its end. */
  get ended(): ISignal<this, IJob> {
    return this._ended;
  }

  get running(): IJob[] {
    return this.jobs.filter(job => !job.final);
  }

  get recent(): IJob[] {
    return this.jobs.filter(job => job.final);
  }

  /** The panel came into view or left it. */
  set visible(visible: boolean) {
    this._visible = visible;
    this.live.visible = visible;
    this.ask();
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
      const over = jobs.value.jobs.filter(job => job.final);
      const known = new Set(this.running.map(job => job.id));
      // A push may have come while the answer was on its way; what has ended stays ended.
      const ends = new Map(this.recent.map(job => [job.id, job] as const));
      this.jobs = jobs.value.jobs.map(job => ends.get(job.id) ?? job);
      this.finished = jobs.value.finished;
      this.loaded = true;
      this.announce(over.filter(job => known.has(job.id)));
    }
    if (hosts.status === 'fulfilled') {
      this.hosts = hosts.value.hosts;
      this.others = hosts.value.others;
    }
    if (endpoints.status === 'fulfilled') {
      this.endpoints = endpoints.value;
    }
    const failed = [jobs, hosts, endpoints].find(
      answer => answer.status === 'rejected'
    ) as PromiseRejectedResult | undefined;
    this.error = failed ? reasonOf(failed.reason) : '';
    this.show();
    if (jobs.status === 'rejected') {
      throw jobs.reason; // the poll backs off
    }
    if (this.pushed) {
      void this.poll.stop();
      this.live.again();
    }
  }

  /** Do something on the server, then look at what became of it. */
  async act(action: () => Promise<void>): Promise<void> {
    await action();
    await this.refresh();
  }

  /** Ask for `count` more of the finished jobs, from now on. */
  async more(count = MORE): Promise<void> {
    this.limit += count;
    await this.refresh();
  }

  get isDisposed(): boolean {
    return this.poll.isDisposed;
  }

  dispose(): void {
    this.live.dispose();
    this.poll.dispose();
    Signal.clearData(this);
  }

  /** Take what the server pushed; parts that did not change are not in it. */
  private hear(news: INews): void {
    const running = news.running ?? this.running;
    const going = new Set(running.map(job => job.id));
    const over = new Map(
      [...news.ended, ...this.recent].map(job => [job.id, job] as const)
    );
    const recent = [...over.values()].filter(job => !going.has(job.id));
    recent.sort((a, b) => (a.id < b.id ? 1 : -1)); // ids sort by time
    this.jobs = [...running, ...recent];
    this.finished = news.finished ?? this.finished;
    this.hosts = news.hosts ?? this.hosts;
    this.others = news.others ?? this.others;
    this.endpoints = news.endpoints ?? this.endpoints;
    this.error = '';
    this.announce(news.ended);
    this.show();
  }

  private announce(ended: IJob[]): void {
    for (const job of ended) {
      if (!this.announced.has(job.id)) {
        this.announced.add(job.id);
        this._ended.emit(job);
      }
    }
  }

  private show(): void {
    this.asOf = Date.now() / 1000;
    this._changed.emit();
  }

  /** Ask now if somebody looks; again and again only where nothing is pushed. */
  private ask(): void {
    if (this._visible) {
      void this.poll.refresh();
    } else {
      void this.poll.stop();
    }
  }

  private limit = FEW;
  private pushed = false;
  private _visible = false;
  private readonly announced = new Set<string>();
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
