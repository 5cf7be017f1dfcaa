"""The page's style sheet: both themes, a phone, a screen and paper. Colours have a contrast of at least 3 to 1."""

STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2430;--soft:#5b6675;--line:#d5dbe3;--card:#f5f7fa;
--ok:#0f766e;--memory:#4f63c8;--offline:#708096;--crash:#c96a05;--unknown:#b3246b;--alarm:#b42318;--alarm-page:#fdecea;
--best:#14532d}
@media (prefers-color-scheme:dark){:root{--page:#12161d;--ink:#e6eaf0;--soft:#a3afbf;--line:#364152;--card:#1b212b;
--ok:#2bbfae;--memory:#8fa2ff;--offline:#8b9ab0;--crash:#f2a33c;--unknown:#f472b6;--alarm:#ff8a7a;--alarm-page:#3a1714;
--best:#a7f3d0}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,
"DejaVu Sans",sans-serif}
main,header,footer{max-width:64rem;margin:0 auto;padding:0 1rem}
header{padding-top:1.5rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem}
h2{font-size:1.2rem;margin:2.5rem 0 .25rem}
p{margin:.25rem 0 1rem}
.soft,footer,figcaption,.none{color:var(--soft)}
footer{padding-bottom:2rem;margin-top:3rem;font-size:.875rem}
figure{margin:0}
figcaption{font-size:.875rem;margin:.5rem 0}
.alarm{background:var(--alarm-page);border:1px solid var(--alarm);border-left-width:.4rem;border-radius:.3rem;
padding:.75rem 1rem;margin:1rem 0}
.alarm h2{margin:0;color:var(--alarm)}
.alarm ul{margin:.25rem 0;padding-left:1.2rem}
.place{margin-bottom:0}
.well,.unsure{border-left:.3rem solid var(--ok);padding-left:.7rem}
.unsure{border-color:var(--crash)}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(15rem,1fr));gap:.8rem;margin:1.5rem 0}
.pair section{max-width:31rem;background:var(--card);border-radius:.4rem;padding:.8rem 1rem}
.pair h2,.pair p{margin:0}
.pair p:first-of-type b{font-size:1.6rem}
.pair dl{margin:.4rem 0 0}
.pair dl div{display:flex;justify-content:space-between;gap:1rem;font-size:.9rem}
.pair dt{color:var(--soft)}
.pair dd{margin:0;text-align:right;font-variant-numeric:tabular-nums}
article{border-top:1px solid var(--line);padding:.6rem 0 .2rem}
article p{margin:.15rem 0 .35rem}
h3{font-size:1rem;margin:0}
h3 b,.good{color:var(--ok)}
small{font-size:.8rem;font-weight:400;color:var(--soft)}
em{font-style:normal;font-weight:600;font-size:.85rem;color:var(--alarm)}
code{font-size:.875em;overflow-wrap:anywhere}
.todo{border-left:.2rem solid var(--memory);padding-left:.6rem}
.plot{display:grid;grid-template-columns:3.6rem 1fr;row-gap:1.5rem;margin:1rem 0 .4rem;padding-top:.6rem}
.axis{position:relative;font-size:.75rem;color:var(--soft)}
.axis span{position:absolute;right:.5rem;transform:translateY(50%);white-space:nowrap}
svg{display:block;width:100%;overflow:visible}
svg.tall{height:15rem}svg.strip{height:3rem}
.times{display:flex;justify-content:space-between;font-size:.75rem;color:var(--soft);margin-left:3.6rem}
path{fill:none;vector-effect:non-scaling-stroke}
.grid{stroke:var(--line);stroke-width:1px}
.bar{stroke:var(--ok);stroke-width:3px;opacity:.55}
.median{stroke:var(--ok);stroke-width:5px;stroke-linecap:round}
.longest{stroke:var(--crash);stroke-width:5px;stroke-linecap:round}
.failed{fill:var(--alarm)}
.best{fill:var(--best);background:var(--best)}
.ok{fill:var(--ok);background:var(--ok)}.memory{fill:var(--memory);background:var(--memory)}
.offline{fill:var(--offline);background:var(--offline)}.crash{fill:var(--crash);background:var(--crash)}
.unknown{fill:var(--unknown);background:var(--unknown)}
.key{display:flex;flex-wrap:wrap;gap:.2rem 1rem;padding:0;margin:.5rem 0;list-style:none;font-size:.875rem}
.key i{display:inline-block;width:.8rem;height:.8rem;border-radius:.15rem;margin-right:.35rem;vertical-align:-.05rem}
.key i.dot{width:.55rem;height:.55rem;border-radius:50%}
.key i.m{background:var(--ok)}.key i.b{background:var(--ok);opacity:.55}.key i.l{background:var(--crash)}
.key i.f{background:var(--alarm)}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line);vertical-align:middle}
thead th{color:var(--soft);font-weight:500;font-size:.8rem}
tbody th{font-weight:500}
.n td,.n th:nth-child(n+2),.bars td:nth-child(2),.bars th:nth-child(2){text-align:right}
.n td{white-space:nowrap}
.n tbody th,.g tbody th span,.r tbody th span,.g td,.r td:nth-child(-n+3){white-space:nowrap}
.bars td:last-child{width:55%}.pic td:last-child{width:30%;min-width:8rem}
.g td small{display:block}
.g svg{width:5rem;min-width:3rem}
svg.meter{height:.8rem;min-width:4rem}
.bad{color:var(--alarm);font-weight:600}
summary{cursor:pointer;color:var(--soft);padding:.5rem 0}
.unseen{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
@media (max-width:40rem){.hide,.times span.mid{display:none}h1{font-size:1.35rem}table{font-size:.82rem}
th,td{padding-right:.35rem}.pic td:last-child,.pic th:last-child{display:none}svg.meter{min-width:2.5rem}
.bars td:last-child{width:40%}.g td{white-space:normal}.g td:last-child,.g th:last-child{display:none}
.r thead{display:none}.r tbody tr{display:flex;flex-wrap:wrap;column-gap:.6rem;
border-bottom:1px solid var(--line);padding:.3rem 0}.r tbody th,.r td{border:0;padding:0}
.r td:nth-child(3)::before{content:"frozen "}.r td:last-child{flex-basis:100%}}
@media print{:root{--page:#fff;--ink:#000;--soft:#444;--line:#bbb;--card:#fff;--ok:#0f766e;--memory:#4f63c8;
--offline:#708096;--crash:#c96a05;--unknown:#b3246b;--alarm:#b42318;--alarm-page:#fff;--best:#14532d}body{font-size:11pt}
.pair section{border:1px solid var(--line)}h2,h3{break-after:avoid}figure,tr,article,.alarm{break-inside:avoid}
.key i,.best,.ok,.memory,.offline,.crash,.unknown{print-color-adjust:exact;-webkit-print-color-adjust:exact}
main,header,footer{max-width:none;padding:0}}
"""
