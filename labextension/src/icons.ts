import { LabIcon } from '@jupyterlab/ui-components';

/** Four ranks joined in a ring. */
const RING = `<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="none" stroke="#616161" stroke-width="2">
    <circle cx="12" cy="12" r="7"/>
  </g>
  <g class="jp-icon3" fill="#616161">
    <circle cx="12" cy="4.5" r="3.2"/><circle cx="19.5" cy="12" r="3.2"/>
    <circle cx="12" cy="19.5" r="3.2"/><circle cx="4.5" cy="12" r="3.2"/>
  </g>
</svg>`;

export const ringIcon = new LabIcon({ name: 'nbaas:ring', svgstr: RING });
