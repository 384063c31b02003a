"""`<model>/trace/`: the answer's first token under knockouts and patches, layer by layer."""

from vrp.tables.schema import column, flag, integer, number, optional, precise, table, text

NOTHING_ADDED = "the image adds nothing measurable to the margin"
"""Its shares would be shares of nothing."""

TRACE = table(
    "trace",
    ("item_id", "kind", "layer"),
    column("item_id", text, "item"),
    column(
        "kind",
        text,
        "`clean`: with the image; `blank`: with a blank one; `knockout_image`, `knockout_text`: "
        "the prompt's last token may not attend to the image, or to the question, in a window of "
        "layers; `patch`: its residual after a layer, put into the blank run",
    ),
    column("layer", integer, "first decoder layer that is changed; -1: none"),
    column("last_layer", integer, "last decoder layer of the window; -1: none"),
    column(
        "margin",
        number,
        "logit of the clean run's first token minus that of its runner-up; NaN: not finite",
        unit="logits",
    ),
    column("same_token", flag, "whether the first token is the clean run's"),
)

TRACE_EFFECTS = table(
    "trace_effects",
    ("model", "kind", "layer"),
    column("model", text, "model"),
    column("kind", text, "`knockout_image`, `knockout_text` or `patch`"),
    column("layer", integer, "first decoder layer that is changed"),
    column("last_layer", integer, "last decoder layer of the window; of a patch, its layer"),
    column(
        "share",
        precise,
        "of a knockout: margin kept, of what the image adds to a blank one; of a patch: margin "
        "restored, of that",
        unit="share",
    ),
    column("low", precise, "lower end of the 95% interval, clustered by image", unit="share"),
    column("high", precise, "upper end", unit="share"),
    column("same_token", precise, "items whose first token is the clean run's", unit="share"),
    column("n", integer, "items"),
    column("n_groups", integer, "images"),
    column("n_dropped", integer, "items left out: a logit is not finite"),
    optional("note", text, "why there is no share or interval"),
)
