"""What studies of given counts can find, as text and as JSON."""

import json
import math

from vrp.estimates.reported import plain
from vrp.planning.simulated_studies import Design
from vrp.planning.simulation import Simulated, SimulatedEffect, Simulation, Truth
from vrp.report.numbers import thousands
from vrp.stats.estimate import LEVEL
from vrp.text_table import aligned

_HEAD = ("yes", "no", "undecided", "found", f"{100 * LEVEL:.0f}% interval holds", "detectable")
_EFFECT_HEAD = ("changed", "true effect", "found", "none", "undecided", *_HEAD[-2:])


def as_text(design: Design, found: Simulation) -> str:
    """Return the answers first, then the tables, for a terminal."""
    rows = [["one signal", *_HEAD], *(_truth_cells(one) for one in found.truths)]
    effects = [list(_EFFECT_HEAD), *(_effect_cells(one) for one in found.effects)]
    return "\n".join([
        *_answers(design, found),
        "",
        *_what_was_drawn(design, found),
        "",
        aligned(rows, n_text=1),
        "",
        f"One intervention on {thousands(design.n_intervened)} items:",
        aligned(effects, n_text=0),
    ])  # fmt: skip


def _answers(design: Design, found: Simulation) -> list[str]:
    noise = [one for one in found.truths if one.truth.auroc == 0.5 and not one.truth.answer_alone]
    said = ", ".join(
        f'"no" in {_percent(one.no)} of studies and "yes" in {_percent(one.yes)} '
        f"({_how_correlated(one.truth)})"
        for one in noise
    )
    lines = [f"{found.n_signals} noise signals: {said}."]
    signals = [one for one in found.truths if one not in noise and not one.truth.answer_alone]
    if signals:
        yes = ", ".join(f"{one.truth.auroc:g} in {_percent(one.yes)}" for one in signals)
        lines.append(f'One signal among noise signals is "yes" at an AUROC of {yes}.')
    lines += [
        f"A signal that knows only the emitted answer (AUROC {one.truth.auroc:.3f}) is "
        f'"yes" in {_percent(one.yes)}.'
        for one in found.truths
        if one.truth.answer_alone
    ]
    lines += [
        f"An intervention that changes {100 * changed:g}% of {thousands(design.n_intervened)} "
        f"answers: {', '.join(_effect_clause(one) for one in of_share)}."
        for changed in dict.fromkeys(one.changed for one in found.effects)
        if (of_share := [one for one in found.effects if one.changed == changed])
    ]
    return lines


def _effect_clause(one: SimulatedEffect) -> str:
    if one.effect == 0:
        return (
            f'with no true effect, "no effect" is shown in {_percent(one.none)} and an effect in '
            f"{_percent(one.found)}"
        )
    return f"an effect of {one.effect:g} pp is found in {_percent(one.found)}"


def _what_was_drawn(design: Design, found: Simulation) -> list[str]:
    splits = ", ".join(
        f"{name} {thousands(count)} ({100 * wrong:g}% wrong, {_counted(answers, 'answer')})"
        for name, count, wrong, answers in zip(
            design.splits, design.counts, design.wrong, design.answers, strict=True
        )
    )
    noise = 100 * 1.96 * math.sqrt(0.25 / found.n_studies)
    return [
        f"{design.study}: {splits}; {thousands(sum(design.counts))} questions on "
        f"{thousands(found.n_images)} images.",
        f"{found.n_studies} studies of each truth, which determine a share to ±{noise:.0f} points "
        f"or better. {found.n_signals} signals are judged together, with a correction for "
        f'{found.n_tests} tests and the guard "within one answer".',
    ]


def _counted(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"


def _how_correlated(truth: Truth) -> str:
    if truth.correlation:
        return f"correlated {truth.correlation:g}"
    return "independent, the worst case"


def _truth_cells(one: Simulated) -> list[str]:
    name = f"AUROC {one.truth.auroc:.3g}"
    if one.truth.answer_alone:
        name += ", the answer alone"
    elif one.truth.auroc == 0.5:
        name = f"noise, {_how_correlated(one.truth)}"
    return [
        name,
        *map(_percent, (one.yes, one.no, one.undecided, one.found, one.coverage)),
        f"0.5 ± {one.resolvable:.3f}" if one.resolvable < 0.5 else "–",
    ]  # fmt: skip


def _effect_cells(one: SimulatedEffect) -> list[str]:
    shares = (one.found, one.none, one.undecided, one.coverage)
    return [
        f"{100 * one.changed:g}%", f"{one.effect:g} pp", *map(_percent, shares),
        f"{one.resolvable:.1f} pp" if one.resolvable < 100 else "–",
    ]  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%" if math.isfinite(share) else "–"


def as_json(design: Design, found: Simulation) -> str:
    """Return the same numbers as JSON."""
    content = {
        "design": design._asdict() | {"pools": [pool._asdict() for pool in design.pools]},
        **found._asdict(),
        "truths": [one._asdict() | {"truth": one.truth._asdict()} for one in found.truths],
        "effects": [one._asdict() for one in found.effects],
    }
    return json.dumps(plain(content), indent=2) + "\n"
