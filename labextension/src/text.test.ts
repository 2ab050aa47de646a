import { expect, test } from 'vitest';

import { linesWith, plainText } from './text';

test('a progress bar is shown as its last state', () => {
  expect(plainText(' 10%\r 50%\r100%\ndone\n')).toBe('100%\ndone\n');
});

test('a line that ends with CR LF stays whole', () => {
  expect(plainText('one\r\ntwo')).toBe('one\ntwo');
});

test('a bar that waits at its carriage return is kept', () => {
  expect(plainText('50%\r')).toBe('50%');
});

test('colours and titles of a terminal are left out', () => {
  expect(plainText('\u001b[31mred\u001b[0m \u001b]0;title\u0007x')).toBe(
    'red x'
  );
});

test('a search keeps the lines that hold the word', () => {
  expect(linesWith('Loss 1\nacc 2\nloss 3', 'LOSS')).toEqual([
    'Loss 1',
    'loss 3'
  ]);
  expect(linesWith('a\nb', '')).toEqual(['a', 'b']);
});
