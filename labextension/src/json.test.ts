import { expect, test } from 'vitest';

import { readableJson } from './json';

test('numbers stay on one line, and the text is the same JSON', () => {
  const value = {
    inputs: [{ name: 'x]', shape: [1, 3], data: [0.5, null, 'a"b'] }],
    parameters: {}
  };
  const text = readableJson(value);
  expect(JSON.parse(text)).toEqual(value);
  expect(text).toContain('"data": [0.5, null, "a\\"b"]');
  expect(text.split('\n').length).toBe(10);
});
