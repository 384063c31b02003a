"""What the stages without a model have to do: one number that their time grows with."""

from vrp.config.study import StudyConfig
from vrp.planning.dimension_sources import dimensions_of
from vrp.planning.workload import Work, n_items
from vrp.study.declarations import Cost, CostInputs, Stage
from vrp.study.graph import STAGES


def planned_analyses() -> list[tuple[Stage, Cost]]:
    """Return the stages without a model whose time is planned, with their costs.

    Fetching a model is not planned: it depends on the network.
    """
    return [(stage, stage.cost) for stage in STAGES if isinstance(stage.cost, Cost)]


def amount_of(
    study: StudyConfig,
    stage: Stage,
    model: str = "",
    work: dict[str, dict[str, Work]] | None = None,
) -> float:
    """Return what the time of a stage without a model grows with, as the graph declares it.

    Args:
        study: the configuration.
        stage: one of `planned_analyses`.
        model: the model, for stages that run once a model.
        work: of the models' stages, by model and stage, for the interventions' answers.

    Raises:
        InputError: the model's dimensions are not known.
    """
    assert isinstance(stage.cost, Cost)
    dimensions = dimensions_of(study.models[model]) if model and stage.per == "model" else None
    intervened = sum(
        found.n_answers
        for stages in (work or {}).values()
        for name, found in stages.items()
        if name in INTERVENTIONS
    )
    return float(
        stage.cost.amount(
            CostInputs(
                study,
                n_items(study),
                dimensions.n_layers if dimensions else 0,
                dimensions.d_model if dimensions else 0,
                intervened,
            )
        )
    )


INTERVENTIONS = [stage.name for stage in STAGES if stage.runs_model and stage.items_key]
"""Stages that answer a part of the items under conditions."""
