"""`items.parquet`: the questions of the study."""

from vrp.tables.schema import column, table, text, texts

ITEMS = table(
    "items",
    ("item_id",),
    column("item_id", text, "dataset/split/question_id; stable across studies"),
    column("dataset", text, "pope, vqa, textvqa or own"),
    column("split", text, "split of the data set"),
    column("task", text, "existence, counting, spatial, open or text"),
    column("group", text, "SHA-256 of the image's bytes: the unit of folds and bootstraps"),
    column("image", text, "path of the image inside the data folder"),
    column("image_sha256", text, "SHA-256 of the image's bytes"),
    column("question_id", text, "id in the source file"),
    column("question", text, "the question as asked, without a prompt"),
    column("answers", texts, "annotators' answers; one label for POPE"),
    column("reference", text, "the label, or the annotators' majority answer"),
)
