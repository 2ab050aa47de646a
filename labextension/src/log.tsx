/** A job's log in a main-area tab: follows the file, searches, one rank at a time. */
import { ReactWidget } from '@jupyterlab/ui-components';
import { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';

import { Api, IJob, ILogPart } from './api';
import { linesWith, plainText } from './text';

const INTERVAL = 1000; // ms
const TAIL = 256 << 10; // bytes shown of a long log, at most twice that
export class LogView extends ReactWidget {
  constructor(
    private readonly api: Api,
    readonly job: Pick<IJob, 'id' | 'name'>,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('nbaas-Log');
  }

  protected render(): JSX.Element {
    return (
      <Log api={this.api} job={this.job} trans={this.trans} owner={this} />
    );
  }
}

function Log(props: {
  api: Api;
  job: Pick<IJob, 'id' | 'name'>;
  trans: TranslationBundle;
  owner: LogView;
}): JSX.Element {
  const { api, job, trans, owner } = props;
  const [rank, setRank] = React.useState(0);
  const [ranks, setRanks] = React.useState(1);
  const [word, setWord] = React.useState('');
  const [follow, setFollow] = React.useState(true);
  const { text, cut, error } = useLog(api, job.id, rank, owner, setRanks);
  const end = React.useRef<HTMLPreElement>(null);
  const lines = React.useMemo(() => linesWith(text, word), [text, word]);
  React.useEffect(() => {
    if (follow && end.current) {
      end.current.scrollTop = end.current.scrollHeight;
    }
  }, [lines, follow]);
  return (
    <>
      <div className="nbaas-Bar">
        <label>
          {trans.__('Rank')}{' '}
          <select
            value={rank}
            onChange={event => setRank(Number(event.target.value))}
          >
            {Array.from({ length: ranks }, (_, index) => (
              <option key={index} value={index}>
                {index}
              </option>
            ))}
          </select>
        </label>
        <input
          type="search"
          placeholder={trans.__('Search')}
          aria-label={trans.__('Search the log')}
          value={word}
          onChange={event => setWord(event.target.value)}
        />
        <span className="nbaas-Quiet nbaas-Grow">
          {word && trans.__('%1 lines', lines.length)}
        </span>
        <label>
          <input
            type="checkbox"
            checked={follow}
            onChange={event => setFollow(event.target.checked)}
          />{' '}
          {trans.__('Follow')}
        </label>
      </div>
      {error && (
        <p className="nbaas-Error" role="alert">
          {error}
        </p>
      )}
      {cut > 0 && (
        <p className="nbaas-Quiet nbaas-Cut">
          {trans.__('%1 bytes before this are in the file only', cut)}
        </p>
      )}
      <pre className="nbaas-Text" ref={end} tabIndex={0}>
        {lines.join('\n') || trans.__('Nothing was printed.')}
      </pre>
    </>
  );
}

/** Read on while the tab is visible; returns the plain text and how many bytes lie before it. */
function useLog(
  api: Api,
  id: string,
  rank: number,
  owner: LogView,
  setRanks: (ranks: number) => void
): { text: string; cut: number; error: string } {
  const [part, setPart] = React.useState<ILogPart | null>(null);
  const [error, setError] = React.useState('');
  React.useEffect(() => {
    let timer = 0;
    let gone = false;
    let have: ILogPart | null = null;
    const read = async (): Promise<void> => {
      if (owner.isVisible || have === null) {
        try {
          const next = await api.log(id, rank, have ? have.end : null, TAIL);
          if (gone) {
            return;
          }
          setRanks(next.ranks);
          if (have === null || next.text !== '') {
            have = joined(have, next);
            setPart(have);
          }
          setError('');
        } catch (failed) {
          setError(failed instanceof Error ? failed.message : String(failed));
        }
      }
      if (!gone) {
        timer = window.setTimeout(() => void read(), INTERVAL);
      }
    };
    setPart(null);
    void read();
    return () => {
      gone = true;
      window.clearTimeout(timer);
    };
  }, [api, id, rank, owner]);
  const text = React.useMemo(() => plainText(part?.text ?? ''), [part]);
  return { text, cut: part?.start ?? 0, error };
}

/** Return the two parts as one, at most 2 TAIL long: a flood must not fill the browser. */
export function joined(before: ILogPart | null, next: ILogPart): ILogPart {
  if (before === null || next.start !== before.end) {
    return next;
  }
  const text = before.text + next.text;
  const over = text.length - 2 * TAIL;
  if (over <= 0) {
    return { ...next, text, start: before.start };
  }
  const from = text.indexOf('\n', over + TAIL) + 1;
  return { ...next, text: text.slice(from), start: before.start + from };
}
