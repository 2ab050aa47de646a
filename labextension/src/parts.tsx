/** Small pieces of the view. */
import * as React from 'react';

export function Row(props: { children: React.ReactNode }): JSX.Element {
  return <div className="nbaas-Row">{props.children}</div>;
}

/** Colour by meaning; the word says it too. */
export function Chip(props: { state: string }): JSX.Element {
  return (
    <span className="nbaas-Chip" data-state={props.state.toLowerCase()}>
      {props.state.toLowerCase()}
    </span>
  );
}

export function SmallButton(props: {
  label: string;
  title: string;
  onClick: () => void;
  danger?: boolean;
  disabled?: boolean;
}): JSX.Element {
  return (
    <button
      className={
        props.danger ? 'nbaas-Button nbaas-mod-danger' : 'nbaas-Button'
      }
      title={props.title}
      aria-label={props.title}
      disabled={props.disabled ?? false}
      onClick={props.onClick}
    >
      {props.label}
    </button>
  );
}

/** What stands where nothing is yet: how it comes to be. */
export function Empty(props: { text: string; code: string }): JSX.Element {
  return (
    <p className="nbaas-Empty">
      {props.text} <code>{props.code}</code>
    </p>
  );
}

/** A bar that fills; null where nobody knows how far it is. */
export function Progress(props: {
  share: number | null;
  label: string;
}): JSX.Element {
  const { share } = props;
  const known =
    share === null ? {} : { 'aria-valuenow': Math.round(share * 100) };
  return (
    <div
      className="nbaas-Progress"
      data-unknown={share === null}
      role="progressbar"
      aria-label={props.label}
      aria-valuemin={0}
      aria-valuemax={100}
      {...known}
    >
      <div
        className="nbaas-ProgressFill"
        style={share === null ? {} : { width: `${(share * 100).toFixed(1)}%` }}
      />
    </div>
  );
}

export function Meter(props: {
  value: number;
  label: string;
  text: string;
}): JSX.Element {
  const share = Math.max(0, Math.min(1, props.value));
  return (
    <div className="nbaas-Row">
      <div
        className="nbaas-Meter"
        role="meter"
        aria-label={props.label}
        aria-valuenow={Math.round(share * 100)}
        aria-valuemin={0}
        aria-valuemax={100}
      >
        <div
          className="nbaas-MeterFill"
          data-full={share > 0.9}
          style={{ width: `${(share * 100).toFixed(1)}%` }}
        />
      </div>
      <span className="nbaas-Quiet">{props.text}</span>
    </div>
  );
}
