"""A loop that doesn't rest: how much goes through, and where it bends, on one machine with everything on it.

    python benchmarks/bench_saturation.py [--kong BIN] [--rates 50 100 200 400] [--processes auto 1] [--out DIR]

Unique prompts of 100 tokens to tenants with all plugins, beside the bare route and beside tenants of the same gateway
that have no stage at all, which is what the way to the engine and back costs: first a closed loop of so many
connections (requests a second, and as share of the bare route's), then an open loop at each rate (what a client waits,
counted from when a request was due). The targets take turns, so that whatever else the machine does hits all alike.
Processor time is that of all processes but the provider's and the client's, which share the machine. Prints tables,
writes saturation.json and saturation.html. Nothing is gated.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from tenantgate.bench import configurations, load, page, plots, procs, running, stats, workload
from tenantgate.bench.configurations import BARE, Configuration
from tenantgate.bench.load import Due, Plan, Shot
from tenantgate.bench.report import plain_table
from tenantgate.bench.sites import Site
from tenantgate.bench.workload import Ask

_FOLDER: Final = Path(__file__).parent / "configurations"
_TENANTS: Final = 4
_MOST: Final = 3000  # requests a second of a closed loop; one that could do more would seem to do no more
_WARM_S: Final = 1.0
_CLOSED: Final = 0.0
_BARE: Final = "bare"
_NO_STAGE: Final = "nothing"


@dataclass
class Cell:
    """What became of one target's requests at one rate."""

    seconds: float = 0.0
    took_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    cpu_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, shots: Sequence[Shot], seconds: float, spent: Mapping[str, float]) -> None:
        """Another turn."""
        self.seconds += seconds
        for shot in shots:
            if shot.status == 200 and not shot.error:
                self.took_ms.append(shot.total_s * 1000)
            else:
                self.errors[f"{shot.status} {shot.error or shot.reason}".strip()] += 1
        for role, value in spent.items():
            if role != "mock provider":
                self.cpu_s[role] += value

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        done = len(self.took_ms)
        return {
            "requests": done + self.errors.total(),
            "per_second": done / self.seconds,
            **stats.quantiles(self.took_ms),
            "errors": dict(self.errors),
            "cpu_ms": {role: 1000 * s / max(1, done) for role, s in self.cpu_s.items()},
        }


class Asks:
    """Requests that no cache has seen, each given once."""

    def __init__(self) -> None:
        self._seed = 5_000_000
        self._left: Iterator[Ask] = iter(())

    def take(self, count: int) -> list[Ask]:
        """The next ones."""
        out: list[Ask] = []
        while len(out) < count:
            found = next(self._left, None)
            if found is None:
                self._seed += 1
                made = workload.make(_MOST, seed=self._seed, tenants=_TENANTS, kinds=("hundred",))
                self._left = iter(made)
                continue
            out.append(found)
        return out


