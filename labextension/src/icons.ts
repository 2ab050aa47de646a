import { LabIcon } from '@jupyterlab/ui-components';

/** Four ranks joined in a ring: the ring is two arcs, since a theme fills what has a fill. */
const RING = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161" fill-rule="evenodd">
    <path d="M4 12a8 8 0 1 0 16 0a8 8 0 1 0-16 0zm2 0a6 6 0 1 1 12 0a6 6 0 1 1-12 0z"/>
    <circle cx="12" cy="4.5" r="3"/><circle cx="19.5" cy="12" r="3"/>
    <circle cx="12" cy="19.5" r="3"/><circle cx="4.5" cy="12" r="3"/>
  </g>
</svg>`;

export const ringIcon = new LabIcon({ name: 'nbaas:ring', svgstr: RING });
