"""How an HTML page looks: on a screen, a phone, in the dark, and on paper."""

CSS = """
:root {
  color-scheme: light dark;
  --ink: #1b1b1b; --soft: #595959; --page: #f6f6f4; --card: #fff; --line: #dcdcd8;
  --bar: #0072b2; --track: #e8eef2; --next: #e6f1f8;
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem;
  color: var(--ink); background: var(--page);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
h1 { margin: 0 0 1rem; font-size: 1.7rem; line-height: 1.2; }
h2 { margin: 0 0 .75rem; font-size: 1.15rem; line-height: 1.3; }
h1, h2, p, li, td, th, figcaption, dd { overflow-wrap: anywhere; }
p { margin: 0 0 .75rem; }
code { font-family: ui-monospace, monospace; font-size: .92em; white-space: nowrap; }
small { display: block; color: var(--soft); font-size: .85rem; font-weight: 400; }
section, .figures > div {
  background: var(--card); border: 1px solid var(--line); border-radius: .5rem;
}
section { padding: 1rem 1.1rem; margin-bottom: 1rem; min-width: 0; }
section > :last-child { margin-bottom: 0; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr));
  gap: .75rem; margin: 0 0 1rem;
}
.figures > div { padding: .7rem .9rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.3rem; font-weight: 600; line-height: 1.3; }
dd small { margin-top: .15rem; line-height: 1.35; }
.next { padding: .6rem .9rem; background: var(--next); border-radius: .5rem; }
.next { margin-bottom: 1rem; }
.pair { display: grid; gap: 0 1rem; }
@media (min-width: 50rem) { .pair { grid-template-columns: 1fr 1fr; } }
figure { margin: 0; }
.plot img { display: block; width: 100%; max-width: 36rem; height: auto; }
.plot figcaption { margin-top: .5rem; color: var(--soft); font-size: .9rem; }
details { margin-top: .5rem; }
summary { cursor: pointer; color: var(--soft); font-size: .9rem; }
.bars { list-style: none; margin: 0; padding: 0; font-size: .9rem; }
.bars.many { columns: 15rem; column-gap: 2rem; }
.bars.many li { grid-template-columns: minmax(0, 1fr) auto; padding: .15rem 0; gap: 0; }
.bars.many .count { order: 1; padding-left: .6em; }
.bars.many .bar { order: 2; grid-column: 1 / -1; height: .25em; }
.bars li {
  display: grid; grid-template-columns: minmax(0, 9em) minmax(0, 1fr) 4em; gap: .6em;
  align-items: center; padding: .1rem 0; break-inside: avoid;
}
.class, .name, .label {
  display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 2;
  overflow: hidden; overflow-wrap: anywhere;
}
.bar { height: .8em; background: var(--track); border-radius: .15em; }
.bar span {
  display: block; height: 100%; background: var(--bar); border-radius: .15em;
  print-color-adjust: exact; -webkit-print-color-adjust: exact;
}
.count { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
caption { text-align: left; color: var(--soft); padding-bottom: .4rem; }
th, td {
  padding: .35rem .6rem; border-top: 1px solid var(--line); vertical-align: top;
  text-align: left; font-weight: 400; min-width: 4.5rem;
}
thead th {
  border-top: 0; font-weight: 600; vertical-align: bottom; overflow-wrap: normal;
}
.numbers td, .numbers thead th + th {
  text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
}
th:first-child { padding-left: 0; }
.grid {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(6.75rem, 1fr));
  gap: .9rem .75rem; margin: 0 0 .75rem; padding: 0; list-style: none;
}
.grid li { min-width: 0; break-inside: avoid; }
.grid img, .none {
  display: flex; align-items: center; justify-content: center;
  width: 6rem; height: 6rem; object-fit: contain; image-rendering: pixelated;
  background: var(--track); color: var(--soft); border-radius: .25rem; font-size: .8rem;
}
.grid figcaption { margin-top: .3rem; font-size: .82rem; line-height: 1.35; }
.name { -webkit-line-clamp: 3; }
.score { display: block; }
.name, .score { color: var(--soft); }
.label { font-weight: 600; }
@media (max-width: 30rem) {
  body { padding: 1rem .6rem 2rem; }
  section { padding: .8rem; }
  .figures { grid-template-columns: 1fr 1fr; gap: .5rem; }
  .bars.many { columns: 2; column-gap: 1rem; }
  table { font-size: .85rem; }
  th, td { padding: .3rem .25rem; min-width: 0; }
  .words th { min-width: 8rem; }
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e8e6; --soft: #a9a9a5; --page: #161616; --card: #202020; --line: #3a3a38;
    --bar: #56b4e9; --track: #303438; --next: #17303f;
  }
  .plot img { filter: invert(1) hue-rotate(180deg); }
}
@media print {
  :root { color-scheme: light; --page: #fff; }
  body { padding: 0; font-size: 10pt; }
  .pair { grid-template-columns: 1fr 1fr; }
  .plot, tr, .bars li { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
