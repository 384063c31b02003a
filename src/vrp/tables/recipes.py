"""`<model>/recipes.parquet`: every recipe that makes a number of an attention map, judged."""

from vrp.tables.schema import column, integer, optional, precise, table, text

RECIPES = table(
    "recipes",
    ("heads", "layers", "sinks", "normalisation", "measure"),
    column("heads", text, "averaged before the map is measured, or measured one by one"),
    column("layers", text, "which layers are averaged"),
    column("sinks", text, "attention sinks kept or removed"),
    column("normalisation", text, "what sums to one before layers are averaged"),
    column("measure", text, "what is measured; low is reliable"),
    column("auroc", precise, "within strata; above 0.5: as claimed; NaN where undefined"),
    column("low", precise, "lower end of the 95% interval"),
    column("high", precise, "upper end of the 95% interval"),
    column("p", precise, "two-sided p-value of no difference from 0.5"),
    column("p_adjusted", precise, "after Holm's correction over the recipes"),
    column("n", integer, "items"),
    column("n_groups", integer, "images"),
    column("n_dropped", integer, "items without a value"),
    optional("note", text, "why items were dropped or a value is missing"),
)
