"""A rollout as an SVG: what was not acknowledged yet, and how many workers there were."""

from __future__ import annotations

from tests.rollout.campaign import Rollout, Sample

__all__ = ["chart"]

WIDTH, LEFT, RIGHT = 900, 70, 20
LAG_TOP, LAG_HEIGHT = 60, 240
CREW_TOP, CREW_HEIGHT = 340, 90
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #57606a }
.title { font-size: 16px; font-weight: 600 }
.axis { stroke: #8c959f; stroke-width: 1 }
.event { stroke: #8c959f; stroke-dasharray: 3 4 }
.lag { fill: #0969da33; stroke: #0969da; stroke-width: 1.5 }
.crew { fill: none; stroke: #bc4c00; stroke-width: 2 }
"""


def chart(seen: Rollout) -> str:
    """Return the SVG document."""
    samples = seen.samples
    longest = max(sample.at for sample in samples)
    most = max(*(sample.lag for sample in samples), 1)
    crew = max(sample.workers for sample in samples)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / longest

    def lag_y(lag: float) -> float:
        return LAG_TOP + LAG_HEIGHT * (1 - lag / most)

    def crew_y(workers: float) -> float:
        return CREW_TOP + CREW_HEIGHT * (1 - workers / crew)

    base = LAG_TOP + LAG_HEIGHT
    points = " ".join(f"{x(s.at):.1f},{lag_y(s.lag):.1f}" for s in samples)
    area = f"{x(samples[0].at):.1f},{base} {points} {x(samples[-1].at):.1f},{base}"
    rate = f"{seen.flow.messages:,} messages at {seen.flow.rate:,.0f} a second"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 470" role="img">',
        f"<title>Lag and workers: {rate}</title>",
        f"<style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="24">{rate}: 1, then {seen.flow.most} workers, each replaced, then 1</text>',
        f'<text x="{LEFT}" y="46">not acknowledged yet (messages)</text>',
        f'<polygon class="lag" points="{area}"/>',
        *_axis(base, [(lag_y(v), f"{v:,.0f}") for v in (0, most / 2, most)]),
        f'<text x="{LEFT}" y="{CREW_TOP - 12}">workers</text>',
        f'<polyline class="crew" points="{_steps(samples, x, crew_y)}"/>',
        *_axis(CREW_TOP + CREW_HEIGHT, [(crew_y(v), str(v)) for v in (0, crew)]),
    ]
    for at, what in seen.events:
        parts.append(
            f'<line class="event" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="{LAG_TOP}" y2="{CREW_TOP + CREW_HEIGHT}"/>'
        )
        parts.append(f'<text x="{x(at) + 4:.1f}" y="{LAG_TOP + 12}">{what}</text>')
    for part in range(0, 101, 25):
        at = longest * part / 100
        parts.append(f'<text text-anchor="middle" x="{x(at):.1f}" y="450">{at:.0f} s</text>')
    return "\n".join([*parts, "</svg>", ""])


def _axis(base: float, marks: list[tuple[float, str]]) -> list[str]:
    line = f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>'
    texts = [f'<text text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{text}</text>' for y, text in marks]
    return [line, *texts]


def _steps(samples: list[Sample], x, crew_y) -> str:
    points: list[str] = []
    before = samples[0].workers
    for sample in samples:
        points += [
            f"{x(sample.at):.1f},{crew_y(before):.1f}",
            f"{x(sample.at):.1f},{crew_y(sample.workers):.1f}",
        ]
        before = sample.workers
    return " ".join(points)
