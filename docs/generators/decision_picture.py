"""The picture of the README: how many answers are right in each fifth, from the least sure on.

python docs/generators/decision_picture.py results/demo docs/demo_decision.svg
"""

import argparse
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from vrp.plots.style import BLUE, GREY, house_style, save_figure

_WIDTH, _HEIGHT = 9.4, 2.9


def draw(summary: dict[str, Any]) -> Figure:
    """Draw one panel a model: accuracy by fifths of the recommended signal, and over all items."""
    decisions = {name: one for name, one in summary["decisions"].items() if one["fifths"]}
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    panels = figure.subplots(1, len(decisions), sharey=True, squeeze=False)[0]
    for panel, (name, decision) in zip(panels, decisions.items(), strict=True):
        _draw_fifths(panel, decision["fifths"])
        panel.set_title(f"{name}: by {decision['signal'].replace('_', ' ')}")
        panel.set_xticks(range(5), ["least\nsure", "", "", "", "most\nsure"])
    panels[0].set_ylabel("right answers, %")
    panels[0].set_ylim(0, 105)
    return figure


def _draw_fifths(panel: Any, fifths: list[dict[str, float]]) -> None:
    values = [100 * fifth["value"] for fifth in fifths]
    below = [100 * (fifth["value"] - fifth["low"]) for fifth in fifths]
    above = [100 * (fifth["high"] - fifth["value"]) for fifth in fifths]
    n = sum(fifth["n"] for fifth in fifths)
    over_all = sum(fifth["n"] * value for fifth, value in zip(fifths, values, strict=True)) / n
    panel.bar(range(5), values, yerr=[below, above], color=BLUE, ecolor="black", capsize=3)
    for place, value in enumerate(values):
        panel.text(place, 4, f"{value:.1f}", ha="center", color="white", fontweight="bold")
    panel.axhline(over_all, color=GREY, linestyle="--", linewidth=1)
    panel.annotate(
        f"all {n:,}: {over_all:.0f}%", (-0.4, over_all), (0, 3), textcoords="offset points"
    )


def main() -> None:
    """Draw the picture of a finished study."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="a finished study's folder")
    parser.add_argument("picture", type=Path, help="the file to write")
    options = parser.parse_args()
    summary = json.loads((options.study / "summary.json").read_text(encoding="utf-8"))
    with house_style():
        save_figure(draw(summary), options.picture, "svg", dpi=150)


if __name__ == "__main__":
    main()
