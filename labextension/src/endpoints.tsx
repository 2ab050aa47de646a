/** Endpoints: state, traffic and latency, versions, canary, and what one does with them. */
import * as React from 'react';

import { Actions, Copied } from './actions';
import { IEndpoint, IShare, IVersion } from './api';
import { formatAgo, formatNumber, formatRate } from './format';
import { Chip, Empty, Row, SmallButton } from './parts';
import { Spark } from './spark';

const RESTS = 500; // ms after which a slider that was not moved rests
const FIRST_SHARE = 10; // percent of the requests that a new canary gets

export function Endpoints(props: {
  endpoints: IEndpoint[];
  now: number;
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
          now={props.now}
          actions={props.actions}
        />
      ))}
    </ul>
  );
}

/** '1 of 2 ready · 1,200 requests · 3 errors': what is counted. */
export function countsOf(endpoint: IEndpoint): string {
  const parts = [
    `${endpoint.ready} of ${endpoint.replicas} ready`,
    `${formatNumber(endpoint.requests)} requests`
  ];
  if (endpoint.errors > 0) {
    parts.push(`${formatNumber(endpoint.errors)} errors`);
  }
  return parts.join(' · ');
}

function Endpoint(props: {
  endpoint: IEndpoint;
  now: number;
  actions: Actions;
}): JSX.Element {
  const { endpoint, actions } = props;
  const { trans } = actions;
  const name = endpoint.name;
  const [open, setOpen] = React.useState(false);
  const copies: [Copied, string, string][] = [
    ['url', 'URL', trans.__('Copy the URL of %1', name)],
    ['curl', 'curl', trans.__('Copy a curl command that calls %1', name)],
    ['python', 'Python', trans.__('Copy Python that calls %1', name)],
    ['token', trans.__('Token'), trans.__('Copy the token of %1', name)]
  ];
  return (
    <li className="nbaas-Item" data-endpoint={name}>
      <Row>
        <span className="nbaas-Name nbaas-mod-plain">{name}</span>
        <Chip state={endpoint.state} />
      </Row>
      {endpoint.reason && <div className="nbaas-Why">{endpoint.reason}</div>}
      {endpoint.notice && <div className="nbaas-Note">{endpoint.notice}</div>}
      <code className="nbaas-Url" title={endpoint.path}>
        {endpoint.path}
      </code>
      <Curve
        values={endpoint.traffic}
        label={trans.__('Traffic of %1', name)}
        text={`${formatRate(endpoint.requests_per_second ?? 0)} req/s`}
      />
      <Curve
        values={endpoint.latency}
        label={trans.__('Latency of %1', name)}
        text={
          endpoint.requests > 0 ? `p99 ${formatRate(endpoint.p99_ms)} ms` : ''
        }
      />
      <div className="nbaas-Quiet">{countsOf(endpoint)}</div>
      {endpoint.canary && (
        <Canary
          endpoint={endpoint}
          canary={endpoint.canary}
          actions={actions}
        />
      )}
      <Row>
        <SmallButton
          label={trans.__('Try')}
          title={trans.__('Send a request to %1', name)}
          onClick={() => actions.tryOut(endpoint)}
        />
        <span className="nbaas-Grow" />
        <span
          className="nbaas-Group"
          role="group"
          aria-label={trans.__('Copy')}
        >
          {copies.map(([what, label, title]) => (
            <SmallButton
              key={what}
              label={label}
              title={title}
              onClick={() => actions.copy(endpoint, what)}
            />
          ))}
        </span>
      </Row>
      <Row>
        <button
          className="nbaas-Fold nbaas-Quiet nbaas-Grow"
          aria-expanded={open}
          onClick={() => setOpen(!open)}
        >
          {open ? '▾' : '▸'}{' '}
          {trans.__(
            'version %1 of %2',
            endpoint.version,
            endpoint.versions.length
          )}
        </button>
        {endpoint.versions.length > 1 && (
          <SmallButton
            label={trans.__('Roll back')}
            title={trans.__('Let %1 answer with the version before', name)}
            onClick={() => actions.rollback(endpoint, null)}
          />
        )}
        <SmallButton
          label={trans.__('Undeploy')}
          title={trans.__('Take %1 down', name)}
          danger
          onClick={() => actions.undeploy(endpoint)}
        />
      </Row>
      {open && (
        <Versions endpoint={endpoint} now={props.now} actions={actions} />
      )}
    </li>
  );
}

