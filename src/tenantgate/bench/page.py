"""A result as one self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from tenantgate.bench import plots
from tenantgate.bench.report import gates, of

__all__ = ["html_table", "page", "shell"]

Json = dict[str, Any]
_BUDGET_MS: Final = 15.0

_STYLE: Final = """
:root{color-scheme:light dark;--text:#1d232b;--soft:#66707c;--line:#dde2e8;--back:#fff;--point:#3b6fb6}
@media(prefers-color-scheme:dark){:root{--text:#e4e8ed;--soft:#98a2ae;--line:#333b45;--back:#14181d}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--back);max-width:920px;margin:2.5rem auto;
padding:0 1.2rem}
h1{font-size:1.6rem;margin-bottom:.2rem} h2{font-size:1.15rem;margin:2.4rem 0 .4rem}
h3{font-size:1rem;margin:1.4rem 0 .2rem}
p{max-width:46rem} p.soft,caption,td.soft{color:var(--soft)} .scroll{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.88rem}
th{font-weight:600;text-align:right;vertical-align:bottom;padding:.25rem .6rem;border-bottom:2px solid var(--line)}
td{text-align:right;padding:.25rem .6rem;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
svg{width:100%;height:auto;font-size:11.5px} svg text{fill:var(--text)} .grid{stroke:var(--line)}
.zero{stroke:var(--soft)} .mark{stroke:#c4594d;stroke-dasharray:4 3} .whisker{stroke:var(--point);stroke-width:2.5}
circle{fill:var(--point)} .legend{font-size:.85rem;max-width:none} .legend span{margin-right:1.1rem;white-space:nowrap}
.legend i{display:inline-block;width:.75rem;height:.75rem;border-radius:2px;margin-right:.35rem}
.pair{display:grid;grid-template-columns:repeat(auto-fit,minmax(340px,1fr));gap:.6rem 1.4rem}
.ok{color:#2e8b57} .bad{color:#c4594d} code{font-size:.9em} details{margin:.6rem 0}
"""


def shell(title: str, body: str) -> str:
    """A whole page around `body`, which is HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def page(result: Json) -> str:
    """The report as one file that needs nothing else."""
    about = result["about"]
    parts = [
        "<h1>What Tenantgate costs, and what it gives</h1>",
        f'<p class="soft">{html.escape(_where(about))}</p>',
        _verdict(result),
        _latency(result),
        _distribution(result),
        _traces(result),
        _work(result),
        _quality(result),
        _how(about),
    ]
    return shell("Tenantgate: benchmark", "".join(parts))


def _where(about: Json) -> str:
    return (
        f"{about['date']} · {about['machine']} · Python {about['python']} · {about.get('gateway', '')} · "
        f"version {about['version']}, commit {about['commit'] or 'unknown'}"
    )


def _verdict(result: Json) -> str:
    failed = gates(result)
    if not failed:
        said = (
            "All gates hold: no errors, no answer of another tenant, nothing in clear that is to be masked."
        )
        return f'<p class="ok">{said}</p>'
    return "".join(f'<p class="bad">{html.escape(line)}</p>' for line in failed)


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Rows of text as a table."""
    top = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def _latency(result: Json) -> str:
    configurations = result["configurations"]
    settings = result["about"]["settings"]
    said = (
        "<h2>What a request waits longer</h2>"
        f"<p>Each request is sent both ways, moments apart, {settings['rate']:g} a second each; what is shown is the "
        "quantile with the plugins less the quantile without, for requests that reach the provider, with 95 % "
        "intervals. <em>bare again</em> is the bare route beside itself: what is noise. Times count from the moment "
        "at which a request was meant to be sent. The dashed line is the budget of 15 ms.</p>"
    )
    out = [said]
    for choice, title in (
        ("pass, 100 tokens", "Prompts of about 100 tokens, p95"),
        ("pass", "All that reach the provider but long ones, p95"),
        ("pass", "All that reach the provider but long ones, p50"),
        ("pass, long", "Long prompts, p50"),
    ):
        quantile = title[-3:]
        rows = [
            (name, found["value"], found["low"], found["high"])
            for name, c in configurations.items()
            if (found := c["latency"][choice]["added"].get(quantile))
        ]
        mark = _BUDGET_MS if quantile == "p95" else None
        out.append(f"<h3>{title}, ms</h3>" + (plots.intervals(rows, unit="ms", mark=mark) if rows else ""))
    head = (
        "",
        "requests",
        "bare p50",
        "p95",
        "p99",
        "ours p50",
        "p95",
        "p99",
        "ratio p50",
        "p95",
        "hit p50",
        "hit / bare",
    )
    rows_ = []
    for name, c in configurations.items():
        passed, hit = c["latency"]["pass"], c["latency"]["hit"]
        rows_.append(
            (
                name,
                str(passed["pairs"]),
                *_ms(passed["bare"]),
                *_ms(passed["with_us"]),
                *(_estimate(passed["ratio"].get(q)) for q in ("p50", "p95")),
                _ms(hit["with_us"])[0],
                _estimate(hit["ratio"].get("p50")),
            )
        )
    out.append(html_table(head, rows_))
    tokens = [
        (
            name,
            *_ms(c["first_token"]["bare"])[:2],
            *_ms(c["first_token"]["with_us"])[:2],
            str(c["first_token"]["pairs"]),
        )
        for name, c in configurations.items()
    ]
    out.append("<h3>Streams: time to the first token, ms</h3>")
    out.append(html_table(("", "bare p50", "p95", "ours p50", "p95", "streams"), tokens))
    return "".join(out)


def _ms(quantiles: Mapping[str, float]) -> list[str]:
    return [f"{quantiles[q]:.1f}" if q in quantiles else "–" for q in ("p50", "p95", "p99")]


def _estimate(found: Json | None) -> str:
    return f"{found['value']:.2f} ({found['low']:.2f}–{found['high']:.2f})" if found else "–"


def _distribution(result: Json) -> str:
    shown = []
    for name, c in result["configurations"].items():
        lines = [
            (who, [(ms, float(q)) for q, ms in enumerate(points) if q < 100])
            for who, points in (("bare", c["curve"]["bare"]), (name, c["curve"]["ours"]))
            if points
        ]
        shown.append(
            f"<div><h3>{html.escape(name)}</h3>{plots.curves(lines, x_label='ms', y_label='% of requests')}</div>"
        )
    key = plots.legend({"bare": plots.COLOURS[0], "with the plugins": plots.COLOURS[1]})
    return f'<h2>How long requests take</h2>{key}<div class="pair">{"".join(shown)}</div>'


def _traces(result: Json) -> str:
    traces = result.get("traces")
    if not traces:
        return ""
    colours = _colours(p for kinds in traces.values() for entry in kinds for p in entry["parts"])
    shown: dict[str, list[tuple[str, list[tuple[str, float]]]]] = {}
    for name, kinds in traces.items():
        shown[name] = []
        for entry in kinds:
            parts = [
                (_part(p), p["ms"]) for p in entry["parts"] if p["ms"] > 0.005 and p["part"] != "provider"
            ]
            what = max(entry["outcomes"], key=entry["outcomes"].__getitem__, default="")
            shown[name].append((f"{entry['kind']} ({what})", parts))
    said = (
        "<h2>Where the time goes</h2><p>Requests of each kind one by one on an idle gateway, means in ms, without the "
        "provider's own time. What runs after the answer (the log phase) isn't in it. The stopwatch takes some time "
        "itself.</p>"
    )
    out = [said]
    for name, rows in shown.items():
        seen = {part for _, parts in rows for part, _ in parts}
        key = plots.legend({part: c for part, c in colours.items() if part in seen})
        out.append(f"<h3>{html.escape(name)}</h3>{key}{plots.bars(rows, colours, unit='ms')}")
    head = ("", "kind", "plugin", "PDK calls before the answer", "after it, ms")
    calls = [
        (
            name,
            entry["kind"],
            plugin,
            ", ".join(entry["methods"].get(plugin, ())),
            f"{entry['after_ms'].get(plugin, 0):.1f}",
        )
        for name, kinds in traces.items()
        for entry in kinds
        for plugin in sorted({*entry["methods"], *entry["after_ms"]})
    ]
    if calls:
        out.append(f"<details><summary>PDK calls of each</summary>{html_table(head, calls)}</details>")
    return "".join(out)


def _colours(parts: Iterable[Json]) -> dict[str, str]:
    """A hue for each plugin, lighter from part to part; greys for what isn't ours."""
    by_plugin: dict[str, list[str]] = {}
    for part in parts:
        names = by_plugin.setdefault(part["plugin"], [])
        if _part(part) not in names:
            names.append(_part(part))
    hues = {plugin: 47 * i % 360 for i, plugin in enumerate(sorted(p for p in by_plugin if p))}
    return {
        name: f"hsl({hues[plugin]} 55% {38 + 40 * i / len(names):.0f}%)"
        if plugin
        else f"hsl(0 0% {45 + 35 * i / len(names):.0f}%)"
        for plugin, names in by_plugin.items()
        for i, name in enumerate(names)
    }


def _part(part: Json) -> str:
    return f"{part['plugin'].removeprefix('tenant-')}: {part['part']}" if part["plugin"] else part["part"]


def _work(result: Json) -> str:
    configurations = result["configurations"]
    roles = [
        r for c in configurations.values() for r, v in c["cost"]["cpu_ms_per_request"].items() if v >= 0.05
    ]
    colours = {r: plots.COLOURS[i % len(plots.COLOURS)] for i, r in enumerate(dict.fromkeys(roles))}
    cpu = [
        (name, [(r, c["cost"]["cpu_ms_per_request"].get(r, 0.0)) for r in colours])
        for name, c in configurations.items()
    ]
    head = (
        "",
        "at most, requests/s",
        "bare",
        "PDK calls",
        "Redis trips",
        "Redis commands",
        "provider asked",
        "tokens saved: cache",
        "compression",
        "errors",
    )
    rows = []
    for name, c in configurations.items():
        cost = c["cost"]
        asked = max(1, cost["tokens"]["asked"])
        rows.append(
            (
                name,
                *_throughput(c),
                f"{sum(cost['pdk_calls_per_request'].values()):.2f}",
                f"{cost['redis_per_request']['trips']:.2f}",
                f"{cost['redis_per_request']['commands']:.2f}",
                _asked(cost, c["requests"]),
                f"{cost['tokens']['saved_by_hits'] / asked:.0%}",
                f"{cost['tokens']['saved_by_compression'] / asked:.0%}",
                str(sum(c["errors"].values())),
            )
        )
    memory = [
        (name, *(f"{c['cost']['rss_mb'].get(r, 0):.0f}" for r in colours))
        for name, c in configurations.items()
    ]
    return (
        "<h2>What the machine does for it</h2><h3>Processor time per request, ms</h3>"
        + plots.legend(colours)
        + plots.bars(cpu, colours, unit="ms")
        + "<h3>Per request</h3>"
        + html_table(head, rows)
        + "<h3>Memory by process, MiB</h3>"
        + html_table(("", *colours), memory)
    )


def _asked(cost: Json, requests: int) -> str:
    return "–" if cost["provider_asked"] is None else f"{cost['provider_asked']} of {requests}"


def _throughput(c: Json) -> tuple[str, str]:
    found = c.get("throughput")
    return (f"{found['ours']:.0f}", f"{found['bare']:.0f}") if found else ("–", "–")


def _quality(result: Json) -> str:
    head = (
        "",
        "repeats hit",
        "paraphrases hit",
        "all hits",
        "wrong hits",
        "of another tenant",
        "attacks blocked",
        "honest blocked",
        "personal data in clear",
    )
    keys = ("repeats", "paraphrases", "hits", "wrong_hits")
    rows = [
        (
            name,
            *(of(c["quality"][k]) for k in keys),
            str(c["quality"]["foreign"]),
            of(c["quality"]["attacks_blocked"]),
            of(c["quality"]["honest_blocked"]),
            of(c["quality"]["personal_in_clear"]),
        )
        for name, c in result["configurations"].items()
    ]
    return (
        "<h2>Whether the answers are right</h2><p>The questions are made from templates, so that it is known which "
        "answer belongs to which. They are more alike than people's: some differ from another in one word only. Rates "
        "compare configurations; they don't tell what real traffic gives.</p>" + html_table(head, rows)
    )


def _how(about: Json) -> str:
    rows = [(k.replace("_", " "), str(v)) for k, v in about["settings"].items() if v is not None]
    return f"<h2>How</h2>{html_table(('setting', 'value'), rows)}"
