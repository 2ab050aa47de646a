/**
 * Outputs of runs that ended while their page did not look: put in place when it looks again.
 *
 * A kernel updates an output by an id that a page forgets when it is loaded anew; the output's
 * metadata, which the file keeps, still names the job.
 */
import { CodeCell } from '@jupyterlab/cells';
import type { IOutput } from '@jupyterlab/nbformat';
import { INotebookTracker, NotebookPanel } from '@jupyterlab/notebook';

import { Api, IOutputs } from './api';
import { IMark, markOf } from './marks';
import { Model } from './model';

const GRACE = 2000; // ms in which a kernel that is alive does it itself

export class MissedEnds {
  constructor(
    private readonly api: Api,
    model: Model,
    notebooks: INotebookTracker
  ) {
    notebooks.widgetAdded.connect((_, panel) => {
      void panel.context.ready.then(() => this.look(panel, null));
    });
    model.ended.connect((_, job) => {
      setTimeout(() => {
        notebooks.forEach(panel => void this.look(panel, job.id));
      }, GRACE);
    });
  }

  /** Put the outputs of a job, or of any that has ended, into a notebook that lacks them. */
  private async look(panel: NotebookPanel, job: string | null): Promise<void> {
    if (panel.isDisposed) {
      return;
    }
    const missed = new Set<string>();
    for (const mark of marks(panel)) {
      if (!mark.final && (job === null || mark.job === job)) {
        missed.add(mark.job);
      }
    }
    for (const id of missed) {
      let outputs: IOutputs;
      try {
        outputs = await this.api.outputs(id);
      } catch {
        continue; // it runs, or is another server's
      }
      place(panel, id, outputs);
    }
  }
}

function* marks(panel: NotebookPanel): Iterable<IMark> {
  for (const cell of panel.content.widgets) {
    if (cell instanceof CodeCell) {
      const { outputs } = cell.model;
      for (let at = 0; at < outputs.length; at++) {
        const mark = markOf(outputs.get(at).metadata);
        if (mark) {
          yield mark;
        }
      }
    }
  }
}

function place(panel: NotebookPanel, job: string, parts: IOutputs): void {
  if (panel.isDisposed) {
    return;
  }
  for (const cell of panel.content.widgets) {
    if (!(cell instanceof CodeCell)) {
      continue;
    }
    const { outputs } = cell.model;
    for (let at = 0; at < outputs.length; at++) {
      const mark = markOf(outputs.get(at).metadata);
      if (mark && mark.job === job && !mark.final) {
        outputs.set(at, {
          output_type: 'display_data',
          ...parts[mark.part]
        } as IOutput);
      }
    }
  }
}
