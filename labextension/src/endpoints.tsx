import * as React from 'react';

import { Actions } from './actions';
import { IEndpoint } from './api';
import { formatNumber, formatRate } from './format';
import { Chip, Empty, Row, SmallButton } from './parts';

export function Endpoints(props: {
  endpoints: IEndpoint[];
  actions: Actions;
}): JSX.Element {
  if (props.endpoints.length === 0) {
    return (
      <Empty
        text={props.actions.trans.__(
          'No model is deployed. After training, in a notebook:'
        )}
        code="%deploy model --name digits"
      />
    );
  }
  return (
    <ul className="nbaas-List">
      {props.endpoints.map(endpoint => (
        <Endpoint
          key={endpoint.name}
          endpoint={endpoint}
          actions={props.actions}
        />
      ))}
    </ul>
  );
}

/** 'version 3 · 2 of 2 ready · 41 req/s · p99 2.5 ms': what of it is known. */
export function trafficOf(endpoint: IEndpoint): string {
  const parts = [`${endpoint.ready} of ${endpoint.replicas} ready`];
  if (endpoint.requests_per_second) {
    parts.push(`${formatRate(endpoint.requests_per_second)} req/s`);
  } else {
    parts.push(`${formatNumber(endpoint.requests)} requests`);
  }
  if (endpoint.requests > 0) {
    parts.push(`p99 ${formatRate(endpoint.p99_ms)} ms`);
  }
  if (endpoint.errors > 0) {
    parts.push(`${formatNumber(endpoint.errors)} errors`);
  }
  return parts.join(' · ');
}

function Endpoint(props: {
  endpoint: IEndpoint;
  actions: Actions;
}): JSX.Element {
  const { endpoint, actions } = props;
  const { trans } = actions;
  const name = endpoint.name;
  return (
    <li className="nbaas-Item" data-endpoint={name}>
      <Row>
        <span className="nbaas-Name nbaas-mod-plain">{name}</span>
        <Chip state={endpoint.state} />
      </Row>
      {endpoint.reason && <div className="nbaas-Why">{endpoint.reason}</div>}
      <Row>
        <code className="nbaas-Url nbaas-Grow" title={endpoint.path}>
          {endpoint.path}
        </code>
        <SmallButton
          label={trans.__('Copy')}
          title={trans.__('Copy the URL of %1', name)}
          onClick={() => actions.copy(endpoint, 'url')}
        />
      </Row>
      <Row>
        <span className="nbaas-Quiet nbaas-Grow">
          {trans.__('version %1', endpoint.version)} · {trafficOf(endpoint)}
        </span>
      </Row>
      <Row>
        <SmallButton
          label={trans.__('Try')}
          title={trans.__('Send a request to %1', name)}
          onClick={() => actions.tryOut(endpoint)}
        />
        <SmallButton
          label="curl"
          title={trans.__('Copy a curl command that calls %1', name)}
          onClick={() => actions.copy(endpoint, 'curl')}
        />
        <SmallButton
          label="Python"
          title={trans.__('Copy Python that calls %1', name)}
          onClick={() => actions.copy(endpoint, 'python')}
        />
        <span className="nbaas-Grow" />
        {endpoint.versions.length > 1 && (
          <SmallButton
            label={trans.__('Roll back')}
            title={trans.__('Let %1 answer with the version before', name)}
            onClick={() => actions.rollback(endpoint)}
          />
        )}
        <SmallButton
          label={trans.__('Undeploy')}
          title={trans.__('Take %1 down', name)}
          danger
          onClick={() => actions.undeploy(endpoint)}
        />
      </Row>
    </li>
  );
}
