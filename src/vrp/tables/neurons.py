"""`<model>/neurons.parquet`: what the probes of a layer read, neuron by neuron and fold by fold."""

from vrp.tables.schema import column, flag, integer, number, table

NEURONS = table(
    "neurons",
    ("layer", "fold", "neuron"),
    column("layer", integer, "decoder layer"),
    column("fold", integer, "held-out fold: the weights never saw its items"),
    column("neuron", integer, "dimension of the residual stream"),
    column("weight", number, "the sparse probe's weight on the standardised activation"),
    column("rank", integer, "0 is the largest absolute weight"),
    column("mean", number, "mean activation over the training folds"),
    column("norm", number, "root mean square activation over the training folds"),
    column(
        "step",
        number,
        "activation added by a step of one standard deviation along the linear probe's direction, "
        "towards right answers",
    ),
    column("best_layer", flag, "the layer picked on this fold's training items"),
)
