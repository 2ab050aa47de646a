/** The Running and Recent sections. Names are children of elements: text nodes. */
import * as React from 'react';

import { IJob } from './api';
import { Actions } from './actions';
import { formatAgo, formatNumber, formatRate, formatSeconds } from './format';
import { Spark } from './spark';
import { Chip, Empty, Progress, Row, SmallButton } from './parts';

/** Share of the job that is done, in [0, 1], where the loop's length is known. */
export function progressOf(job: IJob): number | null {
  if (job.batch === null || job.batches === null || job.batches === 0) {
    return null;
  }
  return Math.min(1, job.batch / job.batches);
}

/** 'epoch 3 · step 120 · 41 steps/s': what of it is known. */
export function whereOf(job: IJob): string {
  const parts: string[] = [];
  if (job.epoch > 0) {
    parts.push(`epoch ${job.epoch}`);
  }
  if (job.step > 0) {
    parts.push(`step ${job.step.toLocaleString('en-US')}`);
  }
  if (job.steps_per_second) {
    parts.push(`${formatRate(job.steps_per_second)} steps/s`);
  }
  return parts.join(' · ');
}

/** '2 ranks' for '2 ranks on the CPU': the sidebar is narrow. */
function shortPlace(placed: string): string {
  return placed.replace(/ on the CPU$/, '');
}

export function RunningJobs(props: {
  jobs: IJob[];
  actions: Actions;
}): JSX.Element {
  const { trans } = props.actions;
  if (props.jobs.length === 0) {
    return (
      <Empty
        text={trans.__('Nothing is training. Begin a training cell with')}
        code="%%train --ranks 2"
      />
    );
  }
  return (
    <ul className="nbaas-List">
      {props.jobs.map(job => (
        <RunningJob key={job.id} job={job} actions={props.actions} />
      ))}
    </ul>
  );
}

function RunningJob(props: { job: IJob; actions: Actions }): JSX.Element {
  const { job, actions } = props;
  const { trans } = actions;
  const [open, setOpen] = React.useState(false);
  const stopping = job.state === 'STOPPING' || job.state === 'CANCELLING';
  const share = progressOf(job);
  return (
    <li className="nbaas-Item" data-job={job.id}>
      <Row>
        <button
          className="nbaas-Name"
          title={trans.__('Open the curves of %1', job.name)}
          onClick={() => actions.openCurves(job)}
        >
          <bdi>{job.name}</bdi>
        </button>
        <Chip state={job.state} />
        {job.flags.map(flag => (
          <Chip key={flag} state={flag} />
        ))}
      </Row>
      <Progress share={share} label={trans.__('Progress of %1', job.name)} />
      <Row>
        <span className="nbaas-Quiet nbaas-Grow">
          {whereOf(job) || job.placed}
        </span>
        <span className="nbaas-Quiet">{formatSeconds(job.seconds)}</span>
      </Row>
      {job.value !== null && (
        <Row>
          <Spark
            values={job.spark}
            label={trans.__('%1 of %2', job.metric, job.name)}
          />
          <span className="nbaas-Value">
            <bdi>{job.metric}</bdi> {formatNumber(job.value)}
          </span>
        </Row>
      )}
      <Row>
        <span className="nbaas-Grow">
          <RankCount
            job={job}
            actions={actions}
            open={open}
            onClick={() => setOpen(!open)}
          />
        </span>
        <SmallButton
          label={trans.__('Log')}
          title={trans.__('Open the log of %1', job.name)}
          onClick={() => actions.openLog(job)}
        />
        <SmallButton
          label={trans.__('Attach')}
          title={trans.__(
            'Add a cell with %attach %1 to the notebook',
            job.name
          )}
          onClick={() => actions.attach(job)}
        />
        <SmallButton
          label={stopping ? trans.__('Kill') : trans.__('Stop')}
          title={
            stopping
              ? trans.__('End the ranks of %1 at once', job.name)
              : trans.__('Finish the step of %1 and return the model', job.name)
          }
          danger
          onClick={() => (stopping ? actions.kill(job) : actions.stop(job))}
        />
      </Row>
      {open && <RankList job={job} />}
    </li>
  );
}

/** '2 of 2 ranks' as a button that shows them one by one. */
function RankCount(props: {
  job: IJob;
  actions: Actions;
  open: boolean;
  onClick: () => void;
}): JSX.Element {
  const { job, actions, open } = props;
  const up = job.ranks.filter(rank => rank.state === 'running').length;
  return (
    <button
      className="nbaas-Fold nbaas-Quiet"
      aria-expanded={open}
      title={`${job.placed} · ${job.engine}`}
      onClick={props.onClick}
    >
      {open ? '▾' : '▸'}{' '}
      {actions.trans.__('%1 of %2 ranks up', up, job.ranks.length)}
    </button>
  );
}

