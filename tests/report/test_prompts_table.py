"""The report shows prompts as the models saw them."""

import json

from vrp.findings.evidence import ModelEvidence
from vrp.report.accounting import prompts_table


def test_the_image_stands_as_one_token():
    first = {
        "task": "existence",
        "item_id": "pope/1",
        "prompt": "USER: <image>\nIs there a dog? ASSISTANT:",
        "token_ids": [1, 3148, 32000, 13],
        "image_token_id": 32000,
        "n_image_tokens": 576,
    }
    model = ModelEvidence("m", origin={"first_prompts": json.dumps([first])})
    table = prompts_table([model, ModelEvidence("older")])
    assert [cell.text for cell in table.rows[0]] == [
        "m",
        "existence",
        "USER: <image>↵Is there a dog? ASSISTANT:",
        "1 3148 <image>×576 13",
    ]
    assert len(table.rows) == 1
