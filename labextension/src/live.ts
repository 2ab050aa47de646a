/** The server's pushes: what changed, as it changes. Comes back by itself when it was cut. */
import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import { IDisposable } from '@lumino/disposable';

import { IEndpoint, IHost, IJob, IOtherHost } from './api';

const FIRST_WAIT = 1000; // ms until the first new try
const LONGEST_WAIT = 30000; // ms

/** What one message holds: the parts that changed, and the jobs that ended since the last. */
export interface INews {
  ended: IJob[];
  running?: IJob[];
  finished?: number;
  hosts?: IHost[];
  others?: IOtherHost[];
  endpoints?: IEndpoint[];
}

/** What the model needs of it; tests give another. */
export interface ILive extends IDisposable {
  /** Whether the panel is in view: a hidden one is told of ended jobs only. */
  visible: boolean;
  onNews: (news: INews) => void;
  onOpen: (open: boolean) => void;
  connect(): void;
  /** Have everything pushed once more: an answer to a question may be older than the last push. */
  again(): void;
}

export class Live implements ILive {
  onNews: (news: INews) => void = () => undefined;
  onOpen: (open: boolean) => void = () => undefined;

  constructor(private readonly settings = ServerConnection.makeSettings()) {}

  get visible(): boolean {
    return this._visible;
  }

  set visible(visible: boolean) {
    this._visible = visible;
    this.say();
  }

  get isDisposed(): boolean {
    return this._isDisposed;
  }

  connect(): void {
    const { wsUrl, token, appendToken, WebSocket } = this.settings;
    let url = URLExt.join(wsUrl, 'nbaas/api/live');
    if (appendToken && token !== '') {
      url += `?token=${encodeURIComponent(token)}`;
    }
    const socket = new WebSocket(url);
    this.socket = socket;
    socket.onopen = () => {
      this.wait = FIRST_WAIT;
      this.say();
      this.onOpen(true);
    };
    socket.onmessage = event => {
      this.onNews(JSON.parse(String(event.data)) as INews);
    };
    socket.onclose = () => {
      if (this._isDisposed) {
        return;
      }
      this.onOpen(false);
      this.timer = window.setTimeout(() => this.connect(), this.wait);
      this.wait = Math.min(this.wait * 2, LONGEST_WAIT);
    };
  }

  again(): void {
    this.say();
  }

  dispose(): void {
    this._isDisposed = true;
    window.clearTimeout(this.timer);
    this.socket?.close();
  }

  private say(): void {
    if (this.socket?.readyState === 1) {
      this.socket.send(JSON.stringify({ visible: this._visible }));
    }
  }

  private socket: WebSocket | null = null;
  private timer = 0;
  private wait = FIRST_WAIT;
  private _visible = false;
  private _isDisposed = false;
}
