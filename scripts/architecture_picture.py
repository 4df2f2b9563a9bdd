"""Draw rooms on floors with the arrows between them as one SVG that reads in light and dark.

A layered drawing (Sugiyama, Tagawa & Toda 1981): an arrow that passes a floor gets a *bend* there, a narrow place of its
own; places are ordered on each floor so that few arrows cross, then moved sideways until arrows run straight. The same
source gives the same bytes. Text is text, in the reader's own font.

Knows nothing of how imports are read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from pathlib import Path

from scripts.architecture import FAMILIES, FLOORS, STEPS, Source, family_of, reduced

__all__ = ["differences", "draw", "phrase"]

_WIDTH, _MARGIN, _TOP, _BOTTOM = 1060, 30, 116, 74
_BOX, _BEND, _CLIMB = 244, 8, 42
_APART, _BESIDE, _BETWEEN = 52, 20, 15

_LINE, _HEAD, _PAD = 15, 25, 11
_TEXT, _MAX_LINES = 206, 3
_SIZE = re.compile(r'(<text class="size"[^>]*>)([\d,]+)( lines</text>)')
_TOLERANCE = 0.25
"""How far a room's written size may be from the truth, so that not every commit has to draw the picture again."""

_PHRASES = {
    "pages": "one short file a page; it reads from top to bottom as the screen does",
    "analysis": "what import analysis offers, each name when it is first used",
    "benchmarks": "what everything costs, and what the methods find",
}
"""Of folders without an `__init__.py`, and of the package that holds all rooms."""

_COLOURS = {  # light, dark
    "dashboard": ("#b4531d", "#f0a070"),
    "other ways in": ("#8a6d00", "#e0c050"),
    "kept on disk": ("#6a4fb8", "#b6a0f5"),
    "change a model": ("#b02a5b", "#f288ae"),
    "measure a model": ("#1769b0", "#74b8f5"),
    "what it is about": ("#1c7a55", "#67cfa0"),
    "under everything": ("#66717d", "#a4b0bd"),
}


@dataclass
class _Place:
    """A box, or the bend of an arrow that passes a floor."""

    room: str
    """Empty for a bend."""
    floor: int
    width: float
    x: float = 0.0
    """Of its middle."""
    above: list["_Place"] = field(default_factory=list)
    below: list["_Place"] = field(default_factory=list)


def draw(source: Source) -> str:
    """The picture."""
    texts = {room: _wrapped(room, phrase(source, room)) for room in source.rooms}
    floors, arrows = _layout(source)
    heights = [
        _HEAD + _PAD + _LINE * max((len(texts[place.room]) for place in floor if place.room), default=1)
        for floor in floors
    ]
    tops = [_TOP + sum(heights[:i]) + i * _CLIMB for i in range(len(floors))]
    height = tops[-1] + heights[-1] + _BOTTOM
    parts = [*_opening(height, len(source.rooms), len(floors))]
    parts += ['<g fill="none">', *_arrows(arrows, tops, heights), "</g>"]
    for floor, top, tall in zip(floors, tops, heights):
        for place in floor:
            if place.room:
                lines = sum(file.lines for file in source.rooms[place.room])
                imports = ", ".join(map(_name, sorted(source.arrows[place.room]))) or "nothing of the project"
                parts += _box(place, top, tall, texts[place.room], lines, imports)
    parts += [*_legend(height), "</svg>"]
    return "\n".join(parts) + "\n"


def differences(source: Source, path: Path) -> str:
    """Why the picture at `path` is out of date; empty if it is not. Sizes may lag a little behind."""
    if not path.is_file():
        return f"There is no {path.name}."
    kept, now = path.read_text(encoding="utf-8"), draw(source)
    if _SIZE.sub("", kept) != _SIZE.sub("", now):
        return f"{path.name} is out of date: rooms, imports or their first sentences are others now."
    for was, new in zip(_SIZE.finditer(kept), _SIZE.finditer(now)):
        old, size = (int(match[2].replace(",", "")) for match in (was, new))
        if abs(old - size) > max(50, _TOLERANCE * size):
            return f"{path.name} is out of date: a room with {old} lines has {size} now."
    return ""


