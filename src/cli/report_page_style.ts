/**
 * The style of a report's page: light and dark, for paper too. The colours of charts are told apart by people who do
 * not see all colours (the palette of Okabe and Ito), and stand beside words.
 */
export const PAGE_STYLE = `
:root{color-scheme:light dark;--bg:#fff;--fg:#1a1c20;--soft:#555b66;--line:#d5d9e0;--card:#f3f5f8;--accent:#0072b2;
--gpu:#0072b2;--cpu:#d55e00;--in:#009e73;--out:#b8860b}
@media (prefers-color-scheme:dark){:root{--bg:#14171c;--fg:#e8eaee;--soft:#a9b0bc;--line:#363c47;--card:#1e232b;
--accent:#6cc0f5;--gpu:#56b4e9;--cpu:#f0864a;--in:#2fc99a;--out:#f0c04a}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--fg);font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main{max-width:1120px;margin:0 auto;padding:0 24px}
header{padding-top:20px}
h1{font-size:1.5rem;margin:0;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:32px 0 10px;padding-top:6px;border-top:2px solid var(--line)}
h3{font-size:1rem;margin:20px 0 6px;overflow-wrap:anywhere}
p{margin:6px 0;overflow-wrap:anywhere}
header p{margin:0}
.soft{color:var(--soft)}
.answers{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(270px,1fr))}
.answer{background:var(--card);border-left:4px solid var(--accent);padding:10px 14px;border-radius:4px}
.answer h3{margin:0 0 2px;color:var(--accent)}
.answer p{margin:0}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:8px 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
ol,ul{padding-left:24px;margin:8px 0}
li{margin:4px 0}
ol>li{margin:12px 0}
.wide{overflow-x:auto;margin:12px 0}
table{border-collapse:collapse;font-size:.92rem;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:4px 0}
th,td{padding:3px 14px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
thead th{color:var(--soft);font-weight:600;white-space:nowrap}
tbody th{font-weight:400;white-space:nowrap}
.r{text-align:right;white-space:nowrap}
figure{margin:10px 0}
figcaption{color:var(--soft);font-size:.9rem}
svg{width:100%;height:auto;display:block}
svg text{fill:var(--fg);font-size:14px}
svg text.soft{fill:var(--soft);font-size:13px}
.gain{max-width:330px}
.axis{stroke:var(--soft);stroke-width:1}
.span{stroke:var(--soft);stroke-width:3}
.gpu{fill:var(--gpu)}.cpu{fill:var(--cpu)}.in{fill:var(--in)}.out{fill:var(--out)}
:focus-visible{outline:2px solid var(--accent)}
@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--line:#bbb;--card:#f3f5f8;--accent:#0072b2;--gpu:#0072b2;
--cpu:#d55e00;--in:#009e73;--out:#b8860b}body{font-size:11pt}h2{break-after:avoid}
figure,li,tr,.answer{break-inside:avoid}
.wide{overflow:visible}}
`.replaceAll('\n', '');
