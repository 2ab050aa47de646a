import { expect, test } from 'vitest';

import { StoredFolding } from './folding';

function storage(kept: string | null): Storage {
  let value = kept;
  return {
    getItem: () => value,
    setItem: (_: string, next: string) => {
      value = next;
    }
  } as unknown as Storage;
}

test('a folded section stays folded after a reload', () => {
  const browser = storage(null);
  const first = new StoredFolding(browser);
  expect(first.isOpen('hosts')).toBe(true);
  first.setOpen('hosts', false);
  expect(new StoredFolding(browser).isOpen('hosts')).toBe(false);
});

test.each(['nonsense', '{"a": 1}', '[1, null]'])(
  'what is damaged in the storage counts as nothing: %s',
  kept => {
    expect(new StoredFolding(storage(kept)).isOpen('hosts')).toBe(true);
  }
);
