/** What the metadata of an output say: whose it is, and whether the run has ended. */

export interface IMark {
  job: string;
  part: 'figure' | 'summary';
  final: boolean;
}

/** Return what the metadata of an output say about a job; null where they say nothing. */
export function markOf(metadata: unknown): IMark | null {
  const mark = (metadata as { nbaas?: Partial<IMark> } | undefined)?.nbaas;
  const known = mark?.part === 'figure' || mark?.part === 'summary';
  return known && typeof mark.job === 'string' ? (mark as IMark) : null;
}
