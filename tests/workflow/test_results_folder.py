"""The results folder is one folder, however the configuration spells it."""

from pathlib import Path

import pytest

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.mark.parametrize(
    ("spelled", "meant"), [("./out/", "out"), ("~/scratch", "~/scratch"), (".", ".")]
)
def test_spellings(checkout, spelled, meant):
    (checkout.folder / "config" / "tiny.yaml").write_text(
        'study: tiny\nmodels: {one: {family: llava, checkpoint: "zoo:llava", device: cpu}}\n'
    )
    # The home folder is the copy's own.
    target = Path(meant.replace("~", str(checkout.folder)), "tiny", "one", "metrics.parquet")
    common = (str(target), "--cores", "2", "--configfile", "config/tiny.yaml", "--config")
    done = checkout.run(*common, f"results={spelled}")
    assert done.status == 0, done.output
    assert (checkout.folder / target).is_file()
    assert not (checkout.folder / "~").exists()
    again = checkout.run(*common, f"results={meant}")
    assert "Nothing to be done" in again.output