def turn(target: tuple[Site, Configuration], asks: Asks, rate: float, *, seconds: float, lanes: int) -> Plan:
    """What one target gets in one turn."""
    site, configuration = target
    closed = rate == _CLOSED
    chosen = asks.take(int((_MOST if closed else rate) * seconds))
    dues = []
    for place, ask in enumerate(chosen):
        url, headers = site.target(configuration, ask.tenant)
        at_s = 0.0 if closed else place / rate
        dues.append(Due(at_s, configuration.name, place, url, headers, ask.body(**site.extra)))
    return Plan(dues, lanes if closed else 0, seconds)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rates, the targets by turns."""
    found, _ = configurations.read(_FOLDER)
    everything = next(c for c in found if c.name == args.configuration)
    targets: dict[str, tuple[Site, Configuration]] = {}
    result: dict[str, Any] = {"about": running.about(running.Settings(kong_bin=args.kong)), "cells": {}}
    with contextlib.ExitStack() as exits:
        for processes in args.processes:
            print(f"starting a gateway whose engine has {processes} processes …", flush=True)
            nothing = Configuration(name=_NO_STAGE, title="the engine alone", gateway=everything.gateway)
            group = [replace(BARE, gateway=everything.gateway), nothing, everything]
            site = exits.enter_context(
                Site(
                    group,
                    folder / f"site-{processes}",
                    tenants=_TENANTS,
                    latency_ms=args.latency_ms,
                    chunk_ms=0.0,
                    kong_bin=args.kong,
                    processes=processes,
                )
            )
            targets.setdefault(_BARE, (site, BARE))
            targets.setdefault("no stage", (site, nothing))
            name = everything.name if len(args.processes) == 1 else f"{everything.name}, {processes}"
            targets[name] = (site, everything)
        asks = Asks()
        for rate in (_CLOSED, *args.rates):
            cells = {name: Cell() for name in targets}
            if rate == _CLOSED:
                for target in targets.values():
                    load.run(turn(target, asks, _CLOSED, seconds=_WARM_S, lanes=args.lanes))
            for number in range(args.turns):
                # Each turn begins with another target.
                names = [*targets][number % len(targets) :] + [*targets][: number % len(targets)]
                for name in names:
                    site, _ = targets[name]
                    before = site.counts()
                    plan = turn(targets[name], asks, rate, seconds=args.seconds, lanes=args.lanes)
                    shots = load.run(plan)
                    site.wait_for_log_phases()
                    spent = procs.spent(before.usage, site.counts().usage)
                    cells[name].add(shots, args.seconds, spent)
            result["cells"][f"{rate:g}"] = {name: cell.plain() for name, cell in cells.items()}
            print(
                f"{label(rate, args.lanes)}\n{plain_table(_HEAD, rows(result['cells'][f'{rate:g}']))}\n",
                flush=True,
            )
    return result


def label(rate: float, lanes: int) -> str:
    """A rate in words."""
    return f"closed loop, {lanes} connections" if rate == _CLOSED else f"{rate:g} requests/s"


_HEAD: Final = ("", "requests/s", "× bare", "p50 ms", "p95", "p99", "errors", "CPU ms", "× bare", "of it")


def rows(cells: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """A row for each target."""
    bare = cells[_BARE]
    bare_cpu = bare["cpu_ms"]["gateway"]  # without an engine that waits for work
    out = []
    for name, cell in cells.items():
        cpu = sum(cell["cpu_ms"].values())
        parts = ", ".join(f"{role} {ms:.1f}" for role, ms in cell["cpu_ms"].items() if ms >= 0.05)
        out.append(
            (
                name,
                f"{cell['per_second']:.0f}",
                f"{cell['per_second'] / max(1e-9, bare['per_second']):.2f}",
                *(f"{cell.get(q, float('nan')):.1f}" for q in ("p50", "p95", "p99")),
                ", ".join(f"{n} x {what}" for what, n in cell["errors"].items()) or "0",
                f"{cpu:.1f}",
                f"{cpu / max(1e-9, bare_cpu):.1f}",
                parts,
            )
        )
    return out


def html_page(result: Mapping[str, Any], lanes: int) -> str:
    """Tables, and the curves of p50 and p95 over the rates."""
    about = result["about"]
    opened = {float(rate): cells for rate, cells in result["cells"].items() if float(rate) != _CLOSED}
    names = list(next(iter(result["cells"].values())))
    shown = []
    for quantile in ("p50", "p95", "p99"):
        lines = [
            (n, [(rate, c[n][quantile]) for rate, c in opened.items() if quantile in c[n]]) for n in names
        ]
        curve = plots.curves([line for line in lines if line[1]], x_label="requests a second", y_label="ms")
        shown.append(f"<div><h3>{quantile}, ms</h3>{curve}</div>")
    tables = "".join(
        f"<h3>{label(float(rate), lanes)}</h3>{page.html_table(_HEAD, rows(cells))}"
        for rate, cells in result["cells"].items()
    )
    key = plots.legend(dict(zip(names, plots.COLOURS, strict=False)))
    return page.shell(
        "Tenantgate: saturation",
        f"<h1>Where it bends</h1><p class='soft'>{about['date']} · {about['machine']} · commit {about['commit']}</p>"
        f"{key}<div class='pair'>{''.join(shown)}</div>{tables}",
    )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kong", type=Path, metavar="BIN", help="a real Kong instead of the embedded host")
    parser.add_argument("--configuration", default="all", help="default: %(default)s")
    parser.add_argument(
        "--rates", type=float, nargs="*", default=[50.0, 100.0, 200.0, 400.0], help="of the open loop"
    )
    parser.add_argument(
        "--processes", nargs="+", default=["auto"], help="of the engine; several are compared"
    )
    parser.add_argument(
        "--lanes", type=int, default=16, help="connections of the closed loop (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="of each turn (default: %(default)s)")
    parser.add_argument(
        "--turns", type=int, default=3, help="of each target at each rate (default: %(default)s)"
    )
    parser.add_argument("--latency-ms", type=float, default=5.0, help="the provider's (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("reports/saturation"))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tg-sat-") as folder:
        result = measure(args, Path(folder))
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "saturation.json").write_text(json.dumps(result, indent=1))
    (args.out / "saturation.html").write_text(html_page(result, args.lanes))
    print(f"{args.out / 'saturation.json'} and {args.out / 'saturation.html'} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
