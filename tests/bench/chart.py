"""The figures as a picture: one bar for each speed, from the line where both are equally fast. Plain SVG that takes the
reader's own fonts, and light or dark as the reader has it."""

import math
from xml.sax.saxutils import escape

LEFT, RIGHT, TOP = 350, 90, 56
ROW, BAR = 26, 16
WIDTH = 880
TICKS = (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 200)

STYLE = """
  .page { fill: #ffffff; }
  text { font: 13px sans-serif; fill: #24292f; }
  .title { font-weight: bold; font-size: 15px; }
  .faint { fill: #57606a; }
  .faster { fill: #1a7f5a; } .slower { fill: #c4572d; }
  .one { stroke: #24292f; stroke-width: 1.5; }
  .tick { stroke: #d0d7de; }
  .goal { stroke: #24292f; stroke-width: 2.5; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; }
    text { fill: #e6edf3; } .faint { fill: #9ba4ae; }
    .faster { fill: #3fb68b; } .slower { fill: #e8835a; }
    .one, .goal { stroke: #e6edf3; } .tick { stroke: #3d444d; }
  }"""


def narrow(part):
    """Not as wide as a program would write it: a picture in the tree is read like everything else in it."""
    return part if len(part) <= 100 else part.replace('" ', '"\n  ').replace('">', '"\n>', 1)


def charted(figures):
    """Speeds beside QEMU: where more is better and QEMU does the same work."""
    return [figure for figure in figures
            if figure.unit.endswith("/s") and figure.peer_name.startswith("QEMU") and figure.ratio]


class Scale:
    """Ratios to places: logarithmic, as twice and half are the same distance."""

    def __init__(self, figures):
        numbers = [1.0] + [figure.ratio for figure in figures]
        numbers += [figure.goal.number for figure in figures if figure.goal]
        self.low = min(0.5, *numbers) * 0.9
        self.high = max(2.0, *numbers) * 1.1

    def place(self, number):
        share = math.log(number / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def ticks(self):
        return [tick for tick in TICKS if self.low <= tick <= self.high]


def line(kind, x, y1, y2):
    return f'<line class="{kind}" x1="{x:.1f}" y1="{y1:.1f}" x2="{x:.1f}" y2="{y2:.1f}"/>'


def text(x, y, content, anchor="start", kind=""):
    chosen = f' class="{kind}"' if kind else ""
    return f'<text{chosen} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def bar(figure, scale, top):
    one, end = scale.place(1), scale.place(figure.ratio)
    kind = "faster" if figure.ratio >= 1 else "slower"
    label = f"{figure.ratio:.1f} ×" if figure.ratio >= 2 else f"{figure.ratio:.2f} ×"
    yield text(LEFT - 8, top + BAR - 3, f"{figure.row}  {figure.work}", "end")
    yield (f'<rect class="{kind}" x="{min(one, end):.1f}" y="{top}" width="{abs(end - one):.1f}" height="{BAR}" '
           f'rx="2"/>')
    if figure.goal:
        yield line("goal", scale.place(figure.goal.number), top - 3, top + BAR + 3)
    yield text(WIDTH - RIGHT + 10, top + BAR - 3, label)


def svg(figures, subtitle):
    figures = charted(figures)
    if not figures:
        return None
    scale = Scale(figures)
    bottom = TOP + 18 + ROW * len(figures)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 30}" width="{WIDTH}" '
             f'height="{bottom + 30}" role="img" aria-label="How many times as fast as QEMU">',
             f"<style>{STYLE}\n</style>", '<rect class="page" width="100%" height="100%"/>',
             text(12, 22, "Times as fast as QEMU", kind="title"),
             text(12, 42, subtitle, kind="faint")]
    for tick in scale.ticks():
        parts.append(line("one" if tick == 1 else "tick", scale.place(tick), TOP + 8, bottom))
        parts.append(text(scale.place(tick), bottom + 18, f"{tick:g} ×", "middle", "faint"))
    for number, figure in enumerate(figures):
        parts += bar(figure, scale, TOP + 18 + number * ROW)
    return "\n".join(narrow(part) for part in parts + ["</svg>"]) + "\n"
