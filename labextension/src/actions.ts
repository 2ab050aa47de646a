/** What the buttons do: the view calls these and knows nothing of JupyterLab. */
import { TranslationBundle } from '@jupyterlab/translation';

import { IEndpoint, IFact, IJob } from './api';

export type Copied = 'url' | 'curl' | 'python' | 'token';

export interface Actions {
  readonly trans: TranslationBundle;
  openCurves(job: IJob): void;
  openLog(job: IJob): void;
  attach(job: IJob): void;
  stop(job: IJob): void;
  kill(job: IJob): void;
  resume(job: IJob): void;
  /** What the host has and lacks; null where the server did not say. */
  check(): Promise<IFact[] | null>;
  copy(endpoint: IEndpoint, what: Copied): void;
  tryOut(endpoint: IEndpoint): void;
  /** Serve `version`; null is the one before. */
  rollback(endpoint: IEndpoint, version: number | null): void;
  canary(endpoint: IEndpoint, version: number, percent: number): Promise<void>;
  undeploy(endpoint: IEndpoint): void;
}
