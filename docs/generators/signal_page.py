"""Every signal that ships with the project, from the registry."""

from md_text import codes, table

from vrp.signals.registry import SIGNALS, Signal

_HEAD = """# Signals

A signal is one number for each answer that may separate right answers from wrong ones. Each is a
column of [`signals.parquet`](tables.md#signals) and is evaluated in
[`metrics.parquet`](tables.md#metrics). A signal is *deployable* if it can be read without
annotations. [Your own signal](extend/signal.md) is treated like these.

*Reliable when* says which values indicate a right answer, according to the papers or common
practice; the AUROC is computed in this direction. *Needs* lists the columns of other tables that
the signal is computed from; if they were not captured, the signal is null.
"""
_KINDS = {
    "structural": "Where attention looks",
    "mechanistic": "What the layers do",
    "behavioural": "How the answer is generated",
}


def signal_page() -> str:
    """Return the page."""
    sections = [
        f"## {title}\n\n"
        + table(_COLUMNS, [_row(one) for one in SIGNALS.values() if one.kind == kind])
        for kind, title in _KINDS.items()
    ]
    return "\n".join([_HEAD, *sections])


_COLUMNS = ("signal", "label", "reliable when", "unit", "what it is", "needs")


def _row(signal: Signal) -> tuple[str, ...]:
    needs = codes(signal.needs)
    told = signal.description + ("" if signal.deployable else "; diagnostic, needs annotations")
    return f"`{signal.name}`", signal.label, signal.reliable_when or "", signal.unit, told, needs
