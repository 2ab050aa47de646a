/** What the buttons do: the view calls these and knows nothing of JupyterLab. */
import { TranslationBundle } from '@jupyterlab/translation';

import { IEndpoint, IJob } from './api';

export interface Actions {
  readonly trans: TranslationBundle;
  openCurves(job: IJob): void;
  openLog(job: IJob): void;
  attach(job: IJob): void;
  stop(job: IJob): void;
  kill(job: IJob): void;
  copy(endpoint: IEndpoint, what: 'url' | 'curl' | 'python'): void;
  tryOut(endpoint: IEndpoint): void;
  rollback(endpoint: IEndpoint): void;
  undeploy(endpoint: IEndpoint): void;
}
