import * as React from 'react';

const WIDTH = 120;
const HEIGHT = 24;

/**
 * Return SVG path data of a line through `values` in a box of WIDTH x HEIGHT; gaps at nulls.
 *
 * The scale is of the middle: the highest tenth is cut off at the top, so that a first loss of
 * 1e4 does not flatten all that came after.
 */
export function sparkPath(
  values: readonly (number | null)[],
  floor?: number
): string {
  const known = values.filter((v): v is number => v !== null);
  if (known.length < 2) {
    return '';
  }
  const sorted = [...known].sort((a, b) => a - b);
  const low = floor ?? (sorted[0] as number);
  const high = sorted[Math.floor((sorted.length - 1) * 0.98)] as number;
  const range = high - low || 1;
  const step = WIDTH / (values.length - 1);
  let path = '';
  let pen = 'M';
  values.forEach((value, index) => {
    if (value === null) {
      pen = 'M';
      return;
    }
    const share = Math.min(1, (value - low) / range);
    const y = HEIGHT - 2 - share * (HEIGHT - 4);
    path += `${pen}${(index * step).toFixed(1)} ${y.toFixed(1)}`;
    pen = 'L';
  });
  return path;
}

export function Spark(props: {
  values: readonly (number | null)[];
  label: string;
  /** What the bottom of the box means; the lowest value where it is left out. */
  floor?: number;
}): JSX.Element | null {
  const path = React.useMemo(
    () => sparkPath(props.values, props.floor),
    [props.values, props.floor]
  );
  if (!path) {
    return null;
  }
  return (
    <svg
      className="nbaas-Spark"
      viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
      preserveAspectRatio="none"
      role="img"
      aria-label={props.label}
    >
      <path d={path} vectorEffect="non-scaling-stroke" />
    </svg>
  );
}
