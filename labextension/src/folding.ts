/** Which sections are folded, kept in the browser: a matter of taste of the person, not of the server. */
import { Folding } from './panel';

const KEY = 'nbaas:folded';

export class StoredFolding implements Folding {
  constructor(private readonly storage: Storage = window.localStorage) {
    this.folded = new Set(this.read());
  }

  isOpen(section: string): boolean {
    return !this.folded.has(section);
  }

  setOpen(section: string, open: boolean): void {
    if (open) {
      this.folded.delete(section);
    } else {
      this.folded.add(section);
    }
    try {
      this.storage.setItem(KEY, JSON.stringify([...this.folded]));
    } catch {
      // Storage is full or forbidden: the sections stay as they are until the reload.
    }
  }

  private read(): string[] {
    try {
      const kept: unknown = JSON.parse(this.storage.getItem(KEY) ?? '[]');
      return Array.isArray(kept)
        ? kept.filter(one => typeof one === 'string')
        : [];
    } catch {
      return [];
    }
  }

  private readonly folded: Set<string>;
}
