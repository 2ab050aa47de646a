/** Logs as a terminal would leave them. Pure. */

// CSI and OSC sequences, and the two-byte escapes.
const ESCAPES =
  // eslint-disable-next-line no-control-regex -- escapes are what it looks for
  /\u001b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\u0007\u001b]*(?:\u0007|\u001b\\)|[@-_])/g;

/** Return the text without colours, each line as its last carriage return left it (tqdm). */
export function plainText(text: string): string {
  return text
    .replace(ESCAPES, '')
    .replace(/\r\n/g, '\n')
    .split('\n')
    .map(line => {
      const whole = line.endsWith('\r') ? line.slice(0, -1) : line;
      return whole.slice(whole.lastIndexOf('\r') + 1);
    })
    .join('\n');
}

/** Return the lines that hold `word`, without regard to case; all of them for an empty word. */
export function linesWith(text: string, word: string): string[] {
  const lines = text.split('\n');
  const sought = word.toLowerCase();
  return sought === ''
    ? lines
    : lines.filter(line => line.toLowerCase().includes(sought));
}
