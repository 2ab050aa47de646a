/** The sidebar panel: Running, GPUs and hosts, Endpoints, Recent. */
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import { Message } from '@lumino/messaging';
import * as React from 'react';

import { Actions } from './actions';
import { Endpoints } from './endpoints';
import { Hosts } from './hosts';
import { RecentJobs, RunningJobs } from './jobs';
import { Model } from './model';

/** Which sections are folded, kept over a reload by its owner. */
export interface Folding {
  isOpen(section: string): boolean;
  setOpen(section: string, open: boolean): void;
}

export class Panel extends ReactWidget {
  constructor(
    private readonly model: Model,
    private readonly actions: Actions,
    private readonly folding: Folding
  ) {
    super();
    this.id = 'nbaas-panel';
    this.addClass('nbaas-Panel');
    this.node.setAttribute('role', 'region');
    this.node.setAttribute('aria-label', 'nbaas');
  }

  protected render(): JSX.Element {
    return (
      <UseSignal signal={this.model.changed}>
        {() => (
          <View
            model={this.model}
            actions={this.actions}
            folding={this.folding}
          />
        )}
      </UseSignal>
    );
  }

  protected onAfterShow(message: Message): void {
    super.onAfterShow(message);
    this.model.visible = true;
  }

  protected onAfterAttach(message: Message): void {
    super.onAfterAttach(message);
    if (this.isVisible) {
      this.model.visible = true;
    }
  }

  protected onBeforeHide(message: Message): void {
    this.model.visible = false;
    super.onBeforeHide(message);
  }
}

export function View(props: {
  model: Model;
  actions: Actions;
  folding: Folding;
}): JSX.Element {
  const { model, actions, folding } = props;
  const { trans } = actions;
  if (!model.loaded) {
    return (
      <p className="nbaas-Empty" role="status">
        {model.error || trans.__('Loading…')}
      </p>
    );
  }
  const { running, recent } = model;
  return (
    <>
      {model.error && (
        <p className="nbaas-Error" role="alert">
          {model.error}
        </p>
      )}
      <Section
        title={trans.__('Running')}
        id="running"
        count={running.length}
        folding={folding}
      >
        <RunningJobs jobs={running} actions={actions} />
      </Section>
      <Section
        title={trans.__('GPUs and hosts')}
        id="hosts"
        count={model.hosts.length + model.others.length}
        folding={folding}
      >
        <Hosts hosts={model.hosts} others={model.others} actions={actions} />
      </Section>
      <Section
        title={trans.__('Endpoints')}
        id="endpoints"
        count={model.endpoints.length}
        folding={folding}
      >
        <Endpoints
          endpoints={model.endpoints}
          now={model.asOf}
          actions={actions}
        />
      </Section>
      <Section
        title={trans.__('Recent')}
        id="recent"
        count={model.finished}
        folding={folding}
      >
        <RecentJobs
          jobs={recent}
          finished={model.finished}
          now={model.asOf}
          more={count => void model.more(count)}
          actions={actions}
        />
      </Section>
    </>
  );
}

function Section(props: {
  title: string;
  id: string;
  count: number;
  folding: Folding;
  children: React.ReactNode;
}): JSX.Element {
  const { id, folding } = props;
  return (
    <details
      className="nbaas-Section"
      data-section={id}
      open={folding.isOpen(id)}
      onToggle={event => folding.setOpen(id, event.currentTarget.open)}
    >
      <summary className="nbaas-Title">
        {props.title}
        <span className="nbaas-Count">{props.count}</span>
      </summary>
      {props.children}
    </details>
  );
}
