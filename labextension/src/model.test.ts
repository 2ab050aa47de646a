import { describe, expect, test, vi } from 'vitest';

import { Api, ApiError, errorFrom, IJob } from './api';
import { ILive, INews } from './live';
import { Model } from './model';

function job(id: string, final: boolean): IJob {
  return {
    id,
    name: id,
    final,
    state: final ? 'SUCCEEDED' : 'RUNNING'
  } as IJob;
}

/** A server that answers from memory; `down` makes it fail. */
class FakeApi {
  list: IJob[] = [];
  down = false;
  jobs = vi.fn(async () => {
    if (this.down) {
      throw new ApiError(503, 'gone', 'start it');
    }
    return { jobs: this.list, finished: this.list.length };
  });
  hosts = vi.fn(async () => ({ hosts: [], others: [] }));
  endpoints = vi.fn(async () => []);
}

/** A socket that says what a test tells it to. */
class FakeLive implements ILive {
  visible = false;
  isDisposed = false;
  onNews: (news: INews) => void = () => undefined;
  onOpen: (open: boolean) => void = () => undefined;
  connect(): void {
    // opened by the test
  }
  again = vi.fn();
  dispose(): void {
    this.isDisposed = true;
  }
}

function made(): { api: FakeApi; live: FakeLive; model: Model } {
  const api = new FakeApi();
  const live = new FakeLive();
  return { api, live, model: new Model(api as unknown as Api, live, 1000) };
}

function endsOf(model: Model): string[] {
  const ended: string[] = [];
  model.ended.connect((_, one) => ended.push(one.id));
  return ended;
}

describe('the model', () => {
  test('keeps the last good answer while the server is away', async () => {
    const { api, model } = made();
    api.list = [job('a', false)];
    await model.refresh();
    api.down = true;
    await expect(model.refresh()).rejects.toThrow('gone');
    expect(model.jobs.map(one => one.id)).toEqual(['a']);
    expect(model.error).toBe('gone (start it)');
    api.down = false;
    await model.refresh();
    expect(model.error).toBe('');
    model.dispose();
  });

  test('tells once of a job that ended, and not of those that were over', async () => {
    const { api, live, model } = made();
    const ended = endsOf(model);
    api.list = [job('a', false), job('old', true)];
    await model.refresh();
    api.list = [job('a', true), job('old', true), job('new', true)];
    await model.refresh();
    await model.refresh();
    live.onNews({ ended: [job('a', true)] });
    expect(ended).toEqual(['a']);
    model.dispose();
  });

  test('asks every second while it is seen and nothing is pushed', async () => {
    vi.useFakeTimers();
    const { api, model } = made();
    await vi.advanceTimersByTimeAsync(5000);
    expect(api.jobs).toHaveBeenCalledTimes(0);
    model.visible = true;
    await vi.advanceTimersByTimeAsync(2500);
    const asked = api.jobs.mock.calls.length;
    expect(asked).toBeGreaterThanOrEqual(2);
    model.visible = false;
    await vi.advanceTimersByTimeAsync(10000);
    expect(api.jobs.mock.calls.length).toBeLessThanOrEqual(asked + 1);
    model.dispose();
    vi.useRealTimers();
  });

  test('asks once, and no more, where the server pushes', async () => {
    vi.useFakeTimers();
    const { api, live, model } = made();
    live.onOpen(true);
    model.visible = true;
    await vi.advanceTimersByTimeAsync(10000);
    expect(live.visible).toBe(true);
    expect(api.jobs.mock.calls.length).toBeLessThanOrEqual(2);
    live.onOpen(false);
    await vi.advanceTimersByTimeAsync(5000);
    expect(api.jobs.mock.calls.length).toBeGreaterThanOrEqual(4);
    model.dispose();
    vi.useRealTimers();
  });

  test('moves a job from running to recent as it is told', async () => {
    const { live, model } = made();
    const ended = endsOf(model);
    live.onNews({ ended: [], running: [job('b', false)], finished: 1 });
    live.onNews({ ended: [job('b', true)], running: [], finished: 2 });
    expect(model.running).toEqual([]);
    expect(model.recent.map(one => one.id)).toEqual(['b']);
    expect(model.finished).toBe(2);
    expect(ended).toEqual(['b']);
    model.dispose();
  });

  test('is not taken back by an answer that is older than the last push', async () => {
    const { api, live, model } = made();
    live.onOpen(true);
    live.onNews({ ended: [], running: [job('b', false)], finished: 0 });
    api.list = [job('b', false)];
    const asked = model.refresh();
    live.onNews({ ended: [job('b', true)], running: [], finished: 1 });
    await asked;
    expect(model.running).toEqual([]);
    expect(model.recent.map(one => one.id)).toEqual(['b']);
    expect(live.again).toHaveBeenCalled();
    model.dispose();
  });

  test('keeps the parts that a message leaves out', () => {
    const { live, model } = made();
    live.onNews({
      ended: [],
      running: [job('b', false)],
      hosts: [],
      finished: 7
    });
    live.onNews({ ended: [job('a', true)] });
    expect(model.running.map(one => one.id)).toEqual(['b']);
    expect(model.recent.map(one => one.id)).toEqual(['a']);
    expect(model.finished).toBe(7);
    model.dispose();
  });
});

describe('an error of the server', () => {
  test('is its message and the way out', () => {
    const error = errorFrom(409, '{"error": "busy", "hint": "wait"}');
    expect(error.text).toBe('busy (wait)');
  });

  test('is the status where a proxy answered with a page', () => {
    expect(errorFrom(502, '<html>bad</html>').message).toContain('502');
  });

  test('names the extension where the route is missing', () => {
    expect(errorFrom(404, '<html></html>').hint).toContain('extension');
  });
});