def phrase(source: Source, room: str) -> str:
    """What a room is, from the first sentence of its docstring: behind the colon after a mere name, else before it."""
    if room in _PHRASES:
        return _PHRASES[room]
    file = source.files.get(f"{room}/__init__.py") or source.files[room]
    head, colon, tail = file.first_sentence.removesuffix(".").partition(": ")
    text = tail if colon and len(head.split()) <= 3 else head
    return text.replace("`", "")


def _layout(source: Source) -> tuple[list[list[_Place]], list[list[_Place]]]:
    """Places on each floor from left to right with their x, and each arrow as the places it goes through."""
    floor_of = {room: i for i, rooms in enumerate(FLOORS) for room in rooms}
    if undeclared := [room for room in source.rooms if room not in floor_of]:
        raise SystemExit(f"{undeclared[0]} is on no floor: name it in FLOORS in scripts/architecture.py.")
    boxes = {room: _Place(room, floor_of[room], _BOX) for rooms in FLOORS for room in rooms if room in source.rooms}
    floors: list[list[_Place]] = [[boxes[room] for room in rooms if room in boxes] for rooms in FLOORS]
    arrows = []
    for room, others in sorted(reduced(source.arrows).items()):
        for other in sorted(others):
            bends = [_Place("", floor, _BEND) for floor in range(floor_of[room] + 1, floor_of[other])]
            for bend in bends:
                floors[bend.floor].append(bend)
            way = [boxes[room], *bends, boxes[other]]
            for upper, lower in pairwise(way):
                upper.below.append(lower)
                lower.above.append(upper)
            arrows.append(way)
    _order(floors)
    _move(floors)
    return floors, arrows


def _order(floors: list[list[_Place]], sweeps: int = 40) -> None:
    """Order every floor so that few arrows cross: by the mean rank of neighbours, then by swapping neighbours."""
    best, fewest = [list(floor) for floor in floors], _crossings(floors)
    for sweep in range(sweeps):
        down = sweep % 2 == 0
        for floor in floors if down else reversed(floors):
            rank = {id(place): i for places in floors for i, place in enumerate(places)}
            mean = {}
            for place in floor:
                near = place.above if down else place.below
                near = near or place.below or place.above
                mean[id(place)] = sum(rank[id(one)] for one in near) / len(near) if near else rank[id(place)]
            floor.sort(key=lambda place: mean[id(place)])
        improved = True
        while improved:
            improved = False
            for i, floor in enumerate(floors):
                for j in range(len(floor) - 1):
                    before = _crossings(floors[max(i - 1, 0) : i + 2])
                    floor[j], floor[j + 1] = floor[j + 1], floor[j]
                    if _crossings(floors[max(i - 1, 0) : i + 2]) < before:
                        improved = True
                    else:
                        floor[j], floor[j + 1] = floor[j + 1], floor[j]
        if (now := _crossings(floors)) < fewest:
            best, fewest = [list(floor) for floor in floors], now
    for floor, places in zip(floors, best):
        floor[:] = places


def _crossings(floors: Sequence[Sequence[_Place]]) -> int:
    count = 0
    for upper, lower in pairwise(floors):
        rank = {id(place): i for i, place in enumerate(lower)}
        ends = [rank[id(other)] for place in upper for other in sorted(place.below, key=lambda one: rank[id(one)])]
        count += sum(later < earlier for i, earlier in enumerate(ends) for later in ends[i + 1 :])
    return count


def _move(floors: list[list[_Place]], rounds: int = 400) -> None:
    """Give every place its x: towards its neighbours, bends hardest, none closer to the next than the gap allows."""
    for floor in floors:
        room = (_WIDTH - 2 * _MARGIN) / max(len(floor), 1)
        for i, place in enumerate(floor):
            place.x = _MARGIN + room * (i + 0.5)
    for turn in range(rounds):
        for floor in floors if turn % 2 == 0 else reversed(floors):
            wanted = []
            for place in floor:
                pulls = [(1.0 if one.room or place.room else 6.0, one.x) for one in (*place.above, *place.below)]
                pulls.append((0.3 if place.room else 0.02, _WIDTH / 2 if place.room else place.x))
                wanted.append(sum(weight * x for weight, x in pulls) / sum(weight for weight, _ in pulls))
            for place, x in zip(floor, _spaced(floor, wanted)):
                place.x = x


