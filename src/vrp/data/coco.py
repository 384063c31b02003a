"""The photographs of COCO's val2014, which POPE and VQA v2 ask about."""

from vrp.data.dataset import Archive, ImageSet

COCO_VAL2014 = ImageSet(
    archive=Archive(
        "http://images.cocodataset.org/zips/val2014.zip",
        ".",
        "fe9be816052049c34717e077d9e34aa60814a55679f804cd043e3cbee3b9fde0",
    ),
    # Unpacked, with the questions and annotations of VQA v2 val, and POPE's questions.
    official_bytes=6_700_000_000,
    archive_bytes=6_650_000_000,
    hub_bytes=7_000_000_000,
)
