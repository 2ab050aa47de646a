import { describe, expect, it } from 'vitest';

import { markOf } from './marks';
import { readStored } from './stored';

describe('a stored run', () => {
  it('becomes what the panel draws, with NaN and infinities', () => {
    const stored = readStored({
      view: { name: 'digits' },
      curves: [
        { name: 'loss', group: 'loss', x: [1, 2, 3], y: [0.5, 'nan', 'inf'] }
      ]
    });
    expect(stored?.message.curves).toEqual([{ name: 'loss', group: 'loss' }]);
    const [x, y] = stored?.buffers ?? [];
    expect(new Float64Array(x?.buffer as ArrayBuffer)).toEqual(
      Float64Array.of(1, 2, 3)
    );
    expect([...new Float32Array(y?.buffer as ArrayBuffer)]).toEqual([
      0.5,
      NaN,
      Infinity
    ]);
  });

  it('leaves out what does not fit, wherever the notebook came from', () => {
    expect(readStored(null)).toBeNull();
    expect(readStored({ view: 'x' })).toBeNull();
    const odd = readStored({
      view: {},
      curves: [{ x: [1], y: 'no' }, 7],
      pictures: [{ png: '!' }]
    });
    expect(odd?.buffers).toEqual([]);
    expect(odd?.pictures).toHaveLength(1);
  });
});

describe('the mark of an output', () => {
  it('names the job, or there is none', () => {
    const mark = {
      job: '20260101-000000-00000000',
      part: 'figure',
      final: false
    };
    expect(markOf({ nbaas: mark })).toEqual(mark);
    for (const other of [
      undefined,
      {},
      { nbaas: 1 },
      { nbaas: { part: 'figure' } }
    ]) {
      expect(markOf(other)).toBeNull();
    }
  });
});
