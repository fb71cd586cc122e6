"""The style of the HTML report: two colour schemes, and heat that can be told without seeing red and green."""

# Heat runs from blue over sand to red (safe for the colour blind); every failing cell carries a cross as well.
STYLE = """
:root {
  --page: #fbfaf7; --card: #ffffff; --ink: #1d2330; --soft: #5b6475; --rule: #dfe2e8; --good: #12664f; --bad: #a61e2e;
  --warn: #8a5a00; --noise: #dbe9f4; --h0: #2f6fa7; --h1: #6ba0cd; --h2: #a9cbe4; --h3: #dbe9f1; --h4: #f3e3c3;
  --h5: #e9967a; --h6: #a61e2e; --c0: #1f5f99; --c1: #b4540a; --c2: #12664f; --c3: #8b2f8f; --c4: #6b5b00;
  --c5: #3f4b5f; --c6: #b3215a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12151c; --card: #1a1f29; --ink: #e8eaf0; --soft: #a3abbb; --rule: #323a49; --good: #5fd0ac; --bad: #ff8b93;
    --warn: #e6b450; --noise: #22364a; --h0: #5a9bd4; --h1: #386d9b; --h2: #2d587e; --h3: #26435d; --h4: #5b4a22;
    --h5: #a34a35; --h6: #ff8b93; --c0: #7ab8f0; --c1: #ffa860; --c2: #5fd0ac; --c3: #d99adf; --c4: #d9c75a;
    --c5: #b6c0d2; --c6: #ff8fb8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 66rem; margin: 0 auto; padding: 1rem; }
header, section, article { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; }
header, section { padding: 1.1rem 1.25rem; margin: 0 0 1rem; }
article { padding: .75rem 1rem; margin: .75rem 0; border-left: 5px solid var(--warn); }
article.failed { border-left-color: var(--bad); }
header { border-top: 6px solid var(--warn); }
header.passed { border-top-color: var(--good); }
header.failed { border-top-color: var(--bad); }
.badge { margin: 0; font-weight: 700; letter-spacing: .06em; text-transform: uppercase; color: var(--warn); }
.passed .badge, tr.passed td:nth-of-type(1) { color: var(--good); }
.failed .badge, tr.failed td:nth-of-type(1), .x { color: var(--bad); }
h1 { font-size: 1.45rem; line-height: 1.3; margin: .2rem 0 .8rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: .9rem 0 .3rem; overflow-wrap: anywhere; }
article h3 { margin-top: 0; }
p, ul { margin: .35rem 0; }
dl { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.reason { overflow-wrap: anywhere; }
.remedy { color: var(--soft); }
code, pre, .hash { font-family: ui-monospace, monospace; font-size: .875em; }
pre { background: var(--page); border: 1px solid var(--rule); border-radius: 6px; overflow-x: auto; }
pre { padding: .6rem .8rem; }
.scroll { overflow-x: auto; }
.scroll:focus-visible { outline: 2px solid var(--c0); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .2rem .55rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; }
tbody th, thead th:first-child { text-align: left; }
thead th { vertical-align: bottom; min-width: 4.6rem; max-width: 11rem; overflow-wrap: break-word; }
td { white-space: nowrap; }
td.text, td.hash, .facts thead th { text-align: left; white-space: normal; overflow-wrap: anywhere; }
.map { border-collapse: separate; border-spacing: 2px; }
.map th, .map td { border: 0; }
.map thead th { font-size: .85rem; }
.map tbody th, .map thead th:first-child { position: sticky; left: 0; background: var(--card); }
.heat { min-width: 4.2rem; border-radius: 4px; padding: .1rem .5rem; color: #10141c; }
.heat, .map td.heat { text-align: center; white-space: nowrap; }
.heat.h0, .heat.h6 { color: #ffffff; }
.heat.h6 .x, .heat.h5 .x { color: inherit; }
.heat.none { color: var(--soft); }
.h0 { background: var(--h0); } .h1 { background: var(--h1); } .h2 { background: var(--h2); }
.h3 { background: var(--h3); } .h4 { background: var(--h4); } .h5 { background: var(--h5); }
.h6 { background: var(--h6); }
@media (prefers-color-scheme: dark) {
  .heat { color: #f2f4f8; }
  .heat.h0, .heat.h6 { color: #10141c; }
}
.key { display: flex; flex-wrap: wrap; gap: 3px; font-size: .8rem; }
.curve { min-width: 40rem; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
.curve text { fill: var(--soft); }
.curve .strong { fill: var(--bad); font-weight: 600; }
.noise { fill: var(--noise); }
.grid { stroke: var(--rule); fill: none; }
.limit { stroke: var(--bad); stroke-width: 1.5; stroke-dasharray: 6 4; fill: none; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.cross { stroke: var(--bad); stroke-width: 2; fill: none; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); }
.c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); } .c6 { stroke: var(--c6); }
.legend li { overflow-wrap: anywhere; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0; font-size: .9rem; }
.legend svg { width: 30px; height: 8px; margin-right: .4rem; vertical-align: middle; }
summary { cursor: pointer; margin: .5rem 0; }
small { color: var(--soft); font-weight: 400; }
@media print { body { background: #ffffff; } section { break-inside: avoid; } }
@media (max-width: 36rem) {
  main { padding: .5rem; }
  header, section { padding: .8rem; border-radius: 8px; }
  h1 { font-size: 1.2rem; }
  th, td { padding: .2rem .35rem; }
  .heat { min-width: 3.4rem; padding: .1rem .2rem; }
}
"""
