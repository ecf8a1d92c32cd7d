"""How good the estimate of a whole build is, by simulation; `python benchmarks/eta.py` draws docs/eta.svg.

Ten builds of a workspace of 200 steps on four workers. Each step's time is noisy from build to build, each build as a
whole is slower or faster than the last (a machine with other things to do). The schedule is the build's own: longest
remaining path first. What is measured is what would be shown, twice a second.
"""

import heapq
import random
import statistics
from dataclasses import dataclass
from pathlib import Path

from build_tests.core.eta import Eta
from build_tests.core.plan import remaining

STEPS, WORKERS, BUILDS = 200, 4, 10
EVERY = 0.5
NOISE = 0.3
"""Standard deviation of the logarithm of a step's time from build to build: two thirds lie within -26 % and +35 %."""
MACHINE = 0.15
"""The same of a build as a whole."""


@dataclass(frozen=True)
class Edges:
    needs: dict
    needed_by: dict
    order: tuple


@dataclass(frozen=True)
class Simulated:
    samples: list
    """(seconds since the start, seconds left as shown)."""
    wall: float

    def error_at(self, share):
        """How far it was off then, as a share of what was left."""
        at, left = min(self.samples, key=lambda sample: abs(sample[0] - share * self.wall))
        return abs(left - (self.wall - at)) / (self.wall - at)


def workspace(chance):
    labels = tuple(f"c{i // 10}:s{i}" for i in range(STEPS))
    needs = {}
    for i, label in enumerate(labels):
        count = chance.choice((0, 1, 1, 2, 3)) if i > 8 else 0
        needs[label] = tuple(sorted({labels[chance.randrange(max(0, i - 30), i)] for _ in range(count)}))
    return Edges(needs, {label: tuple(u for u in labels if label in needs[u]) for label in labels}, labels)


def build(edges, seconds, eta, rank):
    missing = {label: len(edges.needs[label]) for label in edges.order}
    ready = [(-rank[label], label) for label in edges.order if not missing[label]]
    heapq.heapify(ready)
    busy, samples, now, tick = [], [], 0.0, 0
    while ready or busy:
        while ready and len(busy) < WORKERS:
            label = heapq.heappop(ready)[1]
            eta.started(label, now)
            heapq.heappush(busy, (now + seconds[label], label))
        now, label = heapq.heappop(busy)
        while tick * EVERY < now:
            samples.append((tick * EVERY, eta.show(tick * EVERY)))
            tick += 1
        eta.settled(label, seconds[label])
        for user in edges.needed_by[label]:
            missing[user] -= 1
            if not missing[user]:
                heapq.heappush(ready, (-rank[user], user))
    return Simulated(samples, now)


def builds(seed):
    """Ten builds, one after the other, each knowing the ones before."""
    chance = random.Random(seed)
    edges = workspace(chance)
    usual = {label: chance.lognormvariate(0.0, 1.0) for label in edges.order}
    past = {label: [] for label in edges.order}
    found = []
    for _ in range(BUILDS):
        machine = chance.lognormvariate(0.0, MACHINE)
        seconds = {label: usual[label] * machine * chance.lognormvariate(0.0, NOISE) for label in edges.order}
        expected = {label: statistics.median(times) for label, times in past.items() if times}
        eta = Eta(edges, expected, edges.order, WORKERS)
        found.append(build(edges, seconds, eta, remaining(edges, edges.order, expected)))
        for label, took in seconds.items():
            past[label].append(took)
    return found


def plot(runs):
    """What was shown against what was true, a line a build, both as shares of the whole."""
    width, height, margin = 720, 420, 50

    def place(x, y):
        return f"{margin + x * (width - 2 * margin):.1f},{height - margin - y / 1.5 * (height - 2 * margin):.1f}"

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for tenth in range(0, 11, 2):
        x, y = place(tenth / 10, 0).split(",")
        lines.append(f'<text x="{x}" y="{float(y) + 18}" text-anchor="middle">{tenth * 10} %</text>')
    for share in (0, 0.5, 1, 1.5):
        x, y = place(0, share).split(",")
        lines.append(f'<text x="{float(x) - 8}" y="{float(y) + 4}" text-anchor="end">{share:.0%}</text>')
        lines.append(f'<polyline points="{place(0, share)} {place(1, share)}" stroke="#ddd"/>')
    for run in runs:
        points = " ".join(
            place(at / run.wall, min(1.5, left / run.wall)) for at, left in run.samples if left is not None
        )
        lines.append(f'<polyline points="{points}" fill="none" stroke="#2a6fbb" stroke-opacity="0.5"/>')
    lines += [
        f'<polyline points="{place(0, 1)} {place(1, 0)}" stroke="black" stroke-width="1.5" stroke-dasharray="5 4"/>',
        f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">time since the start, of the whole build</text>',
        f'<text x="{width / 2}" y="24" text-anchor="middle">time left as shown (dashed: true)</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def main():
    later = builds(1)[1:]
    (Path(__file__).parents[1] / "docs" / "eta.svg").write_text(plot(later))
    for share in (0.0, 0.25, 0.5, 0.75):
        errors = [run.error_at(share) for seed in range(10) for run in builds(seed)[1:]]
        print(f"at {share:4.0%} of the time: median error {statistics.median(errors):.1%}, worst {max(errors):.0%}")


if __name__ == "__main__":
    main()