def _spaced(floor: Sequence[_Place], wanted: Sequence[float]) -> list[float]:
    """The positions closest to those wanted that keep the order and the gaps (pooling adjacent violators)."""
    gaps = [_gap(left, right) for left, right in pairwise(floor)]
    spare = _WIDTH - 2 * _MARGIN - sum(place.width for place in floor)
    squeeze = min(1.0, spare / sum(gaps)) if gaps else 1.0
    offsets = [0.0]
    for (left, right), gap in zip(pairwise(floor), gaps):
        offsets.append(offsets[-1] + (left.width + right.width) / 2 + gap * squeeze)
    pools: list[list[float]] = []  # each: sum of what its members want of their first position, number of members
    for want, offset in zip(wanted, offsets):
        pools.append([want - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, n = pools.pop()
            pools[-1][0] += total
            pools[-1][1] += n
    starts = [total / n for total, n in pools for _ in range(int(n))]
    least = _MARGIN + floor[0].width / 2
    most = _WIDTH - _MARGIN - floor[-1].width / 2 - offsets[-1]
    return [min(max(start, least), max(most, least)) + offset for start, offset in zip(starts, offsets)]


def _gap(left: _Place, right: _Place) -> int:
    if left.room and right.room:
        return _APART
    return _BESIDE if left.room or right.room else _BETWEEN


def _arrows(arrows: Sequence[Sequence[_Place]], tops: Sequence[int], heights: Sequence[int]) -> list[str]:
    """The arrows as smooth lines from a box's lower edge through their bends to the upper edge of another."""
    leaves = {id(way): _port(way[0], [one for one in arrows if one[0] is way[0]], way, 1) for way in arrows}
    comes = {id(way): _port(way[-1], [one for one in arrows if one[-1] is way[-1]], way, -2) for way in arrows}
    lines = []
    for way in arrows:
        x, y = leaves[id(way)], tops[way[0].floor] + heights[way[0].floor]
        path = f"M{x:.1f} {y}"
        for place in way[1:]:
            to, top = (comes[id(way)], tops[place.floor] - 3) if place.room else (place.x, tops[place.floor])
            middle = (y + top) / 2
            path += f"C{x:.1f} {middle:.1f} {to:.1f} {middle:.1f} {to:.1f} {top}"
            x, y = to, top
            if not place.room:
                y = top + heights[place.floor]
                path += f"V{y}"
        key = _key(family_of(way[0].room))
        lines.append(f'<path class="arrow {key}" marker-end="url(#{key})" d="{path}"/>')
    return lines


def _port(box: _Place, ways: Sequence[Sequence[_Place]], way: Sequence[_Place], at: int) -> float:
    """Where on its box's edge an arrow begins or ends: beside the others, in the order in which they come."""
    ordered = sorted(ways, key=lambda one: one[at].x)
    n, i = len(ordered), next(i for i, one in enumerate(ordered) if one is way)
    step = min(26.0, (_BOX - 56) / max(n - 1, 1))
    straight = way[at].x - box.x if n == 1 and not way[at].room else 0.0
    return box.x + (i - (n - 1) / 2) * step + min(max(straight, -70.0), 70.0)


def _box(place: _Place, top: int, tall: int, text: Sequence[str], lines: int, imports: str) -> list[str]:
    left, key = place.x - _BOX / 2, _key(family_of(place.room))
    rounded = round(lines, -1) if lines < 1000 else round(lines, -2)
    parts = [
        f'<g transform="translate({left:.1f} {top})">',
        f"<title>{escape(_name(place.room))} imports {escape(imports)}</title>",
        f'<rect class="box" width="{_BOX}" height="{tall}" rx="9"/>',
        f'<rect class="bar {key}" x="10" y="10" width="4" height="{tall - 20}" rx="2"/>',
        f'<text class="name" x="24" y="21">{escape(_name(place.room))}</text>',
        f'<text class="size" x="{_BOX - 13}" y="21">{rounded:,} lines</text>',
    ]
    parts += [
        f'<text class="phrase" x="24" y="{_HEAD + 13 + i * _LINE}">{escape(line)}</text>' for i, line in enumerate(text)
    ]
    if place.room in STEPS:
        number = STEPS.index(place.room) + 1
        parts.append(f'<circle class="step" cx="{_BOX - 2}" cy="2" r="10"/>')
        parts.append(f'<text class="number" x="{_BOX - 2}" y="6">{number}</text>')
    return [*parts, "</g>"]


def _opening(height: int, rooms: int, floors: int) -> list[str]:
    light = "".join(f".{_key(family)}{{--c:{colours[0]}}}" for family, colours in _COLOURS.items())
    dark = "".join(f".{_key(family)}{{--c:{colours[1]}}}" for family, colours in _COLOURS.items())
    markers = [
        f'<marker id="{_key(family)}" class="{_key(family)}" viewBox="0 0 8 8" refX="5.5" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto" markerUnits="userSpaceOnUse"><path class="head" d="M0 0.8L7 4L0 7.2Z"/></marker>'
        for family in FAMILIES
    ]
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-labelledby="title">',
        '<title id="title">The rooms of Palimpsest on their floors, and what imports what</title>',
        "<style>",
        "svg{--ground:#fbfaf7;--box:#ffffff;--edge:#dcd8cf;--ink:#1d1b18;--soft:#5f5b54;color-scheme:light dark;"
        "font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif}",
        light,
        "@media (prefers-color-scheme:dark){svg{--ground:#14161a;--box:#1d2026;--edge:#353a43;--ink:#f1efe9;--soft:#a8a49b}",
        f"{dark}}}",
        ".ground{fill:var(--ground)}.box{fill:var(--box);stroke:var(--edge)}.bar,.head,.step{fill:var(--c)}",
        ".arrow{stroke:var(--c);stroke-width:1.3;stroke-opacity:.75}",
        ".name{font:600 14px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:var(--ink)}",
        ".size{font-size:11px;fill:var(--soft);text-anchor:end}.phrase{font-size:11.5px;fill:var(--soft)}",
        ".title{font-size:22px;font-weight:650;fill:var(--ink)}.said{font-size:13px;fill:var(--soft)}",
        ".step{fill:var(--ink)}.number{font-size:11.5px;font-weight:700;fill:var(--box);text-anchor:middle}",
        "</style>",
        f"<defs>{''.join(markers)}</defs>",
        f'<rect class="ground" width="{_WIDTH}" height="{height}" rx="14"/>',
        f'<text class="title" x="{_MARGIN}" y="48">The rooms of Palimpsest</text>',
        f'<text class="said" x="{_MARGIN}" y="72">{rooms} rooms on {floors} floors. A room imports rooms of lower floors '
        "only; arrows that a longer way implies are left out.</text>",
        f'<text class="said" x="{_MARGIN}" y="91">The numbers follow a run from the click on “Start relearning” to the '
        "moving canvas.</text>",
    ]


def _legend(height: int) -> list[str]:
    parts, x = [], float(_MARGIN)
    for family in FAMILIES:
        parts.append(f'<rect class="bar {_key(family)}" x="{x:.0f}" y="{height - 39}" width="14" height="5" rx="2.5"/>')
        parts.append(f'<text class="phrase" x="{x + 21:.0f}" y="{height - 32}">{family}</text>')
        x += 43 + _text_width(family)
    return parts


def _wrapped(room: str, text: str) -> list[str]:
    """A phrase in lines that fit its box; too long, it ends before an earlier comma or “and”.

    Raises:
        SystemExit: there is none to end at.
    """
    lines = [""]
    for word in text.split():
        if lines[-1] and _text_width(f"{lines[-1]} {word}") > _TEXT:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    if len(lines) <= _MAX_LINES:
        return lines
    shorter = re.sub(r"(,|;| and )(?:(?!,|;| and ).)*$", "", text)
    if shorter == text:
        raise SystemExit(f"{room}: its first sentence is too long for the picture. Say it shorter: “{text}”.")
    return _wrapped(room, shorter)


def _text_width(text: str) -> float:
    """Width in the widest of the fonts that readers have, in pixels; letters by kind, as no font is at hand."""
    return sum(
        3.6 if letter in " .,;:'’ilj|" else 4.9 if letter in "frt-()`" else 10.2 if letter in "mwMW" else 7.2
        for letter in text
    )


def _name(room: str) -> str:
    """A room as the picture names it."""
    return room.removeprefix("analysis/")


def _key(family: str) -> str:
    return family.replace(" ", "-")
