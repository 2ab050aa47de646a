/** The plug-in: puts the panel, the commands and their tabs into JupyterLab. */
import {
  ILabShell,
  ILayoutRestorer,
  JupyterFrontEnd,
  JupyterFrontEndPlugin
} from '@jupyterlab/application';
import {
  ICommandPalette,
  MainAreaWidget,
  Notification,
  WidgetTracker
} from '@jupyterlab/apputils';
import { ILauncher } from '@jupyterlab/launcher';
import { INotebookTracker } from '@jupyterlab/notebook';
import { IRenderMimeRegistry } from '@jupyterlab/rendermime';
import { ISettingRegistry } from '@jupyterlab/settingregistry';
import { ITranslator, nullTranslator } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';

import { Api, IJob } from './api';
import {
  actionsOf,
  addCommands,
  addToPalette,
  CommandIDs,
  Surroundings,
  tabCommand
} from './commands';
import { StoredFolding } from './folding';
import { ringIcon } from './icons';
import { Live } from './live';
import { Model } from './model';
import { MissedEnds } from './outputs';
import { Panel } from './panel';
import { runRenderer } from './run';

const PLUGIN = 'nbaas:plugin';

const plugin: JupyterFrontEndPlugin<void> = {
  id: PLUGIN,
  description: 'Jobs, GPUs and endpoints of nbaas.',
  autoStart: true,
  optional: [
    ILabShell,
    ILayoutRestorer,
    ICommandPalette,
    ILauncher,
    INotebookTracker,
    ISettingRegistry,
    ITranslator,
    IRenderMimeRegistry
  ],
  activate: (
    app: JupyterFrontEnd,
    labShell: ILabShell | null,
    restorer: ILayoutRestorer | null,
    palette: ICommandPalette | null,
    launcher: ILauncher | null,
    notebooks: INotebookTracker | null,
    settings: ISettingRegistry | null,
    translator: ITranslator | null,
    rendermime: IRenderMimeRegistry | null
  ): void => {
    const trans = (translator ?? nullTranslator).load('nbaas');
    const api = new Api(app.serviceManager.serverSettings);
    const live = new Live(app.serviceManager.serverSettings);
    const model = new Model(api, live);
    const chosen = { notify: true, ranks: 2 };
    const tracker = new WidgetTracker<MainAreaWidget<ReactWidget>>({
      namespace: 'nbaas-tabs'
    });
    const around: Surroundings = {
      app,
      model,
      trans,
      tracker,
      notebooks,
      labShell,
      ranks: () => chosen.ranks
    };
    const actions = actionsOf(app, around);
    const panel = new Panel(model, actions, new StoredFolding());
    panel.title.icon = ringIcon;
    panel.title.caption = trans.__('Training and serving');
    app.shell.add(panel, 'left', { rank: 600 });
    app.commands.addCommand(CommandIDs.show, {
      label: trans.__('Training and serving'),
      caption: trans.__('Show jobs, GPUs and endpoints'),
      icon: ringIcon,
      execute: () => app.shell.activateById(panel.id)
    });
    addCommands(around);
    restorer?.add(panel, panel.id);
    if (restorer) {
      restoreTabs(around, restorer);
    }
    if (palette) {
      addToPalette(palette, trans);
    }
    launcher?.add({
      command: CommandIDs.show,
      category: trans.__('Other'),
      rank: 50
    });
    notebooks?.activeCellChanged.connect(() => {
      app.commands.notifyCommandChanged(CommandIDs.runOnRanks);
    });
    rendermime?.addFactory(runRenderer(api));
    if (notebooks) {
      new MissedEnds(api, model, notebooks);
    }
    void settings?.load(PLUGIN).then(loaded => {
      const read = (): void => {
        chosen.notify = loaded.get('notify').composite !== false;
        chosen.ranks = Number(loaded.get('ranks').composite ?? 2);
      };
      loaded.changed.connect(read);
      read();
    });
    model.ended.connect((_, job) => {
      if (chosen.notify) {
        announce(around, job);
      }
    });
  }
};

/** Open the tabs of the last visit again: what each shows is asked of the server anew. */
function restoreTabs(around: Surroundings, restorer: ILayoutRestorer): void {
  void restorer.restore(around.tracker, {
    command: CommandIDs.reopen,
    args: widget => tabCommand.get(widget),
    name: widget => widget.id
  });
}

function announce(around: Surroundings, job: IJob): void {
  const { app, trans } = around;
  const good = job.state === 'SUCCEEDED' || job.state === 'STOPPED';
  const text = good
    ? trans.__('%1 has finished.', job.name)
    : trans.__('%1: %2. %3', job.name, job.state.toLowerCase(), job.reason);
  const open = {
    label: trans.__('Log'),
    callback: () =>
      void app.commands.execute(CommandIDs.log, { id: job.id, name: job.name })
  };
  Notification.emit(text, good ? 'success' : 'error', {
    autoClose: 10000,
    actions: [open]
  });
}

export default plugin;
