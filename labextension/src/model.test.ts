import { describe, expect, test, vi } from 'vitest';

import { Api, ApiError, errorFrom, IJob } from './api';
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
  hosts = vi.fn(async () => []);
  endpoints = vi.fn(async () => []);
}

function made(): { api: FakeApi; model: Model } {
  const api = new FakeApi();
  return { api, model: new Model(api as unknown as Api, 1000) };
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
    const { api, model } = made();
    const ended: string[] = [];
    model.ended.connect((_, one) => ended.push(one.id));
    api.list = [job('a', false), job('old', true)];
    await model.refresh();
    api.list = [job('a', true), job('old', true), job('new', true)];
    await model.refresh();
    await model.refresh();
    expect(ended).toEqual(['a']);
    model.dispose();
  });

  test('asks only while the panel is seen', async () => {
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

  test('splits running from recent', async () => {
    const { api, model } = made();
    api.list = [job('a', false), job('b', true)];
    await model.refresh();
    expect(model.running.map(one => one.id)).toEqual(['a']);
    expect(model.recent.map(one => one.id)).toEqual(['b']);
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
