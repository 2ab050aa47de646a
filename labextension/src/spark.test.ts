import { expect, test } from 'vitest';

import { sparkPath } from './spark';

test('a falling loss falls to the right', () => {
  expect(sparkPath([2, 1, 0])).toBe('M0.0 2.0L60.0 2.0L120.0 22.0');
});

test('a gap lifts the pen', () => {
  expect(sparkPath([1, null, 0.5, 0])).toMatch(/^M\S+ \S+M\S+ \S+L/);
});

test('a curve of one point, or of none, is not drawn', () => {
  expect(sparkPath([1])).toBe('');
  expect(sparkPath([null, null, 1])).toBe('');
});

test('a flat curve does not divide by zero', () => {
  expect(sparkPath([1, 1, 1])).not.toContain('NaN');
});
