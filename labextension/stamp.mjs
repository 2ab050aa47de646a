/**
 * Write the hash of the sources beside what was built from them.
 *
 * The built files are committed so that installing needs no node; a test computes the same hash in
 * Python and fails where somebody changed the sources and did not build.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

const FOLDERS = ['schema', 'src', 'style'];

const files = FOLDERS.flatMap(folder =>
  readdirSync(folder)
    .filter(name => !name.includes('.test.'))
    .map(name => `${folder}/${name}`)
);
const FRONT = '../nbaas/widgets/front';
files.push(...readdirSync(FRONT).map(name => `${FRONT}/${name}`));
const hash = createHash('sha256');
for (const path of ['package.json', ...files].sort()) {
  hash.update(`${path}\0`);
  hash.update(readFileSync(path));
}
const { name, version } = JSON.parse(readFileSync('package.json', 'utf8'));
const stamp = { name, version, sources: hash.digest('hex') };
writeFileSync(
  '../nbaas/labextension/build.json',
  `${JSON.stringify(stamp, null, 2)}\n`
);
