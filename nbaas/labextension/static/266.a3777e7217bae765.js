"use strict";(self.rspackChunknbaas=self.rspackChunknbaas||[]).push([[266],{757(a,o,e){var r=e(601),n=e.n(r),t=e(314),i=(e.n(t))()(n());i.push([a.id,'.uplot, .uplot *, .uplot *::before, .uplot *::after {box-sizing: border-box;}.uplot {font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Noto Sans", sans-serif, "Apple Color Emoji", "Segoe UI Emoji", "Segoe UI Symbol", "Noto Color Emoji";line-height: 1.5;width: min-content;}.u-title {text-align: center;font-size: 18px;font-weight: bold;}.u-wrap {position: relative;user-select: none;}.u-over, .u-under {position: absolute;}.u-under {overflow: hidden;}.uplot canvas {display: block;position: relative;width: 100%;height: 100%;}.u-axis {position: absolute;}.u-legend {font-size: 14px;margin: auto;text-align: center;}.u-inline {display: block;}.u-inline * {display: inline-block;}.u-inline tr {margin-right: 16px;}.u-legend th {font-weight: 600;}.u-legend th > * {vertical-align: middle;display: inline-block;}.u-legend .u-marker {width: 1em;height: 1em;margin-right: 4px;background-clip: padding-box !important;}.u-inline.u-live th::after {content: ":";vertical-align: middle;}.u-inline:not(.u-live) .u-value {display: none;}.u-series > * {padding: 4px;}.u-series th {cursor: pointer;}.u-legend .u-off > * {opacity: 0.3;}.u-select {background: rgba(0,0,0,0.07);position: absolute;pointer-events: none;}.u-cursor-x, .u-cursor-y {position: absolute;left: 0;top: 0;pointer-events: none;will-change: transform;}.u-hz .u-cursor-x, .u-vt .u-cursor-y {height: 100%;border-right: 1px dashed #607D8B;}.u-hz .u-cursor-y, .u-vt .u-cursor-x {width: 100%;border-bottom: 1px dashed #607D8B;}.u-cursor-pt {position: absolute;top: 0;left: 0;border-radius: 50%;border: 0 solid;pointer-events: none;will-change: transform;/*this has to be !important since we set inline "background" shorthand */background-clip: padding-box !important;}.u-axis.u-off, .u-select.u-off, .u-cursor-x.u-off, .u-cursor-y.u-off, .u-cursor-pt.u-off {display: none;}',""]),e.d(o,{},{A:i})},475(a,o,e){var r=e(601),n=e.n(r),t=e(314),i=(e.n(t))()(n());i.push([a.id,`/* Colours are JupyterLab's variables only: light and dark come with the theme. */
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
  min-height: 200px;
  font-family: var(--jp-code-font-family);
  font-size: var(--jp-code-font-size);
  resize: vertical;
}
`,""]),e.d(o,{},{A:i})},646(a,o,e){var r=e(601),n=e.n(r),t=e(314),i=e.n(t),s=e(757),l=e(475),p=i()(n());p.i(s.A),p.i(l.A),p.push([a.id,`
`,""]),e.d(o,{},{A:p})},314(a){a.exports=function(a){var o=[];return o.toString=function(){return this.map(function(o){var e="",r=void 0!==o[5];return o[4]&&(e+="@supports (".concat(o[4],") {")),o[2]&&(e+="@media ".concat(o[2]," {")),r&&(e+="@layer".concat(o[5].length>0?" ".concat(o[5]):""," {")),e+=a(o),r&&(e+="}"),o[2]&&(e+="}"),o[4]&&(e+="}"),e}).join("")},o.i=function(a,e,r,n,t){"string"==typeof a&&(a=[[null,a,void 0]]);var i={};if(r)for(var s=0;s<this.length;s++){var l=this[s][0];null!=l&&(i[l]=!0)}for(var p=0;p<a.length;p++){var d=[].concat(a[p]);r&&i[d[0]]||(void 0!==t&&(void 0===d[5]||(d[1]="@layer".concat(d[5].length>0?" ".concat(d[5]):""," {").concat(d[1],"}")),d[5]=t),e&&(d[2]&&(d[1]="@media ".concat(d[2]," {").concat(d[1],"}")),d[2]=e),n&&(d[4]?(d[1]="@supports (".concat(d[4],") {").concat(d[1],"}"),d[4]=n):d[4]="".concat(n)),o.push(d))}},o}},601(a){a.exports=function(a){return a[1]}},665(a,o,e){e.r(o);var r=e(72),n=e.n(r),t=e(825),i=e.n(t),s=e(659),l=e.n(s),p=e(56),d=e.n(p),u=e(540),c=e.n(u),b=e(113),f=e.n(b),h=e(646),v={};v.styleTagTransform=f(),v.setAttributes=d(),v.insert=l().bind(null,"head"),v.domAPI=i(),v.insertStyleElement=c(),n()(h.A,v);let g=h.A&&h.A.locals?h.A.locals:void 0;e.d(o,{},{default:g})},72(a){var o=[];function e(a){for(var e=-1,r=0;r<o.length;r++)if(o[r].identifier===a){e=r;break}return e}function r(a,r){for(var n={},t=[],i=0;i<a.length;i++){var s=a[i],l=r.base?s[0]+r.base:s[0],p=n[l]||0,d="".concat(l," ").concat(p);n[l]=p+1;var u=e(d),c={css:s[1],media:s[2],sourceMap:s[3],supports:s[4],layer:s[5]};if(-1!==u)o[u].references++,o[u].updater(c);else{var b=function(a,o){var e=o.domAPI(o);return e.update(a),function(o){o?(o.css!==a.css||o.media!==a.media||o.sourceMap!==a.sourceMap||o.supports!==a.supports||o.layer!==a.layer)&&e.update(a=o):e.remove()}}(c,r);r.byIndex=i,o.splice(i,0,{identifier:d,updater:b,references:1})}t.push(d)}return t}a.exports=function(a,n){var t=r(a=a||[],n=n||{});return function(a){a=a||[];for(var i=0;i<t.length;i++){var s=e(t[i]);o[s].references--}for(var l=r(a,n),p=0;p<t.length;p++){var d=e(t[p]);0===o[d].references&&(o[d].updater(),o.splice(d,1))}t=l}}},659(a){var o={};a.exports=function(a,e){var r=function(a){if(void 0===o[a]){var e=document.querySelector(a);if(window.HTMLIFrameElement&&e instanceof window.HTMLIFrameElement)try{e=e.contentDocument.head}catch(a){e=null}o[a]=e}return o[a]}(a);if(!r)throw Error("Couldn't find a style target. This probably means that the value for the 'insert' parameter is invalid.");r.appendChild(e)}},540(a){a.exports=function(a){var o=document.createElement("style");return a.setAttributes(o,a.attributes),a.insert(o,a.options),o}},56(a,o,e){a.exports=function(a){var o=e.nc;o&&a.setAttribute("nonce",o)}},825(a){a.exports=function(a){if("u"<typeof document)return{update:function(){},remove:function(){}};var o=a.insertStyleElement(a);return{update:function(e){var r,n,t;r="",e.supports&&(r+="@supports (".concat(e.supports,") {")),e.media&&(r+="@media ".concat(e.media," {")),(n=void 0!==e.layer)&&(r+="@layer".concat(e.layer.length>0?" ".concat(e.layer):""," {")),r+=e.css,n&&(r+="}"),e.media&&(r+="}"),e.supports&&(r+="}"),(t=e.sourceMap)&&"u">typeof btoa&&(r+="\n/*# sourceMappingURL=data:application/json;base64,".concat(btoa(unescape(encodeURIComponent(JSON.stringify(t))))," */")),a.styleTagTransform(r,o,a.options)},remove:function(){var a;null===(a=o).parentNode||a.parentNode.removeChild(a)}}}},113(a){a.exports=function(a,o){if(o.styleSheet)o.styleSheet.cssText=a;else{for(;o.firstChild;)o.removeChild(o.firstChild);o.appendChild(document.createTextNode(a))}}}}]);