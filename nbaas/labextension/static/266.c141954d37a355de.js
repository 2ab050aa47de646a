"use strict";(self.rspackChunknbaas=self.rspackChunknbaas||[]).push([[266],{757(a,e,n){var r=n(601),o=n.n(r),t=n(314),i=(n.n(t))()(o());i.push([a.id,'.uplot, .uplot *, .uplot *::before, .uplot *::after {box-sizing: border-box;}.uplot {font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Noto Sans", sans-serif, "Apple Color Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Noto Color Emoji";line-height: 1.5;width: min-content;}.u-title {text-align: center;font-size: 18px;font-weight: bold;}.u-wrap {position: relative;user-select: none;}.u-over, .u-under {position: absolute;}.u-under {overflow: hidden;}.uplot canvas {display: block;position: relative;width: 100%;height: 100%;}.u-axis {position: absolute;}.u-legend {font-size: 14px;margin: auto;text-align: center;}.u-inline {display: block;}.u-inline * {display: inline-block;}.u-inline tr {margin-right: 16px;}.u-legend th {font-weight: 600;}.u-legend th > * {vertical-align: middle;display: inline-block;}.u-legend .u-marker {width: 1em;height: 1em;margin-right: 4px;background-clip: padding-box !important;}.u-inline.u-live th::after {content: ":";vertical-align: middle;}.u-inline:not(.u-live) .u-value {display: none;}.u-series > * {padding: 4px;}.u-series th {cursor: pointer;}.u-legend .u-off > * {opacity: 0.3;}.u-select {background: rgba(0,0,0,0.07);position: absolute;pointer-events: none;}.u-cursor-x, .u-cursor-y {position: absolute;left: 0;top: 0;pointer-events: none;will-change: transform;}.u-hz .u-cursor-x, .u-vt .u-cursor-y {height: 100%;border-right: 1px dashed #607D8B;}.u-hz .u-cursor-y, .u-vt .u-cursor-x {width: 100%;border-bottom: 1px dashed #607D8B;}.u-cursor-pt {position: absolute;top: 0;left: 0;border-radius: 50%;border: 0 solid;pointer-events: none;will-change: transform;/*this has to be !important since we set inline "background" shorthand */background-clip: padding-box !important;}.u-axis.u-off, .u-select.u-off, .u-cursor-x.u-off, .u-cursor-y.u-off, .u-cursor-pt.u-off {display: none;}',""]),n.d(e,{},{A:i})},475(a,e,n){var r=n(601),o=n.n(r),t=n(314),i=(n.n(t))()(o());i.push([a.id,`/* Colours are JupyterLab's variables only: light and dark come with the theme. */
.nbaas-Panel,
.nbaas-Log,
.nbaas-Curves,
.nbaas-TryOut {
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  font-family: var(--jp-ui-font-family);
  font-size: var(--jp-ui-font-size1);
}

.nbaas-Panel {
  overflow-y: auto;
  min-width: 220px;
}

.nbaas-Section {
  border-bottom: var(--jp-border-width) solid var(--jp-border-color2);
  padding-bottom: 6px;
}

.nbaas-Title {
  position: sticky;
  top: 0;
  z-index: 1;
  padding: 6px 10px;
  background: var(--jp-layout-color1);
  cursor: pointer;
  font-size: var(--jp-ui-font-size0);
  font-weight: 600;
  letter-spacing: 0.04em;
  text-transform: uppercase;
  user-select: none;
}

.nbaas-Count {
  margin-left: 6px;
  color: var(--jp-ui-font-color2);
  font-weight: 400;
}

.nbaas-List {
  margin: 0;
  padding: 0;
  list-style: none;
}

.nbaas-Item {
  padding: 6px 10px 8px;
}

.nbaas-Item + .nbaas-Item {
  border-top: var(--jp-border-width) solid var(--jp-border-color3);
}

/* Thousands of finished jobs: only those in view are laid out. */
[data-section='recent'] .nbaas-Item {
  content-visibility: auto;
  contain-intrinsic-size: auto 76px;
}

.nbaas-Row {
  display: flex;
  align-items: center;
  gap: 6px;
  min-height: 20px;
}

.nbaas-Grow {
  flex: 1 1 auto;
  min-width: 0;
}

.nbaas-Quiet {
  overflow: hidden;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
  text-overflow: ellipsis;
  white-space: nowrap;
}

.nbaas-Name {
  flex: 1 1 auto;
  min-width: 0;
  overflow: hidden;
  padding: 0;
  border: 0;
  background: none;
  color: inherit;
  cursor: pointer;
  font: inherit;
  font-weight: 600;
  text-align: left;
  text-overflow: ellipsis;
  white-space: nowrap;
}

.nbaas-Name:hover {
  text-decoration: underline;
}

.nbaas-mod-plain {
  cursor: default;
  text-decoration: none !important;
}

.nbaas-Chip {
  flex: none;
  padding: 0 6px;
  border: var(--jp-border-width) solid currentcolor;
  border-radius: 8px;
  color: var(--jp-ui-font-color2);
  font-size: var(--jp-ui-font-size0);
  line-height: 16px;
}

.nbaas-Chip[data-state='running'],
.nbaas-Chip[data-state='starting'],
.nbaas-Chip[data-state='restarting'] {
  color: var(--jp-brand-color1);
}

.nbaas-Chip[data-state='succeeded'],
.nbaas-Chip[data-state='ready'] {
  color: var(--jp-success-color1);
}

.nbaas-Chip[data-state='failed'],
.nbaas-Chip[data-state='lost'],
.nbaas-Chip[data-state='unresponsive'] {
  color: var(--jp-error-color1);
}

.nbaas-Chip[data-state='stopping'],
.nbaas-Chip[data-state='cancelling'],
.nbaas-Chip[data-state='interrupted'],
.nbaas-Chip[data-state='stalled'],
.nbaas-Chip[data-state='disk_full'] {
  color: var(--jp-warn-color1);
}

.nbaas-Progress {
  position: relative;
  height: 4px;
  margin: 3px 0;
  overflow: hidden;
  border-radius: 2px;
  background: var(--jp-layout-color3);
}

.nbaas-ProgressFill {
  height: 100%;
  border-radius: 2px;
  background: var(--jp-brand-color1);
  transition: width 0.3s linear;
}

/* Nobody knows how long: something moves. */
.nbaas-Progress[data-unknown='true'] .nbaas-ProgressFill {
  position: absolute;
  width: 30%;
  animation: nbaas-slide 1.6s ease-in-out infinite alternate;
}

@keyframes nbaas-slide {
  from {
    left: 0;
  }

  to {
    left: 70%;
  }
}

@media (prefers-reduced-motion: reduce) {
  .nbaas-Progress[data-unknown='true'] .nbaas-ProgressFill {
    left: 35%;
    animation: none;
  }
}

.nbaas-Meter {
  flex: 1 1 auto;
  height: 4px;
  border-radius: 2px;
  background: var(--jp-layout-color3);
}

.nbaas-MeterFill {
  height: 100%;
  border-radius: 2px;
  background: var(--jp-brand-color1);
}

.nbaas-MeterFill[data-full='true'] {
  background: var(--jp-warn-color1);
}

.nbaas-Spark {
  flex: 1 1 auto;
  min-width: 0;
  height: 24px;
}

.nbaas-Spark path {
  fill: none;
  stroke: var(--jp-brand-color1);
  stroke-width: 1;
}

.nbaas-Value {
  flex: none;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Why {
  margin: 2px 0;
  color: var(--jp-error-color1);
  font-size: var(--jp-ui-font-size0);
  overflow-wrap: anywhere;
}

.nbaas-Panel .nbaas-Url {
  overflow: hidden;
  background: none;
  color: var(--jp-ui-font-color2);
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-ui-font-size0);
  text-overflow: ellipsis;
  white-space: nowrap;
}

.nbaas-Button,
.nbaas-More {
  flex: none;
  padding: 0 6px;
  border: var(--jp-border-width) solid var(--jp-border-color1);
  border-radius: var(--jp-border-radius);
  background: var(--jp-layout-color1);
  color: var(--jp-ui-font-color1);
  cursor: pointer;
  font: inherit;
  font-size: var(--jp-ui-font-size0);
  line-height: 18px;
}

.nbaas-Button:hover,
.nbaas-More:hover {
  background: var(--jp-layout-color2);
}

.nbaas-Button:focus-visible,
.nbaas-Name:focus-visible,
.nbaas-More:focus-visible,
.nbaas-Fold:focus-visible,
.nbaas-Title:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: 1px;
}

.nbaas-mod-danger {
  border-color: var(--jp-error-color1);
  color: var(--jp-error-color1);
}

.nbaas-mod-main {
  border-color: var(--jp-brand-color1);
  background: var(--jp-brand-color1);
  color: var(--jp-ui-inverse-font-color1);
}

.nbaas-mod-main:hover {
  background: var(--jp-brand-color0);
}

.nbaas-More {
  margin: 4px 10px;
}

.nbaas-Empty {
  margin: 4px 10px;
  color: var(--jp-ui-font-color2);
  line-height: 1.5;
}

.nbaas-Item .nbaas-Empty {
  margin: 4px 0 0;
}

.nbaas-Empty code {
  white-space: nowrap;
  padding: 1px 4px;
  border-radius: 3px;
  background: var(--jp-layout-color2);
  color: var(--jp-ui-font-color1);
}

.nbaas-Error {
  margin: 6px 10px;
  padding: 4px 8px;
  border-left: 3px solid var(--jp-error-color1);
  background: var(--jp-layout-color2);
  overflow-wrap: anywhere;
}

.nbaas-Ranks summary {
  color: var(--jp-ui-font-color2);
  cursor: pointer;
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Fold {
  padding: 0;
  border: 0;
  background: none;
  cursor: pointer;
  font-family: inherit;
}

.nbaas-Rank {
  display: flex;
  gap: 8px;
  padding-left: 12px;
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Gpu {
  padding: 2px 0 2px 8px;
  font-size: var(--jp-ui-font-size0);
}

/* Main-area tabs. */
.nbaas-Log,
.nbaas-Curves,
.nbaas-TryOut {
  display: flex;
  flex-direction: column;
  height: 100%;
  overflow: auto;
}

.nbaas-Bar {
  display: flex;
  flex: none;
  align-items: center;
  gap: 10px;
  padding: 6px 10px;
  border-bottom: var(--jp-border-width) solid var(--jp-border-color2);
}

.nbaas-Bar select,
.nbaas-Bar input[type='search'],
.nbaas-Field textarea {
  border: var(--jp-border-width) solid var(--jp-border-color1);
  border-radius: var(--jp-border-radius);
  background: var(--jp-layout-color1);
  color: inherit;
  font: inherit;
}

.nbaas-Bar select {
  max-width: 200px;
}

.nbaas-Text,
.nbaas-Trace {
  flex: 1 1 auto;
  margin: 0;
  padding: 8px 12px;
  overflow: auto;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  line-height: 1.4;
  white-space: pre-wrap;
  overflow-wrap: anywhere;
}

.nbaas-Trace {
  flex: none;
  max-height: 40%;
  border-left: 3px solid var(--jp-error-color1);
}

.nbaas-Cut {
  margin: 4px 12px 0;
}

.nbaas-Chart {
  margin: 10px 14px;
}

.nbaas-Chart figcaption {
  margin-bottom: 4px;
  font-weight: 600;
}

.nbaas-Chart .u-legend {
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Field {
  display: flex;
  flex-direction: column;
  gap: 4px;
  padding: 8px 12px;
}

.nbaas-Field textarea {
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  resize: vertical;
}

.nbaas-Button:disabled {
  cursor: default;
  opacity: 0.6;
}

/* Buttons that belong together stand as one. */
.nbaas-Group {
  display: inline-flex;
}

.nbaas-Group .nbaas-Button {
  margin-left: -1px;
  border-radius: 0;
}

.nbaas-Group .nbaas-Button:first-child {
  border-radius: var(--jp-border-radius) 0 0 var(--jp-border-radius);
}

.nbaas-Group .nbaas-Button:last-child {
  border-radius: 0 var(--jp-border-radius) var(--jp-border-radius) 0;
}

.nbaas-Panel .nbaas-Url {
  display: block;
  white-space: nowrap;
}

.nbaas-SparkBox {
  display: flex;
  height: 18px;
  border-bottom: var(--jp-border-width) solid var(--jp-border-color3);
}

.nbaas-SparkBox .nbaas-Spark {
  height: 18px;
}

.nbaas-Note {
  margin: 2px 0;
  color: var(--jp-warn-color0);
  font-size: var(--jp-ui-font-size0);
  overflow-wrap: anywhere;
}

.nbaas-Fold {
  text-align: left;
}

.nbaas-Versions {
  padding: 2px 0 2px 12px;
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Canary {
  margin: 4px 0;
  padding: 4px 8px 6px;
  border-left: 3px solid var(--jp-brand-color1);
  background: var(--jp-layout-color2);
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Canary input {
  width: 100%;
  margin: 2px 0;
  accent-color: var(--jp-brand-color1);
}

.nbaas-Users {
  margin: 2px 0;
  padding: 0;
  font-size: var(--jp-ui-font-size0);
  list-style: none;
}

.nbaas-Users li {
  display: flex;
  justify-content: space-between;
  gap: 8px;
}

.nbaas-Facts {
  margin: 4px 0 0;
  padding: 0;
  font-size: var(--jp-ui-font-size0);
  line-height: 1.5;
  list-style: none;
  overflow-wrap: anywhere;
}

.nbaas-Facts li[data-ok='true'] > span {
  color: var(--jp-success-color1);
}

.nbaas-Facts li[data-ok='false'] > span {
  color: var(--jp-error-color1);
}

.nbaas-Facts code {
  display: block;
  margin-left: 14px;
  background: none;
  color: var(--jp-ui-font-color2);
  white-space: normal;
}

.nbaas-Search {
  box-sizing: border-box;
  width: calc(100% - 20px);
  margin: 2px 10px 6px;
  padding: 2px 6px;
  border: var(--jp-border-width) solid var(--jp-border-color1);
  border-radius: var(--jp-border-radius);
  background: var(--jp-layout-color1);
  color: inherit;
  font: inherit;
  font-size: var(--jp-ui-font-size0);
}

.nbaas-Search:focus-visible,
.nbaas-Field textarea:focus-visible {
  outline: 2px solid var(--jp-brand-color1);
  outline-offset: -1px;
}

.nbaas-Form {
  display: contents;
}

/* A name of a metric may be long; the curve beside it keeps a part of the row. */
.nbaas-Item .nbaas-Value {
  max-width: 62%;
  overflow: hidden;
  text-overflow: ellipsis;
  white-space: nowrap;
}

[data-endpoint] .nbaas-SparkBox + .nbaas-Value {
  min-width: 76px;
  text-align: right;
}

[data-endpoint] .nbaas-Row + .nbaas-Row {
  margin-top: 4px;
}

[data-endpoint] > .nbaas-Quiet + .nbaas-Row {
  margin-top: 4px;
}

/* Below a notebook of Notebook 7, whose area there begins with no height. */
.nbaas-mod-below {
  min-height: 300px;
}
`,""]),n.d(e,{},{A:i})},646(a,e,n){var r=n(601),o=n.n(r),t=n(314),i=n.n(t),s=n(757),p=n(475),l=n(514),d=i()(o());d.i(s.A),d.i(p.A),d.i(l.A),d.push([a.id,`
`,""]),n.d(e,{},{A:d})},514(a,e,n){var r=n(601),o=n.n(r),t=n(314),i=(n.n(t))()(o());i.push([a.id,`.nbaas-panel {
  --nbaas-ink: var(--jp-ui-font-color1, var(--vscode-foreground, #333));
  --nbaas-dim: var(--jp-ui-font-color2, var(--vscode-descriptionForeground, #666));
  --nbaas-grid: var(--jp-border-color2, var(--vscode-widget-border, #8884));
  --nbaas-accent: var(--jp-brand-color1, #0072b2);
  color: var(--nbaas-ink);
  font: 13px/1.45 var(--jp-ui-font-family, system-ui, sans-serif);
  font-variant-numeric: tabular-nums;
  padding: 8px 10px;
  border: 1px solid var(--nbaas-grid);
  border-radius: 4px;
  max-width: 900px;
}
.nbaas-panel [hidden] { display: none !important; }
.nbaas-dim { color: var(--nbaas-dim); }
.nbaas-header, .nbaas-progress, .nbaas-stats, .nbaas-tools, .nbaas-chart-head {
  display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px;
}
.nbaas-name { overflow-wrap: anywhere; }
.nbaas-time { margin-left: auto; }
.nbaas-state { padding: 0 7px; border-radius: 9px; font-size: 11px; color: #fff; background: #5f6b76; }
[data-state="RUNNING"] .nbaas-state { background: #0067a5; }
[data-state="SUCCEEDED"] .nbaas-state { background: #00704f; }
[data-state="FAILED"] .nbaas-state, [data-state="LOST"] .nbaas-state { background: #b3261e; }
[data-state="STOPPED"] .nbaas-state, [data-state="STOPPING"] .nbaas-state { background: #8a5a00; }
.nbaas-reason:empty { display: none; }
.nbaas-reason { overflow-wrap: anywhere; }
.nbaas-button, .nbaas-link, .nbaas-key { font: inherit; color: inherit; cursor: pointer; }
.nbaas-button { background: none; border: 1px solid var(--nbaas-grid); border-radius: 3px; padding: 1px 10px; }
.nbaas-stop { border-color: #b3261e; }
.nbaas-link, .nbaas-key { background: none; border: 0; padding: 0 2px; font-size: 12px; }
.nbaas-link { color: var(--nbaas-dim); text-decoration: underline; text-underline-offset: 2px; }
.nbaas-link[aria-pressed="true"] { color: var(--nbaas-ink); font-weight: 600; }
.nbaas-panel :focus-visible { outline: 2px solid var(--nbaas-accent); outline-offset: 1px; }
.nbaas-progress { margin: 6px 0; }
.nbaas-bar { flex: 1 1 120px; height: 6px; border-radius: 3px; background: var(--nbaas-grid); overflow: hidden; }
.nbaas-bar > div { height: 100%; background: var(--nbaas-accent); }
.nbaas-stat { display: inline-flex; gap: 5px; }
.nbaas-tools { justify-content: flex-end; }
.nbaas-charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 6px 14px; }
.nbaas-chart { min-width: 0; }
.nbaas-chart-head { font-size: 12px; }
.nbaas-legend { display: inline-flex; flex-wrap: wrap; gap: 0 10px; margin-left: auto; }
.nbaas-key { display: inline-flex; align-items: center; gap: 4px; }
.nbaas-key i { width: 10px; height: 3px; }
.nbaas-key b { min-width: 4.5em; text-align: right; }
.nbaas-key[aria-pressed="false"] { opacity: 0.45; text-decoration: line-through; }
.nbaas-ranks { width: 100%; border-collapse: collapse; margin: 6px 0; font-size: 12px; table-layout: auto; }
.nbaas-panel .nbaas-ranks th, .nbaas-panel .nbaas-ranks td { text-align: right; padding: 1px 6px; border: 0; background: none; max-width: none; }
.nbaas-panel .nbaas-ranks th { color: var(--nbaas-dim); font-weight: 400; }
.nbaas-panel .nbaas-ranks :is(th, td):nth-child(-n + 2) { text-align: left; }
.nbaas-no-gpu :is(th, td):nth-child(8) { display: none; }
.nbaas-panel .nbaas-ranks td:last-child { white-space: nowrap; }
.nbaas-remark:empty { display: none; }
.nbaas-remark { margin-right: 6px; padding: 0 6px; border-radius: 8px; font-size: 11px; border: 1px solid currentColor; }
:is(.nbaas-charts, .nbaas-ranks):not(.nbaas-all) .nbaas-extra { display: none; }
.nbaas-gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 8px 14px; margin: 8px 0; }
.nbaas-tile { margin: 0; min-width: 0; display: flex; flex-direction: column; justify-content: flex-end; }
.nbaas-tile img { max-width: 100%; max-height: 220px; margin: auto; object-fit: contain; image-rendering: auto; background: #fff; }
.nbaas-tile svg { display: block; width: 100%; height: auto; border-bottom: 1px solid var(--nbaas-grid); }
.nbaas-tile figcaption { display: flex; align-items: center; justify-content: center; gap: 6px; font-size: 12px; color: var(--nbaas-dim); }
.nbaas-label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: center; font-size: 12px; }
.nbaas-turn { text-decoration: none; font-size: 15px; min-width: 20px; }
.nbaas-turn:disabled { opacity: 0.3; cursor: default; }
.nbaas-bars { fill: var(--nbaas-accent); fill-opacity: 0.75; }
.nbaas-bars-first { fill: none; stroke: var(--nbaas-dim); stroke-width: 1; stroke-dasharray: 3 2; }
.nbaas-range { display: flex; justify-content: space-between; font-size: 11px; }
.nbaas-notes { font-size: 12px; white-space: pre-line; margin: 4px 0; }
.nbaas-slow td { color: #b35900; }
[data-jp-theme-light="false"] .nbaas-slow td { color: #e69f00; }
.nbaas-log { max-height: 180px; overflow: auto; font-size: 12px; white-space: pre-wrap; border: 1px solid var(--nbaas-grid); padding: 4px 6px; margin: 4px 0; }
.nbaas-facts { font-size: 12px; }
.nbaas-facts summary { cursor: pointer; color: var(--nbaas-dim); }
`,""]),n.d(e,{},{A:i})},314(a){a.exports=function(a){var e=[];return e.toString=function(){return this.map(function(e){var n="",r=void 0!==e[5];return e[4]&&(n+="@supports (".concat(e[4],") {")),e[2]&&(n+="@media ".concat(e[2]," {")),r&&(n+="@layer".concat(e[5].length>0?" ".concat(e[5]):""," {")),n+=a(e),r&&(n+="}"),e[2]&&(n+="}"),e[4]&&(n+="}"),n}).join("")},e.i=function(a,n,r,o,t){"string"==typeof a&&(a=[[null,a,void 0]]);var i={};if(r)for(var s=0;s<this.length;s++){var p=this[s][0];null!=p&&(i[p]=!0)}for(var l=0;l<a.length;l++){var d=[].concat(a[l]);r&&i[d[0]]||(void 0!==t&&(void 0===d[5]||(d[1]="@layer".concat(d[5].length>0?" ".concat(d[5]):""," {").concat(d[1],"}")),d[5]=t),n&&(d[2]&&(d[1]="@media ".concat(d[2]," {").concat(d[1],"}")),d[2]=n),o&&(d[4]?(d[1]="@supports (".concat(d[4],") {").concat(d[1],"}"),d[4]=o):d[4]="".concat(o)),e.push(d))}},e}},601(a){a.exports=function(a){return a[1]}},665(a,e,n){n.r(e);var r=n(72),o=n.n(r),t=n(825),i=n.n(t),s=n(659),p=n.n(s),l=n(56),d=n.n(l),b=n(540),c=n.n(b),u=n(113),f=n.n(u),h=n(646),x={};x.styleTagTransform=f(),x.setAttributes=d(),x.insert=p().bind(null,"head"),x.domAPI=i(),x.insertStyleElement=c(),o()(h.A,x);let g=h.A&&h.A.locals?h.A.locals:void 0;n.d(e,{},{default:g})},72(a){var e=[];function n(a){for(var n=-1,r=0;r<e.length;r++)if(e[r].identifier===a){n=r;break}return n}function r(a,r){for(var o={},t=[],i=0;i<a.length;i++){var s=a[i],p=r.base?s[0]+r.base:s[0],l=o[p]||0,d="".concat(p," ").concat(l);o[p]=l+1;var b=n(d),c={css:s[1],media:s[2],sourceMap:s[3],supports:s[4],layer:s[5]};if(-1!==b)e[b].references++,e[b].updater(c);else{var u=function(a,e){var n=e.domAPI(e);return n.update(a),function(e){e?(e.css!==a.css||e.media!==a.media||e.sourceMap!==a.sourceMap||e.supports!==a.supports||e.layer!==a.layer)&&n.update(a=e):n.remove()}}(c,r);r.byIndex=i,e.splice(i,0,{identifier:d,updater:u,references:1})}t.push(d)}return t}a.exports=function(a,o){var t=r(a=a||[],o=o||{});return function(a){a=a||[];for(var i=0;i<t.length;i++){var s=n(t[i]);e[s].references--}for(var p=r(a,o),l=0;l<t.length;l++){var d=n(t[l]);0===e[d].references&&(e[d].updater(),e.splice(d,1))}t=p}}},659(a){var e={};a.exports=function(a,n){var r=function(a){if(void 0===e[a]){var n=document.querySelector(a);if(window.HTMLIFrameElement&&n instanceof window.HTMLIFrameElement)try{n=n.contentDocument.head}catch(a){n=null}e[a]=n}return e[a]}(a);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(n)}},540(a){a.exports=function(a){var e=document.createElement("style");return a.setAttributes(e,a.attributes),a.insert(e,a.options),e}},56(a,e,n){a.exports=function(a){var e=n.nc;e&&a.setAttribute("nonce",e)}},825(a){a.exports=function(a){if("u"<typeof document)return{update:function(){},remove:function(){}};var e=a.insertStyleElement(a);return{update:function(n){var r,o,t;r="",n.supports&&(r+="@supports (".concat(n.supports,") {")),n.media&&(r+="@media ".concat(n.media," {")),(o=void 0!==n.layer)&&(r+="@layer".concat(n.layer.length>0?" ".concat(n.layer):""," {")),r+=n.css,o&&(r+="}"),n.media&&(r+="}"),n.supports&&(r+="}"),(t=n.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(t))))," */")),a.styleTagTransform(r,e,a.options)},remove:function(){var a;null===(a=e).parentNode||a.parentNode.removeChild(a)}}}},113(a){a.exports=function(a,e){if(e.styleSheet)e.styleSheet.cssText=a;else{for(;e.firstChild;)e.removeChild(e.firstChild);e.appendChild(document.createTextNode(a))}}}}]);