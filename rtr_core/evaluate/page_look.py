"""How the page of an evaluation looks: one sheet for light and dark, nothing from elsewhere."""

SHEET = """
:root { color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1d1c1a; --soft: #6d6a64; --line: #e3e0da;
  --good: #2f7d4f; --bad: #b3341f; --bad-back: #fbeae6; --curve: #2b62a8; --zero: #cfcbc3; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #161513; --card: #1f1e1b; --ink: #eceae5; --soft: #9b978e; --line: #35332f;
  --good: #6cc08f; --bad: #f08a72; --bad-back: #3a221c; --curve: #7fb0ee; --zero: #4a4741; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 28px; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 19px; margin: 44px 0 10px; }
h3 { font-size: 17px; margin: 0; }
p { margin: 6px 0; } .soft, footer { color: var(--soft); } .small { font-size: 13px; }
a { color: inherit; text-decoration-color: var(--zero); text-underline-offset: 3px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th { text-align: left; font-weight: 500; color: var(--soft); font-size: 13px; }
th, td { padding: 7px 14px 7px 0; border-bottom: 1px solid var(--line); white-space: nowrap; }
td.number, th.number { text-align: right; }
td.miss { color: var(--bad); font-weight: 600; }
td.none { color: var(--zero); }
td.reason { white-space: normal; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 20px 22px; margin: 18px 0; }
.head { display: flex; gap: 14px; align-items: center; flex-wrap: wrap; }
.head img { height: 54px; border-radius: 5px; display: block; }
.head .words { flex: 1; min-width: 240px; }
.tags { display: flex; gap: 6px; flex-wrap: wrap; justify-content: flex-end; }
.tag { font-size: 13px; padding: 2px 10px; border-radius: 20px; background: var(--bad-back);
  color: var(--bad); }
.tag.good { background: none; color: var(--good); padding-right: 0; }
.strip { display: grid; grid-template-columns: 58px repeat(var(--count), 1fr); gap: 5px;
  margin-top: 18px; align-items: center; }
.strip img { width: 100%; display: block; border-radius: 3px; }
.strip span, .slices figcaption, .curves figcaption { font-size: 12px; color: var(--soft); }
.strip .time { text-align: center; }
.slices { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; margin: 16px 0 0; }
.slices img { width: 100%; height: 150px; object-fit: fill; display: block; border-radius: 3px;
  image-rendering: auto; }
.curves { display: grid; grid-template-columns: repeat(3, 1fr); gap: 10px 22px; margin-top: 18px; }
figure { margin: 0; }
.curves svg { width: 100%; height: auto; display: block; }
.curves b { color: var(--ink); font-weight: 500; }
.axis { stroke: var(--zero); stroke-width: 1; fill: none; }
.line { stroke: var(--curve); stroke-width: 1.8; fill: none; stroke-linejoin: round; }
.mark { font-size: 10px; fill: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(2, 1fr); gap: 0 36px; margin-top: 16px; }
.figures div { display: flex; justify-content: space-between; gap: 12px; padding: 5px 0;
  border-bottom: 1px solid var(--line); font-size: 13.5px; }
.figures .what small { display: block; color: var(--soft); line-height: 1.3; }
.figures .value { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.figures .value small { display: block; color: var(--soft); line-height: 1.3;
  white-space: normal; max-width: 230px; }
.figures .miss .value { color: var(--bad); font-weight: 600; }
.figures .miss .value small { font-weight: 400; color: var(--bad); }
.notes { margin: 12px 0 0; font-size: 13px; color: var(--soft); }
footer { margin-top: 50px; font-size: 13px; border-top: 1px solid var(--line); padding-top: 14px; }
@media (max-width: 760px) { .curves { grid-template-columns: 1fr 1fr; }
  .figures, .slices { grid-template-columns: 1fr; } main { padding: 24px 14px 60px; } }
"""
