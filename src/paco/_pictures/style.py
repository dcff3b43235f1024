"""How the report looks: light and dark, on a wide screen, on a phone, and inside a notebook."""

from __future__ import annotations

from typing import Final

# Every rule begins with the class of the report, so that none touches the page around it.
STYLE: Final = """
.paco-report{--bg:#fff;--fg:#1f2328;--dim:#59636e;--rule:#d8dee4;--tile:#f6f8fa;--grid:#e6eaee;
--ok:#4c8dd6;--retried:#dc9a00;--failed:#d1242f;--cancelled:#a3abb4;--mark:#1f2328;
background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,-apple-system,"Segoe UI",sans-serif;
box-sizing:border-box;margin:0 auto;max-width:1080px;min-height:100%;padding:20px}
@media(prefers-color-scheme:dark){.paco-report{--bg:#0d1117;--fg:#e6edf3;--dim:#9198a1;--rule:#30363d;--tile:#161b22;
--grid:#21262d;--ok:#58a0ee;--retried:#e3b341;--failed:#ff6a69;--cancelled:#6e7681;--mark:#e6edf3}}
html:has(>body>.paco-report){background:#fff}
@media(prefers-color-scheme:dark){html:has(>body>.paco-report){background:#0d1117}}
.paco-report h1{font-size:24px;line-height:1.2;margin:0;overflow-wrap:anywhere}
.paco-report h2{align-items:baseline;display:flex;flex-wrap:wrap;font-size:16px;gap:2px 14px;margin:28px 0 8px}
.paco-report section+section,.paco-report .wide+section{border-top:1px solid var(--rule);margin-top:40px;
padding-top:28px}
.paco-report p{margin:8px 0}
.paco-report a{color:inherit}
.paco-report .facts,.paco-report footer,.paco-report small,.paco-report em{color:var(--dim)}
.paco-report .facts,.paco-report footer,.paco-report small{font-size:13px;font-weight:400}
.paco-report .verdict{border-left:3px solid var(--ok);font-size:17px;margin:16px 0;padding-left:12px}
.paco-report .tiles{display:grid;gap:10px;grid-template-columns:repeat(auto-fit,minmax(140px,1fr))}
.paco-report .tiles div{background:var(--tile);border:1px solid var(--rule);border-radius:8px;padding:8px 12px}
.paco-report .tiles span{color:var(--dim);display:block;font-size:13px}
.paco-report .tiles b{font-size:20px;font-variant-numeric:tabular-nums}
.paco-report .tiles .bad b{color:var(--failed)}
.paco-report .key s{background:var(--ok);border-radius:2px;display:inline-block;height:10px;
margin:0 5px 0 8px;width:14px}
.paco-report .key s.retried{background:var(--retried)}
.paco-report .key s.failed{background:var(--failed)}
.paco-report .key s.cancelled{background:var(--cancelled)}
.paco-report .key s.area{opacity:.35}
.paco-report .key s.line{background:var(--ok);height:2px;vertical-align:middle}
.paco-report .plot{display:grid;font-size:12px;grid-template-columns:40px 1fr;
font-variant-numeric:tabular-nums}
.paco-report .plot em{font-style:normal}
.paco-report .yt{grid-column:1/3;margin-bottom:8px}
.paco-report .xt{grid-column:2;text-align:right}
.paco-report .ys{position:relative}
.paco-report .ys span{position:absolute;right:8px;transform:translateY(50%)}
.paco-report .field{border:1px solid var(--rule);border-width:0 0 1px 1px;min-width:0;position:relative}
.paco-report .field svg{display:block;height:100%;width:100%}
.paco-report .xs{grid-column:2;height:20px;position:relative}
.paco-report .xs span{padding-top:2px;position:absolute;transform:translateX(-50%);white-space:nowrap}
.paco-report .xs span:first-child{transform:none}
.paco-report path{fill:none;stroke:var(--ok)}
.paco-report path.retried{stroke:var(--retried)}
.paco-report path.failed{stroke:var(--failed)}
.paco-report path.cancelled{stroke:var(--cancelled)}
.paco-report path.grid{stroke:var(--grid);stroke-width:1px;vector-effect:non-scaling-stroke}
.paco-report path.bound{stroke:var(--dim);stroke-width:1px;vector-effect:non-scaling-stroke}
.paco-report .lost{color:var(--failed);font-weight:400}
.paco-report path.area{fill:var(--ok);opacity:.35;stroke:none}
.paco-report path.line{stroke-width:1.5px;vector-effect:non-scaling-stroke}
.paco-report path.limit{stroke:var(--dim);stroke-dasharray:5 4;stroke-width:1px;vector-effect:non-scaling-stroke}
.paco-report rect{fill:var(--ok)}
.paco-report rect.failed{fill:var(--failed)}
.paco-report .field i{border-left:1px dashed var(--mark);bottom:0;font-style:normal;position:absolute;top:0}
.paco-report .field i b{background:var(--bg);border-radius:3px;left:3px;padding:0 3px;position:absolute;top:0;
white-space:nowrap}
.paco-report .field i.left b{left:auto;right:4px}
.paco-report .field i:nth-of-type(2) b{top:19px}
.paco-report .field i:nth-of-type(3) b{top:38px}
.paco-report .wide{overflow-x:auto}
.paco-report table{border-collapse:collapse;color:inherit;font-size:14px;margin:0}
.paco-report th{color:var(--dim);font-weight:400}
.paco-report th,.paco-report td{background:none;border-bottom:1px solid var(--rule);padding:5px 24px 5px 0;
text-align:left;vertical-align:top}
.paco-report td:first-child{font-variant-numeric:tabular-nums}
.paco-report td,.paco-report th{white-space:nowrap}
.paco-report code{font-family:ui-monospace,SFMono-Regular,Menlo,monospace;font-size:13px}
.paco-report footer{margin-top:32px}
"""
