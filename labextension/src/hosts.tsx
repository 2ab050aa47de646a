/** Hosts: what they have, who uses it, how much is free, and what they lack. */
import * as React from 'react';

import { Actions } from './actions';
import { IFact, IGpu, IHost, IHostJob, IOtherHost } from './api';
import { formatBytes } from './format';
import { Chip, Meter, Row, SmallButton } from './parts';

export function Hosts(props: {
  hosts: IHost[];
  others: IOtherHost[];
  actions: Actions;
}): JSX.Element {
  return (
    <ul className="nbaas-List">
      {props.hosts.map(host => (
        <Host key={host.name} host={host} actions={props.actions} />
      ))}
      {props.others.map(host => (
        <Other key={host.name} host={host} actions={props.actions} />
      ))}
    </ul>
  );
}

/** '2 of 4 GPUs free', '1 of 2 cores free'. */
export function freeOf(host: IHost, actions: Actions): string {
  const gpus = host.gpus.length;
  return gpus > 0
    ? actions.trans.__('%1 of %2 GPUs free', host.free, gpus)
    : actions.trans.__('%1 of %2 cores free', host.free, host.cores);
}

function Host(props: { host: IHost; actions: Actions }): JSX.Element {
  const { host, actions } = props;
  const { trans } = actions;
  const busy = host.gpus.filter(gpu => gpu.jobs.length > 0);
  const free = host.gpus.filter(gpu => gpu.jobs.length === 0);
  return (
    <li className="nbaas-Item" data-host={host.name}>
      <Row>
        <span className="nbaas-Name nbaas-mod-plain">{host.name}</span>
        <span className="nbaas-Quiet">{freeOf(host, actions)}</span>
      </Row>
      <Meter
        value={host.load / host.cores}
        label={trans.__('Load of %1', host.name)}
        text={trans.__('load %1 of %2', host.load.toFixed(1), host.cores)}
      />
      <Meter
        value={host.memory_used / host.memory_total}
        label={trans.__('Memory of %1', host.name)}
        text={`${formatBytes(host.memory_used)} / ${formatBytes(host.memory_total)}`}
      />
      {busy.map(gpu => (
        <Gpu key={gpu.index} gpu={gpu} actions={actions} />
      ))}
      {free.length > 0 && (
        <details className="nbaas-Ranks">
          <summary>{trans.__('%1 free', free.length)}</summary>
          {free.map(gpu => (
            <Gpu key={gpu.index} gpu={gpu} actions={actions} />
          ))}
        </details>
      )}
      <Users jobs={host.jobs} actions={actions} />
      {host.gpus.length === 0 && host.ranks === 0 && (
        <p className="nbaas-Empty">
          {trans.__('No GPU: ranks run on the cores.')} <code>--ranks 2</code>
        </p>
      )}
      <Check host={host} actions={actions} />
    </li>
  );
}

function Other(props: { host: IOtherHost; actions: Actions }): JSX.Element {
  const { host, actions } = props;
  const { trans } = actions;
  return (
    <li className="nbaas-Item" data-host={host.name}>
      <Row>
        <span className="nbaas-Name nbaas-mod-plain">{host.name}</span>
        {host.state === 'ready' ? (
          <Chip state={host.state} />
        ) : (
          <span className="nbaas-Quiet">
            {host.state === '' && trans.__('asking…')}
          </span>
        )}
      </Row>
      {host.state !== '' && host.state !== 'ready' && (
        <div className="nbaas-Why">
          {host.state}
          {host.hint && ` (${host.hint})`}
        </div>
      )}
      <div className="nbaas-Quiet">
        {[
          host.slots === null
            ? trans.__('one rank per GPU')
            : trans.__('%1 slots', host.slots),
          host.free && trans.__('%1 free', host.free),
          host.jobs.length === 0 && trans.__('no rank of yours')
        ]
          .filter(Boolean)
          .join(' · ')}
      </div>
      <Users jobs={host.jobs} actions={actions} />
    </li>
  );
}

function Users(props: {
  jobs: IHostJob[];
  actions: Actions;
}): JSX.Element | null {
  const { jobs, actions } = props;
  if (jobs.length === 0) {
    return null;
  }
  return (
    <ul className="nbaas-Users" aria-label={actions.trans.__('In use by')}>
      {jobs.map(job => (
        <li key={job.name}>
          <span>{job.name}</span>
          <span className="nbaas-Quiet">
            {actions.trans._n('%1 rank', '%1 ranks', job.ranks)}
          </span>
        </li>
      ))}
    </ul>
  );
}

/** A button, and below it what the host has and lacks. */
function Check(props: { host: IHost; actions: Actions }): JSX.Element {
  const { host, actions } = props;
  const { trans } = actions;
  const [facts, setFacts] = React.useState<IFact[] | null>(null);
  const [busy, setBusy] = React.useState(false);
  const check = async (): Promise<void> => {
    setBusy(true);
    try {
      setFacts(await actions.check());
    } finally {
      setBusy(false);
    }
  };
  const lacking = facts?.filter(fact => !fact.ok).length ?? 0;
  return (
    <>
      <Row>
        <span className="nbaas-Quiet nbaas-Grow" role="status">
          {facts &&
            (lacking === 0
              ? trans.__('Nothing is missing.')
              : trans.__('%1 missing', lacking))}
        </span>
        {facts && (
          <SmallButton
            label={trans.__('Close')}
            title={trans.__('Close the check of %1', host.name)}
            onClick={() => setFacts(null)}
          />
        )}
        <SmallButton
          label={busy ? trans.__('Checking…') : trans.__('Check')}
          title={trans.__('Check what %1 has and lacks', host.name)}
          disabled={busy}
          onClick={() => void check()}
        />
      </Row>
      {facts && (
        <ul className="nbaas-Facts">
          {facts.map(fact => (
            <li key={fact.name} data-ok={fact.ok}>
              <span aria-hidden="true">{fact.ok ? '✓' : '✗'}</span>{' '}
              <strong>{fact.name}</strong> {fact.text}
              {!fact.ok && fact.hint && <code>{fact.hint}</code>}
            </li>
          ))}
        </ul>
      )}
    </>
  );
}

function Gpu(props: { gpu: IGpu; actions: Actions }): JSX.Element {
  const { gpu, actions } = props;
  const facts = [
    gpu.use === null ? '' : `${gpu.use} %`,
    gpu.temperature === null ? '' : `${gpu.temperature} °C`
  ].filter(fact => fact !== '');
  return (
    <div className="nbaas-Gpu">
      <Row>
        <span className="nbaas-Grow">
          {gpu.index} {gpu.name}
        </span>
        <span className="nbaas-Quiet">{facts.join(' · ')}</span>
      </Row>
      <Meter
        value={gpu.memory_total ? gpu.memory_used / gpu.memory_total : 0}
        label={actions.trans.__('Memory of GPU %1', gpu.index)}
        text={`${formatBytes(gpu.memory_used)} / ${formatBytes(gpu.memory_total)}`}
      />
      {gpu.jobs.length > 0 && (
        <span className="nbaas-Quiet">{gpu.jobs.join(', ')}</span>
      )}
    </div>
  );
}
