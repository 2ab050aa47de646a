/** The commands: what the buttons, the palette and the launcher run. */
import { ILabShell, JupyterFrontEnd } from '@jupyterlab/application';
import {
  Clipboard,
  Dialog,
  ICommandPalette,
  InputDialog,
  MainAreaWidget,
  Notification,
  showDialog,
  WidgetTracker
} from '@jupyterlab/apputils';
import { INotebookTracker, NotebookActions } from '@jupyterlab/notebook';
import { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import { AttachedProperty } from '@lumino/properties';

import { Actions, Copied } from './actions';
import { ApiError, IEndpoint, IFact, IJob } from './api';
import { CurvesView } from './curves';
import { ringIcon } from './icons';
import { canResume } from './jobs';
import { LogView } from './log';
import { Model } from './model';
import {
  curlOf,
  looksLikeTraining,
  pythonOf,
  withTrainMagic
} from './snippets';
import { TryOutView } from './tryout';

export const CommandIDs = {
  show: 'nbaas:show-panel',
  refresh: 'nbaas:refresh',
  log: 'nbaas:open-log',
  curves: 'nbaas:open-curves',
  tryOut: 'nbaas:try-endpoint',
  stop: 'nbaas:stop-job',
  kill: 'nbaas:kill-job',
  resume: 'nbaas:resume-job',
  attach: 'nbaas:attach-job',
  rollback: 'nbaas:roll-back-endpoint',
  canary: 'nbaas:share-of-canary',
  undeploy: 'nbaas:undeploy-endpoint',
  runOnRanks: 'nbaas:run-on-ranks',
  reopen: 'nbaas:reopen-tab'
} as const;

const TABS = [CommandIDs.log, CommandIDs.curves, CommandIDs.tryOut];

/** What a tab shows, enough to open it again after a reload. */
export const tabCommand = new AttachedProperty<
  MainAreaWidget<ReactWidget>,
  { command: string; args: Record<string, string> }
>({ name: 'tabCommand', create: () => ({ command: '', args: {} }) });

/** What commands need of JupyterLab. */
export interface Surroundings {
  app: JupyterFrontEnd;
  model: Model;
  trans: TranslationBundle;
  tracker: WidgetTracker<MainAreaWidget<ReactWidget>>;
  notebooks: INotebookTracker | null;
  labShell: ILabShell | null;
  /** How many ranks "Run on ranks…" proposes. */
  ranks: () => number;
}

/** Return the buttons' actions: each runs the command of that name. */
export function actionsOf(app: JupyterFrontEnd, around: Surroundings): Actions {
  const run = (id: string, args: Record<string, string | number>): void => {
    void app.commands.execute(id, args);
  };
  const named = (job: IJob): Record<string, string> => ({
    id: job.id,
    name: job.name
  });
  return {
    trans: around.trans,
    openCurves: job => run(CommandIDs.curves, named(job)),
    openLog: job => run(CommandIDs.log, named(job)),
    attach: job => run(CommandIDs.attach, named(job)),
    stop: job => run(CommandIDs.stop, named(job)),
    kill: job => run(CommandIDs.kill, named(job)),
    resume: job => run(CommandIDs.resume, named(job)),
    check: () => checked(around),
    copy: (endpoint, what) => void copy(around, endpoint, what),
    tryOut: endpoint => run(CommandIDs.tryOut, { name: endpoint.name }),
    rollback: (endpoint, version) =>
      run(CommandIDs.rollback, {
        name: endpoint.name,
        ...(version === null ? {} : { version })
      }),
    canary: async (endpoint, version, percent) => {
      const args = { name: endpoint.name, version, percent };
      await app.commands.execute(CommandIDs.canary, args);
    },
    undeploy: endpoint => run(CommandIDs.undeploy, { name: endpoint.name })
  };
}

export function addCommands(around: Surroundings): void {
  around.app.commands.addCommand(CommandIDs.reopen, {
    label: around.trans.__('Open a tab again'),
    execute: args => {
      const { command, args: inner } = args as {
        command: string;
        args: Record<string, string>;
      };
      return TABS.includes(command as (typeof TABS)[number])
        ? around.app.commands.execute(command, inner)
        : undefined;
    }
  });
  addJobCommands(around);
  addEndpointCommands(around);
  addNotebookCommands(around);
}

function addJobCommands(around: Surroundings): void {
  const { app, model, trans } = around;
  app.commands.addCommand(CommandIDs.refresh, {
    label: trans.__('Refresh jobs and endpoints'),
    execute: () => model.refresh()
  });
  app.commands.addCommand(CommandIDs.log, {
    label: trans.__('Open the log of a job'),
    execute: async args => {
      const job = await jobFrom(around, args);
      if (job) {
        const view = new LogView(model.api, job, trans);
        const title = trans.__('Log: %1', job.name);
        open(around, view, title, CommandIDs.log, {
          id: job.id,
          name: job.name
        });
      }
    }
  });
  app.commands.addCommand(CommandIDs.curves, {
    label: trans.__('Open the curves of a job'),
    execute: async args => {
      const job = await jobFrom(around, args);
      if (job) {
        const view = new CurvesView(model.api, job, () => model.jobs, trans);
        open(around, view, job.name, CommandIDs.curves, {
          id: job.id,
          name: job.name
        });
      }
    }
  });
  app.commands.addCommand(CommandIDs.stop, {
    label: trans.__('Stop a job after its step'),
    execute: async args => {
      const job = await jobFrom(around, args, around.model.running);
      if (job) {
        await told(around, () => model.api.stop(job.id));
      }
    }
  });
  app.commands.addCommand(CommandIDs.resume, {
    label: trans.__('Resume a job from its checkpoint'),
    execute: async args => {
      const job = await jobFrom(around, args, model.jobs.filter(canResume));
      if (job) {
        await told(around, () => model.api.resume(job.id));
      }
    }
  });
  app.commands.addCommand(CommandIDs.kill, {
    label: trans.__('Kill a job'),
    execute: async args => {
      const job = await jobFrom(around, args, around.model.running);
      const sure =
        job &&
        (await confirmed(
          around,
          trans.__('Kill %1?', job.name),
          trans.__(
            'Its ranks end at once; what the last steps learned is lost.'
          ),
          trans.__('Kill')
        ));
      if (job && sure) {
        await told(around, () => model.api.kill(job.id));
      }
    }
  });
}

function addEndpointCommands(around: Surroundings): void {
  const { app, model, trans } = around;
  app.commands.addCommand(CommandIDs.tryOut, {
    label: trans.__('Try an endpoint'),
    execute: async args => {
      const endpoint = await endpointFrom(around, args);
      if (endpoint) {
        const view = new TryOutView(model.api, endpoint, trans);
        const title = trans.__('Try: %1', endpoint.name);
        open(around, view, title, CommandIDs.tryOut, { name: endpoint.name });
      }
    }
  });
  app.commands.addCommand(CommandIDs.rollback, {
    label: trans.__('Roll an endpoint back'),
    execute: async args => {
      const endpoint = await endpointFrom(around, args);
      const version = typeof args.version === 'number' ? args.version : null;
      const sure =
        endpoint &&
        (await confirmed(
          around,
          version === null
            ? trans.__('Roll %1 back?', endpoint.name)
            : trans.__('Serve version %2 of %1?', endpoint.name, version),
          version === null
            ? endpoint.canary
              ? trans.__('Its canary is withdrawn.')
              : trans.__('The version before answers from then on.')
            : trans.__('It answers every request from then on.'),
          version === null ? trans.__('Roll back') : trans.__('Serve')
        ));
      if (endpoint && sure) {
        await told(around, () => model.api.rollback(endpoint.name, version));
      }
    }
  });
  app.commands.addCommand(CommandIDs.canary, {
    label: trans.__('Change the share of a canary'),
    execute: async args => {
      const endpoint = await endpointFrom(around, args);
      const version = Number(args.version ?? endpoint?.canary?.version ?? 0);
      if (!endpoint || !version) {
        if (endpoint) {
          Notification.info(
            trans.__('No canary: a version gets one in the list of versions.'),
            { autoClose: 4000 }
          );
        }
        return;
      }
      const percent =
        typeof args.percent === 'number'
          ? args.percent
          : ((
              await InputDialog.getNumber({
                title: trans.__('Percent of the requests for the canary'),
                value: endpoint.canary?.percent ?? 10
              })
            ).value ?? null);
      if (percent !== null) {
        await told(around, () =>
          model.api.canary(endpoint.name, version, percent)
        );
      }
    }
  });
  app.commands.addCommand(CommandIDs.undeploy, {
    label: trans.__('Undeploy an endpoint'),
    execute: async args => {
      const endpoint = await endpointFrom(around, args);
      const sure =
        endpoint &&
        (await confirmed(
          around,
          trans.__('Undeploy %1?', endpoint.name),
          trans.__('Its URL stops answering. The versions stay on disk.'),
          trans.__('Undeploy')
        ));
      if (endpoint && sure) {
        await told(around, () => model.api.undeploy(endpoint.name));
      }
    }
  });
}

function addNotebookCommands(around: Surroundings): void {
  const { app, trans, notebooks } = around;
  app.commands.addCommand(CommandIDs.attach, {
    label: trans.__('Attach a job in the notebook'),
    isEnabled: () => notebooks?.currentWidget != null,
    execute: async args => {
      const job = await jobFrom(around, args);
      const panel = notebooks?.currentWidget;
      if (job && panel) {
        NotebookActions.insertBelow(panel.content);
        panel.content.activeCell?.model.sharedModel.setSource(
          `%attach ${job.name}`
        );
        app.shell.activateById(panel.id);
      } else if (job) {
        Notification.info(
          trans.__('Open a notebook to attach %1 in.', job.name),
          {
            autoClose: 4000
          }
        );
      }
    }
  });
  const source = (): string =>
    notebooks?.activeCell?.model.type === 'code'
      ? notebooks.activeCell.model.sharedModel.getSource()
      : '';
  app.commands.addCommand(CommandIDs.runOnRanks, {
    label: trans.__('Run on ranks…'),
    caption: trans.__('Add %%train to this cell'),
    icon: ringIcon,
    isVisible: () => looksLikeTraining(source()),
    isEnabled: () => source() !== '',
    execute: async () => {
      const cell = notebooks?.activeCell;
      const asked = await InputDialog.getNumber({
        title: trans.__('Run this cell on how many ranks?'),
        value: around.ranks()
      });
      const ranks = Math.floor(asked.value ?? 0);
      if (cell && asked.button.accept && ranks >= 1) {
        const text = cell.model.sharedModel.getSource();
        cell.model.sharedModel.setSource(withTrainMagic(text, ranks));
        app.commands.notifyCommandChanged(CommandIDs.runOnRanks);
      }
    }
  });
}

/** Add the commands that need no argument to the palette. */
export function addToPalette(
  palette: ICommandPalette,
  trans: TranslationBundle
): void {
  const listed = Object.values(CommandIDs).filter(
    command => command !== CommandIDs.reopen
  );
  for (const command of listed) {
    palette.addItem({ command, category: trans.__('Training and serving') });
  }
}

/** Show a view in the main area; one that is open already is brought to the front. */
function open(
  around: Surroundings,
  content: ReactWidget,
  title: string,
  command: string,
  args: Record<string, string>
): void {
  const { app, tracker } = around;
  const id = `${command}-${args.id ?? args.name}`;
  const before = tracker.find(widget => widget.id === id);
  if (before) {
    content.dispose();
    app.shell.activateById(before.id);
    return;
  }
  const widget = new MainAreaWidget({ content });
  widget.id = id;
  widget.title.label = title;
  widget.title.closable = true;
  widget.title.icon = ringIcon;
  tabCommand.set(widget, { command, args });
  void tracker.add(widget);
  // Notebook 7 has one document in its main area; a tab of ours goes below it.
  if (!around.labShell) {
    widget.addClass('nbaas-mod-below');
  }
  app.shell.add(widget, around.labShell ? 'main' : 'down');
  app.shell.activateById(id);
}

type Args = Readonly<Record<string, unknown>>;

/** The job named by the arguments, else the one the person picks. */
async function jobFrom(
  around: Surroundings,
  args: Args,
  among: IJob[] | null = null
): Promise<Pick<IJob, 'id' | 'name'> | null> {
  if (typeof args.id === 'string' && typeof args.name === 'string') {
    return { id: args.id, name: args.name };
  }
  const { model, trans } = around;
  if (!model.loaded) {
    await told(around, () => model.refresh());
  }
  const jobs = among ?? model.jobs;
  const names = jobs.map(job => `${job.name} (${job.state.toLowerCase()})`);
  const picked = await pick(trans.__('Which job?'), names, trans);
  return picked === null ? null : (jobs[picked] ?? null);
}

async function endpointFrom(
  around: Surroundings,
  args: Args
): Promise<IEndpoint | null> {
  const { model, trans } = around;
  if (!model.loaded) {
    await told(around, () => model.refresh());
  }
  if (typeof args.name === 'string') {
    return model.endpoints.find(one => one.name === args.name) ?? null;
  }
  const names = model.endpoints.map(endpoint => endpoint.name);
  const picked = await pick(trans.__('Which endpoint?'), names, trans);
  return picked === null ? null : (model.endpoints[picked] ?? null);
}

async function pick(
  title: string,
  names: string[],
  trans: TranslationBundle
): Promise<number | null> {
  if (names.length === 0) {
    Notification.info(trans.__('There is none.'), { autoClose: 3000 });
    return null;
  }
  const answer = await InputDialog.getItem({ title, items: names });
  return answer.button.accept && answer.value !== null
    ? names.indexOf(answer.value)
    : null;
}

async function confirmed(
  around: Surroundings,
  title: string,
  body: string,
  label: string
): Promise<boolean> {
  const answer = await showDialog({
    title,
    body,
    buttons: [
      Dialog.cancelButton({ label: around.trans.__('Cancel') }),
      Dialog.warnButton({ label })
    ]
  });
  return answer.button.accept;
}

/** Run an action, look at what became of it, and say what went wrong. */
async function told(
  around: Surroundings,
  action: () => Promise<void>
): Promise<void> {
  try {
    await around.model.act(action);
  } catch (failed) {
    Notification.error(reasonOf(failed), { autoClose: 8000 });
  }
}

/** What the host has and lacks; null, and a word why, where the server does not answer. */
async function checked(around: Surroundings): Promise<IFact[] | null> {
  try {
    return await around.model.api.check();
  } catch (failed) {
    Notification.error(reasonOf(failed), { autoClose: 8000 });
    return null;
  }
}

async function copy(
  around: Surroundings,
  endpoint: IEndpoint,
  what: Copied
): Promise<void> {
  const { model, trans } = around;
  const url = model.api.url(endpoint.path);
  const text = {
    url: () => url,
    curl: () => curlOf(url, endpoint),
    python: () => pythonOf(url, endpoint),
    token: () => model.api.token(endpoint.name)
  }[what];
  try {
    Clipboard.copyToSystem(await text());
  } catch (failed) {
    Notification.error(reasonOf(failed), { autoClose: 8000 });
    return;
  }
  const said = {
    url: trans.__('The URL of %1 is copied.', endpoint.name),
    curl: trans.__('Copied; put the token into NBAAS_TOKEN.'),
    python: trans.__('Copied; put the token into NBAAS_TOKEN.'),
    token: trans.__('The token of %1 is copied: keep it secret.', endpoint.name)
  };
  Notification.info(said[what], { autoClose: 2500 });
}

function reasonOf(failed: unknown): string {
  return failed instanceof ApiError ? failed.text : String(failed);
}