function Curve(props: {
  values: readonly (number | null)[];
  label: string;
  text: string;
}): JSX.Element | null {
  if (props.text === '') {
    return null;
  }
  return (
    <Row>
      <span className="nbaas-Grow nbaas-SparkBox">
        <Spark values={props.values} label={props.label} floor={0} />
      </span>
      <span className="nbaas-Value">{props.text}</span>
    </Row>
  );
}

function Versions(props: {
  endpoint: IEndpoint;
  now: number;
  actions: Actions;
}): JSX.Element {
  const { endpoint, actions } = props;
  const { trans } = actions;
  const roleOf = (version: IVersion): string => {
    if (version.current) {
      return trans.__('current');
    }
    if (version.version === endpoint.canary?.version) {
      return trans.__('canary');
    }
    return version.version === endpoint.shadow?.version
      ? trans.__('shadow')
      : '';
  };
  return (
    <ul className="nbaas-List nbaas-Versions">
      {[...endpoint.versions].reverse().map(version => (
        <li key={version.version} className="nbaas-Row">
          <span>{version.version}</span>
          <span className="nbaas-Quiet nbaas-Grow">
            {formatAgo(version.created, props.now)}
          </span>
          {roleOf(version) ? (
            <span className="nbaas-Quiet">{roleOf(version)}</span>
          ) : (
            <>
              {endpoint.canary === null && (
                <SmallButton
                  label={trans.__('Canary')}
                  title={trans.__(
                    'Give version %1 %2 % of the requests',
                    version.version,
                    FIRST_SHARE
                  )}
                  onClick={() =>
                    void actions.canary(endpoint, version.version, FIRST_SHARE)
                  }
                />
              )}
              <SmallButton
                label={trans.__('Serve')}
                title={trans.__(
                  'Let %1 answer with version %2',
                  endpoint.name,
                  version.version
                )}
                onClick={() => actions.rollback(endpoint, version.version)}
              />
            </>
          )}
        </li>
      ))}
    </ul>
  );
}

/** The share of a canary as a slider: sent once it rests, by pointer or by keys. */
function Canary(props: {
  endpoint: IEndpoint;
  canary: IShare;
  actions: Actions;
}): JSX.Element {
  const { endpoint, canary, actions } = props;
  const { trans } = actions;
  const [drawn, setDrawn] = React.useState<number | null>(null);
  const timer = React.useRef(0);
  const percent = drawn ?? canary.percent;
  React.useEffect(() => () => window.clearTimeout(timer.current), []);
  const draw = (share: number): void => {
    setDrawn(share);
    window.clearTimeout(timer.current);
    timer.current = window.setTimeout(() => {
      // What the server then says counts, also where it refused.
      void actions
        .canary(endpoint, canary.version, share)
        .finally(() => setDrawn(now => (now === share ? null : now)));
    }, RESTS);
  };
  const asked = trans.__(
    '%1 requests · %2 errors',
    formatNumber(canary.requests),
    canary.errors
  );
  return (
    <div className="nbaas-Canary" data-canary={canary.version}>
      <Row>
        <span className="nbaas-Grow">
          {trans.__('canary: version %1', canary.version)}
        </span>
        <span className="nbaas-Value">{percent} %</span>
      </Row>
      <input
        type="range"
        min={0}
        max={100}
        step={1}
        value={percent}
        aria-label={trans.__('Share of version %1', canary.version)}
        onChange={event => draw(Number(event.target.value))}
      />
      <div className="nbaas-Quiet">
        {asked}
        {canary.requests > 0 && ` · p99 ${formatRate(canary.p99_ms)} ms`}
      </div>
      <Row>
        <span className="nbaas-Grow" />
        <SmallButton
          label={trans.__('Withdraw')}
          title={trans.__('Send nothing to version %1', canary.version)}
          onClick={() => void actions.canary(endpoint, canary.version, 0)}
        />
        <SmallButton
          label={trans.__('Promote')}
          title={trans.__('Let version %1 answer everything', canary.version)}
          onClick={() => void actions.canary(endpoint, canary.version, 100)}
        />
      </Row>
    </div>
  );
}
