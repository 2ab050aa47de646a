import * as React from 'react';

import { Actions } from './actions';
import { IGpu, IHost } from './api';
import { formatBytes } from './format';
import { Meter, Row } from './parts';

export function Hosts(props: {
  hosts: IHost[];
  actions: Actions;
}): JSX.Element {
  return (
    <ul className="nbaas-List">
      {props.hosts.map(host => (
        <Host key={host.name} host={host} actions={props.actions} />
      ))}
    </ul>
  );
}

function Host(props: { host: IHost; actions: Actions }): JSX.Element {
  const { host, actions } = props;
  const { trans } = actions;
  const busy = host.gpus.filter(gpu => gpu.jobs.length > 0);
  const free = host.gpus.filter(gpu => gpu.jobs.length === 0);
  return (
    <li className="nbaas-Item">
      <Row>
        <span className="nbaas-Name nbaas-mod-plain">{host.name}</span>
        <span className="nbaas-Quiet">
          {host.gpus.length === 0
            ? trans.__('no GPU · %1 cores', host.cores)
            : trans.__('%1 of %2 GPUs free', free.length, host.gpus.length)}
        </span>
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
      {host.gpus.length === 0 && host.ranks === 0 && (
        <p className="nbaas-Empty">
          {trans.__('Ranks run on the CPU here:')} <code>--ranks 2</code>
        </p>
      )}
    </li>
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
