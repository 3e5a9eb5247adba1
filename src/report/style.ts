/** How every page looks. */

/** The style sheet. Colours of right and wrong are told apart by their marks and frames too. */
export const style = `
:root { color-scheme: light dark; --ink: #1c2024; --paper: #fdfdfc; --faint: #5b636e; --line: #d9dce1; --band: #f2f3f5;
  --right: #0b7a5e; --wrong: #c81e1e; --accent: #1d5fd1; --note: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --paper: #14171a; --faint: #a3acb6; --line: #343a41; --band: #1d2125;
    --right: #3fcf9f; --wrong: #ff8080; --accent: #8ab4ff; --note: #3a3012; }
}
* { box-sizing: border-box; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.6rem; margin: 0 0 0.5rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 0.6rem; }
h3 { font-size: 0.95rem; margin: 0 0 0.3rem; font-weight: 600; }
a { color: var(--accent); } p, li { max-width: 60rem; } small { color: var(--faint); }
nav ul { display: flex; flex-wrap: wrap; gap: 0.2rem 1.1rem; padding: 0; margin: 0; list-style: none; font-size: 0.92rem; }
#live { font-size: 0.92rem; color: var(--faint); margin: 0 0 0.5rem; }
.note { background: var(--note); padding: 0.6rem 0.9rem; border-left: 4px solid #d98e04; }
.beside { display: flex; flex-wrap: wrap; gap: 2rem; align-items: flex-start; }
.scroll { overflow-x: auto; max-width: 100%; margin: 0.6rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
caption { text-align: left; color: var(--faint); padding-bottom: 0.4rem; max-width: min(40rem, calc(100vw - 2rem)); }
th, td { padding: 0.25rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { vertical-align: bottom; }
td:first-child { white-space: nowrap; }
th.number, td.number { text-align: right; }
td.number { white-space: nowrap; }
tbody tr:nth-child(odd) { background: var(--band); }
pre { background: var(--band); padding: 0.8rem; overflow-x: auto; font-size: 0.85rem; }
summary { cursor: pointer; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1.4rem; }
figure { margin: 1rem 0 1.6rem; min-width: 0; } figcaption { color: var(--faint); font-size: 0.92rem; max-width: 60rem; }
.charts figure { margin: 0; }
.drawing { position: relative; }
.drawing canvas { max-width: 100%; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1.2rem; }
.plot { position: relative; max-width: 34rem; }
.plot canvas, .plot svg { width: 100%; height: auto; display: block; border: 1px solid var(--line); background: var(--paper); }
.plot canvas { image-rendering: pixelated; }
.plot strong { font-size: 0.92rem; }
.axis { color: var(--faint); font-size: 0.85rem; }
.said { min-height: 6.4rem; display: flex; gap: 0.8rem; align-items: center; font-size: 0.92rem; margin-top: 0.4rem; }
.said img { width: 72px; height: 72px; object-fit: contain; image-rendering: auto; }
.keys { display: flex; flex-wrap: wrap; gap: 0.3rem 0.9rem; list-style: none; padding: 0; margin: 0.4rem 0; font-size: 0.85rem; }
.keys span { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%; margin-right: 0.35em; }
.buttons { display: flex; flex-wrap: wrap; gap: 0.4rem; margin: 0.2rem 0; }
button { font: inherit; font-size: 0.85rem; padding: 0.1rem 0.6rem; color: var(--ink); background: var(--band);
  border: 1px solid var(--line); border-radius: 4px; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.picture { position: relative; display: inline-block; margin: 5px; line-height: 0; }
.picture img { width: 64px; height: 64px; object-fit: contain; background: var(--band); }
.picture .name { display: inline-block; width: 8rem; height: 2.4em; padding: 0.2rem; overflow: hidden; font-size: 0.7rem; line-height: 1.2;
  overflow-wrap: anywhere; white-space: normal; background: var(--band); vertical-align: top; }
.picture.right > :first-child { outline: 3px solid var(--right); } .picture.wrong > :first-child { outline: 3px dashed var(--wrong); }
.mark { display: inline-block; width: 1.2em; height: 1.2em; line-height: 1.2em; text-align: center; border-radius: 50%;
  font-size: 0.8rem; background: var(--paper); }
.picture .mark { position: absolute; right: -4px; top: -4px; }
.right > .mark, .mark.right { color: var(--right); } .wrong > .mark, .mark.wrong { color: var(--wrong); }
.neighbours { display: flex; gap: 1rem; align-items: center; border-top: 1px solid var(--line); padding: 0.5rem 0; }
.neighbours .query { flex: 0 0 5.5rem; text-align: center; line-height: 1.2; overflow-wrap: anywhere; }
.neighbours .scroll { margin: 0; min-width: 0; }
.neighbours td { white-space: nowrap; padding: 0.2rem 0; border: 0; background: var(--paper); }
.neighbours th { font-weight: 500; white-space: nowrap; border: 0; background: var(--paper); position: sticky; left: 0; z-index: 1; }
.relations td { vertical-align: middle; }
.scroll:has(> .relations) { display: inline-block; vertical-align: top; padding-right: 3rem; }
.uplot { font-family: inherit; }
.u-legend { text-align: left; font-size: 0.85rem; margin: 0; }
.u-legend tr, .u-legend th, .u-legend td { background: none !important; border: 0; padding: 0.05rem 0.3rem; }
.u-select { background: color-mix(in srgb, var(--accent) 20%, transparent); }
@media (max-width: 40rem) {
  body { margin: 1rem auto; } .picture img { width: 48px; height: 48px; }
  .neighbours { flex-direction: column; align-items: flex-start; gap: 0; }
  .neighbours .query { flex-basis: auto; display: flex; gap: 0.6rem; align-items: center; }
  .neighbours th { padding: 0.2rem 0.4rem 0.2rem 0; white-space: normal; }
}
@media print {
  :root { color-scheme: light; --ink: #000; --paper: #fff; --faint: #444; --line: #bbb; --band: #f4f4f4; --right: #0b7a5e; --wrong: #c81e1e; }
  body { margin: 0; max-width: none; font-size: 11px; } nav, .buttons, .said, #live { display: none; }
  figure, tr, .neighbours { break-inside: avoid; } h2, h3 { break-after: avoid; } .scroll { overflow: visible; }
}
`;
