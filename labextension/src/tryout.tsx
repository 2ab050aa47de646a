/** A form that sends an Open Inference request to an endpoint, filled from its signature. */
import { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Api, ApiError, IEndpoint } from './api';
import { readableJson } from './json';
import { requestFor } from './snippets';

export class TryOutView extends ReactWidget {
  constructor(
    private readonly api: Api,
    readonly endpoint: Pick<IEndpoint, 'name' | 'inputs'>,
    private readonly trans: TranslationBundle
  ) {
    super();
    this.addClass('nbaas-TryOut');
  }

  protected render(): JSX.Element {
    return (
      <TryOut api={this.api} endpoint={this.endpoint} trans={this.trans} />
    );
  }
}

function TryOut(props: {
  api: Api;
  endpoint: Pick<IEndpoint, 'name' | 'inputs'>;
  trans: TranslationBundle;
}): JSX.Element {
  const { api, endpoint, trans } = props;
  const [body, setBody] = React.useState(() => requestFor(endpoint));
  const [answer, setAnswer] = React.useState('');
  const [error, setError] = React.useState('');
  const [busy, setBusy] = React.useState(false);
  const send = async (): Promise<void> => {
    setBusy(true);
    setError('');
    const start = performance.now();
    try {
      const text = await api.infer(endpoint.name, body);
      const took = (performance.now() - start).toFixed(1);
      setAnswer(`${pretty(text)}\n\n${trans.__('%1 ms', took)}`);
    } catch (failed) {
      setAnswer('');
      setError(failed instanceof ApiError ? failed.text : String(failed));
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <div className="nbaas-Bar">
        <strong className="nbaas-Grow">{endpoint.name}</strong>
        <button
          className="nbaas-Button nbaas-mod-main"
          disabled={busy}
          onClick={() => void send()}
        >
          {trans.__('Send')}
        </button>
      </div>
      <label className="nbaas-Field">
        {trans.__('Request (Open Inference Protocol)')}
        <textarea
          spellCheck={false}
          value={body}
          onChange={event => setBody(event.target.value)}
        />
      </label>
      {error && (
        <p className="nbaas-Error" role="alert">
          {error}
        </p>
      )}
      {answer && (
        <pre className="nbaas-Text" data-answer>
          {answer}
        </pre>
      )}
    </>
  );
}

function pretty(text: string): string {
  try {
    return readableJson(JSON.parse(text));
  } catch {
    return text;
  }
}
