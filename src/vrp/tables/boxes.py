"""`boxes.parquet`: where the objects are that the study's questions ask for."""

from vrp.tables.schema import column, integer, number_rows, optional, table, text

NOT_ASKED_FOR = "asks for no object"
"""Its question is none of the kind "Is there a … in the image?"."""
NOT_ANNOTATED = "image is not annotated"
"""The annotation file does not list its image."""
NO_CATEGORY = "object is no category of the annotations"
"""The annotation file knows no such object."""
NOT_THERE = "no such object is annotated in the image"
"""As where the right answer is no."""

BOXES = table(
    "boxes",
    ("item_id",),
    column("item_id", text, "item"),
    optional("object", text, "what the question asks for; null where it asks for no object"),
    column(
        "image_width", integer, "of the annotated image; 0 where it is not annotated", unit="px"
    ),
    column("image_height", integer, "of the annotated image", unit="px"),
    column(
        "boxes",
        number_rows,
        "left, top, right and bottom of every such object; none where the note says why",
        unit="px",
        shape="n_boxes × 4",
    ),
    optional(
        "note",
        text,
        f"why there is no box: `{NOT_ASKED_FOR}`, `{NOT_ANNOTATED}`, `{NO_CATEGORY}`, "
        f"`{NOT_THERE}`",
    ),
)
