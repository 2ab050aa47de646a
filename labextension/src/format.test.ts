import { describe, expect, test } from 'vitest';

import { formatAgo, formatBytes, formatNumber, formatSeconds } from './format';

describe('numbers are shown as people read them', () => {
  test.each([
    [0.4821, '0.4821'],
    [1.2e-7, '1.20e-7'],
    [12345, '12,345'],
    [123.456, '123.5'],
    [0, '0'],
    [null, '–'],
    [NaN, '–']
  ])('%s as %s', (value, text) => {
    expect(formatNumber(value)).toBe(text);
  });

  test.each([
    [0, '0 s'],
    [1.23, '1.2 s'],
    [59, '59 s'],
    [185, '3 min 05 s'],
    [7620, '2 h 07 min']
  ])('%s seconds as %s', (seconds, text) => {
    expect(formatSeconds(seconds)).toBe(text);
  });

  test('bytes and ages', () => {
    expect(formatBytes(512)).toBe('512 B');
    expect(formatBytes(3_100_000_000)).toBe('3.1 GB');
    expect(formatAgo(100, 112)).toBe('12 s ago');
    expect(formatAgo(0, 7200)).toBe('2 h ago');
    expect(formatAgo(50, 0)).toBe('0 s ago');
  });
});
