/** Numbers as people read them. Pure. */

/** '0.482', '1.2e-7', '12,345'; '–' for what is no number. */
export function formatNumber(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) {
    return '–';
  }
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-4 || size >= 1e7)) {
    return value.toExponential(2);
  }
  if (Number.isInteger(value)) {
    return value.toLocaleString('en-US');
  }
  return size >= 100 ? value.toFixed(1) : value.toPrecision(4);
}

/** Three digits are enough for what changes every second: '44.6', '0.52', '1,204'. */
export function formatRate(value: number): string {
  return value >= 100
    ? Math.round(value).toLocaleString('en-US')
    : String(Number(value.toPrecision(3)));
}

/** '8 s', '3 min 05 s', '2 h 07 min'. */
export function formatSeconds(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) {
    return seconds < 10 && seconds > 0
      ? `${seconds.toFixed(1)} s`
      : `${whole} s`;
  }
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) {
    return `${minutes} min ${String(whole % 60).padStart(2, '0')} s`;
  }
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** '3.1 GB' in powers of 1000; '0 B'. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let power = 0;
  let amount = bytes;
  while (amount >= 1000 && power < units.length - 1) {
    amount /= 1000;
    power += 1;
  }
  return `${amount.toFixed(power === 0 || amount >= 100 ? 0 : 1)} ${units[power]}`;
}

/** '12 s ago', '3 min ago', '2 h ago', '4 d ago'; both in seconds since the epoch. */
export function formatAgo(then: number, now: number): string {
  const seconds = Math.max(0, now - then);
  if (seconds < 60) {
    return `${Math.round(seconds)} s ago`;
  }
  if (seconds < 3600) {
    return `${Math.floor(seconds / 60)} min ago`;
  }
  if (seconds < 86400) {
    return `${Math.floor(seconds / 3600)} h ago`;
  }
  return `${Math.floor(seconds / 86400)} d ago`;
}
