"""`<model>/neurons.parquet`: the sparse probe's weights, fold by fold."""

import pyarrow as pa

from vrp.tables.schema import TableSchema, column, flag, integer, number

NEURONS = TableSchema(
    name="neurons",
    key=("layer", "fold", "neuron"),
    columns=pa.schema(
        [
            column("layer", integer, "decoder layer"),
            column("fold", integer, "held-out fold: the weights never saw its items"),
            column("neuron", integer, "dimension of the residual stream"),
            column("weight", number, "weight on the standardised activation"),
            column("rank", integer, "0 is the largest absolute weight"),
            column("mean", number, "mean activation over the training folds"),
            column("best_layer", flag, "the layer picked on this fold's training items"),
        ]
    ),
)
