/** A finished run in its cell: the panel once more, drawn from what the notebook itself holds. */
import { IRenderMime } from '@jupyterlab/rendermime';
import { Widget } from '@lumino/widgets';
import uPlot from 'uplot';

import { createPanel } from '../../nbaas/widgets/front/panel.js';
import { Api } from './api';
import { IStoredRun, MIME, readStored } from './stored';

const TAIL = 64 << 10; // bytes of a log that are shown
const RANK = -20; // before the widget's -10, and so before image and text

class RunRenderer extends Widget implements IRenderMime.IRenderer {
  constructor(private readonly api: Api) {
    super();
    this.addClass('nbaas-Run');
  }

  renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    const stored = readStored(model.data[MIME]);
    this.panel?.destroy();
    this.node.replaceChildren();
    if (stored === null) {
      this.node.textContent = String(model.data['text/plain'] ?? '');
      return Promise.resolve();
    }
    const root = this.node.appendChild(document.createElement('div'));
    const panel = createPanel(uPlot, root, {
      send: message => void this.answer(stored, message)
    });
    this.panel = panel;
    panel.update(stored.view);
    panel.data(stored.message, stored.buffers);
    return Promise.resolve();
  }

  dispose(): void {
    this.panel?.destroy();
    this.panel = null;
    super.dispose();
  }

  /** What a kernel would answer: pictures are here, logs are with the server as long as the job is. */
  private async answer(
    stored: IStoredRun,
    message: { kind: string; [key: string]: unknown }
  ): Promise<void> {
    if (message.kind === 'picture') {
      for (const picture of stored.pictures) {
        if ((picture.message as { name?: unknown }).name === message.name) {
          this.panel?.data(picture.message, picture.buffers);
        }
      }
    } else if (message.kind === 'log' && typeof message.rank === 'number') {
      const rank = message.rank;
      let text: string;
      try {
        const part = await this.api.log(
          String(stored.view.id),
          rank,
          null,
          TAIL
        );
        text = part.text || 'nothing printed';
      } catch {
        text = 'The log is not here any more.';
      }
      this.panel?.data({ kind: 'log', rank, text }, []);
    }
  }

  private panel: ReturnType<typeof createPanel> | null = null;
}

export function runRenderer(api: Api): IRenderMime.IRendererFactory {
  return {
    safe: true, // it draws numbers and sets text
    mimeTypes: [MIME],
    defaultRank: RANK,
    createRenderer: () => new RunRenderer(api)
  };
}