function RankList(props: { job: IJob }): JSX.Element {
  const { job } = props;
  return (
    <ul className="nbaas-List">
      <li className="nbaas-Quiet">
        {job.placed} · {job.engine}
      </li>
      {job.ranks.map(rank => (
        <li key={rank.rank} className="nbaas-Rank">
          <span>{rank.rank}</span>
          <span className="nbaas-Grow">
            {rank.host}
            {rank.gpu === null ? '' : ` · GPU ${rank.gpu}`}
          </span>
          <span className="nbaas-Quiet">
            {rank.state}
            {rank.step === null ? '' : ` · ${rank.step}`}
          </span>
        </li>
      ))}
    </ul>
  );
}

export function RecentJobs(props: {
  jobs: IJob[];
  finished: number;
  now: number;
  more: (count?: number) => void;
  actions: Actions;
}): JSX.Element {
  const { trans } = props.actions;
  const [sought, setSought] = React.useState('');
  if (props.jobs.length === 0) {
    return (
      <Empty
        text={trans.__(
          'Jobs that have ended are kept here, with their log and curves; in a notebook:'
        )}
        code="%jobs"
      />
    );
  }
  const rest = props.finished - props.jobs.length;
  const shown = jobsWith(props.jobs, sought);
  const seek = (words: string): void => {
    setSought(words);
    if (words && rest > 0) {
      props.more(rest);
    }
  };
  return (
    <>
      {props.finished > MANY && (
        <input
          className="nbaas-Search"
          type="search"
          placeholder={trans.__('Filter by name, state or reason')}
          aria-label={trans.__('Filter the jobs that have ended')}
          value={sought}
          onChange={event => seek(event.target.value)}
        />
      )}
      {shown.length === 0 && (
        <p className="nbaas-Empty" role="status">
          {trans.__('No job has these words.')}
        </p>
      )}
      <ul className="nbaas-List">
        {shown.map(job => (
          <RecentJob
            key={job.id}
            job={job}
            ago={formatAgo(job.since, props.now)}
            actions={props.actions}
          />
        ))}
      </ul>
      {rest > 0 && (
        <button className="nbaas-More" onClick={() => props.more()}>
          {trans.__('%1 more', rest)}
        </button>
      )}
    </>
  );
}

const MANY = 10; // finished jobs from which on there is something to filter

/** Return the jobs whose name, state, engine or reason hold every word. */
export function jobsWith(jobs: readonly IJob[], sought: string): IJob[] {
  const words = sought.toLowerCase().split(/\s+/).filter(Boolean);
  return jobs.filter(job => {
    const text = [
      job.name,
      job.state,
      job.engine,
      job.reason,
      job.failure?.kind ?? ''
    ]
      .join(' ')
      .toLowerCase();
    return words.every(word => text.includes(word));
  });
}

/** Ends from which a job can go on, where it left a checkpoint. */
const RESUMABLE = new Set([
  'FAILED',
  'STOPPED',
  'CANCELLED',
  'INTERRUPTED',
  'LOST'
]);

export function canResume(job: IJob): boolean {
  return RESUMABLE.has(job.state) && job.checkpoint != null;
}

/** Ends that need no reason. */
const ASKED_FOR = new Set(['SUCCEEDED', 'STOPPED', 'CANCELLED']);

const RecentJob = React.memo(function RecentJob(props: {
  job: IJob;
  ago: string;
  actions: Actions;
}): JSX.Element {
  const { job, actions } = props;
  const { trans } = actions;
  const why = job.failure
    ? `rank ${job.failure.rank}: ${job.failure.kind}: ${job.failure.message}`
    : job.reason;
  return (
    <li className="nbaas-Item" data-job={job.id}>
      <Row>
        <button
          className="nbaas-Name"
          title={trans.__('Open the curves of %1', job.name)}
          onClick={() => actions.openCurves(job)}
        >
          <bdi>{job.name}</bdi>
        </button>
        <Chip state={job.state} />
      </Row>
      {why && !ASKED_FOR.has(job.state) && (
        <div className="nbaas-Why">{why}</div>
      )}
      {job.value !== null && (
        <Row>
          <Spark
            values={job.spark}
            label={trans.__('%1 of %2', job.metric, job.name)}
          />
          <span className="nbaas-Value">
            <bdi>{job.metric}</bdi> {formatNumber(job.value)}
          </span>
        </Row>
      )}
      <Row>
        <span className="nbaas-Quiet nbaas-Grow">
          {shortPlace(job.placed)} · {formatSeconds(job.seconds)} · {props.ago}
        </span>
        {canResume(job) && (
          <SmallButton
            label={trans.__('Resume')}
            title={trans.__(
              'Go on with %1 from its checkpoint at step %2',
              job.name,
              job.checkpoint
            )}
            onClick={() => actions.resume(job)}
          />
        )}
        <SmallButton
          label={trans.__('Log')}
          title={trans.__('Open the log of %1', job.name)}
          onClick={() => actions.openLog(job)}
        />
      </Row>
    </li>
  );
});
