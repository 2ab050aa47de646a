import { describe, expect, test } from 'vitest';

import { IEndpoint } from './api';
import {
  curlOf,
  filledIn,
  looksLikeTraining,
  pythonOf,
  requestFor,
  requestFrom,
  withTrainMagic
} from './snippets';

const ENDPOINT = {
  name: 'digits',
  inputs: [{ name: 'x', datatype: 'FP32', shape: [-1, 3] }]
} as unknown as IEndpoint;

describe('the example request', () => {
  test('has one row of zeros in the shape of the signature', () => {
    expect(JSON.parse(requestFor(ENDPOINT))).toEqual({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 3], data: [0, 0, 0] }]
    });
  });
});

describe('the form', () => {
  const inputs = [{ name: 'x', datatype: 'FP32', shape: [-1, 2] }];

  test('is filled in by the signature and gives the request', () => {
    const texts = { x: filledIn(inputs[0] as (typeof inputs)[0]) };
    expect(texts.x).toBe('[[0,0]]');
    expect(JSON.parse(requestFrom(inputs, texts))).toEqual({
      inputs: [{ name: 'x', datatype: 'FP32', shape: [1, 2], data: [0, 0] }]
    });
  });

  test('takes as many rows as are typed', () => {
    const request = JSON.parse(requestFrom(inputs, { x: '[[1,2],[3,4]]' }));
    expect(request.inputs[0]).toMatchObject({
      shape: [2, 2],
      data: [1, 2, 3, 4]
    });
  });

  test.each([
    ['[1, 2', 'x: not a list'],
    ['', 'x: not a list'],
    ['[[1],[2,3]]', 'x: its rows are not equally long']
  ])('refuses %s by the name of the input', (text, said) => {
    expect(() => requestFrom(inputs, { x: text })).toThrow(said);
  });
});

describe('what is copied', () => {
  test('holds no token and quotes for the shell', () => {
    const inputs = [{ name: "'; rm -rf ~", datatype: 'FP32', shape: [1] }];
    const text = curlOf('http://h/nbaas/v2', { ...ENDPOINT, inputs });
    expect(text).toContain('$NBAAS_TOKEN');
    expect(text).toContain(`'\\''; rm -rf ~`);
  });

  test('is Python that a parser takes', () => {
    const text = pythonOf('http://h/nbaas/v2', ENDPOINT);
    expect(text).toContain('os.environ["NBAAS_TOKEN"]');
    expect(text).toContain('"http://h/nbaas/v2"');
  });
});

describe('a training cell is known by its loop', () => {
  test.each([
    ['for x, y in loader:\n    loss.backward()', true],
    ['model.fit(x, y)', true],
    ['for epoch in range(3):\n    train_epoch(model)', true],
    ['%%train\nfor x in y:\n    loss.backward()', false],
    ['loss.backward()', false],
    ['for x in range(3):\n    print(x)', false],
    ['', false]
  ])('%j: %s', (source, answer) => {
    expect(looksLikeTraining(source)).toBe(answer);
  });

  test('the magic is its first line', () => {
    expect(withTrainMagic('for x in y: pass', 4)).toBe(
      '%%train --ranks 4\nfor x in y: pass'
    );
  });
});
