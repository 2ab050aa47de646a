/** A form made from an endpoint's signature; what it sends can be read and changed as JSON too. */
import { TranslationBundle } from '@jupyterlab/translation';
import { ReactWidget } from '@jupyterlab/ui-components';
import * as React from 'react';

import { Api, ApiError, IEndpoint, ITensorSignature } from './api';
import { readableJson } from './json';
import { filledIn, requestFor, requestFrom } from './snippets';

type Tried = Pick<IEndpoint, 'name' | 'inputs'>;

export class TryOutView extends ReactWidget {
  constructor(
    private readonly api: Api,
    readonly endpoint: Tried,
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

interface IAnswer {
  text: string;
  ms: number;
}

function TryOut(props: {
  api: Api;
  endpoint: Tried;
  trans: TranslationBundle;
}): JSX.Element {
  const { api, endpoint, trans } = props;
  const [texts, setTexts] = React.useState(() => textsOf(endpoint.inputs));
  const [raw, setRaw] = React.useState<string | null>(null); // JSON, once it is shown
  const [answer, setAnswer] = React.useState<IAnswer | null>(null);
  const [error, setError] = React.useState('');
  const [busy, setBusy] = React.useState(false);
  const send = async (): Promise<void> => {
    setBusy(true);
    setError('');
    try {
      const body = raw ?? requestFrom(endpoint.inputs, texts);
      const start = performance.now();
      const text = await api.infer(endpoint.name, body);
      setAnswer({ text, ms: performance.now() - start });
    } catch (failed) {
      setAnswer(null);
      setError(textOf(failed));
    } finally {
      setBusy(false);
    }
  };
  const showJson = (json: boolean): void => {
    setError('');
    if (!json) {
      setRaw(null);
      return;
    }
    try {
      setRaw(requestFrom(endpoint.inputs, texts));
    } catch {
      setRaw(requestFor(endpoint));
    }
  };
  return (
    <form
      className="nbaas-Form"
      onSubmit={event => {
        event.preventDefault();
        void send();
      }}
    >
      <div className="nbaas-Bar">
        <strong>{endpoint.name}</strong>
        <span className="nbaas-Quiet nbaas-Grow">
          {trans.__('Open Inference Protocol')}
        </span>
        <label>
          <input
            type="checkbox"
            checked={raw !== null}
            onChange={event => showJson(event.target.checked)}
          />{' '}
          {trans.__('JSON')}
        </label>
        <button
          className="nbaas-Button nbaas-mod-main"
          type="submit"
          disabled={busy}
        >
          {busy ? trans.__('Sending…') : trans.__('Send')}
        </button>
      </div>
      {raw !== null ? (
        <label className="nbaas-Field">
          {trans.__('Request')}
          <textarea
            spellCheck={false}
            value={raw}
            rows={14}
            onChange={event => setRaw(event.target.value)}
          />
        </label>
      ) : (
        endpoint.inputs.map(input => (
          <Input
            key={input.name}
            input={input}
            text={texts[input.name] ?? ''}
            trans={trans}
            onChange={text => setTexts({ ...texts, [input.name]: text })}
          />
        ))
      )}
      {error && (
        <p className="nbaas-Error" role="alert">
          {error}
        </p>
      )}
      {answer && <Outputs answer={answer} trans={trans} />}
    </form>
  );
}

function textsOf(inputs: readonly ITensorSignature[]): Record<string, string> {
  return Object.fromEntries(inputs.map(input => [input.name, filledIn(input)]));
}

function Input(props: {
  input: ITensorSignature;
  text: string;
  trans: TranslationBundle;
  onChange: (text: string) => void;
}): JSX.Element {
  const { input, text, trans } = props;
  const sizes = input.shape.map(size => (size < 1 ? 'n' : String(size)));
  const large = filledIn(input) === '';
  return (
    <label className="nbaas-Field">
      <span>
        <strong>{input.name}</strong>{' '}
        <span className="nbaas-Quiet">
          {input.datatype} [{sizes.join(', ')}]
        </span>
      </span>
      <textarea
        spellCheck={false}
        rows={Math.min(12, Math.max(2, text.split('\n').length + 1))}
        value={text}
        placeholder={
          large
            ? trans.__(
                'Too large to type: paste nested lists, or send it from Python'
              )
            : '[[0, 0]]'
        }
        onChange={event => props.onChange(event.target.value)}
      />
    </label>
  );
}

function Outputs(props: {
  answer: IAnswer;
  trans: TranslationBundle;
}): JSX.Element {
  const { answer, trans } = props;
  return (
    <>
      <div className="nbaas-Quiet nbaas-Cut" role="status">
        {trans.__('answered in %1 ms', answer.ms.toFixed(1))}
      </div>
      <pre className="nbaas-Text" data-answer>
        {pretty(answer.text)}
      </pre>
    </>
  );
}

function textOf(failed: unknown): string {
  if (failed instanceof ApiError) {
    return failed.text;
  }
  return failed instanceof Error ? failed.message : String(failed);
}

function pretty(text: string): string {
  try {
    return readableJson(JSON.parse(text));
  } catch {
    return text;
  }
}
