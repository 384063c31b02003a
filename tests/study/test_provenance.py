import json

from vrp.study.provenance import digest, provenance


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert digest({"a": 1}) != digest({"a": 1.5})


def test_provenance_is_text_throughout():
    made = provenance(study="tiny", stage="extract", config={"seed": 1}, code="0123", model="one")
    assert all(isinstance(value, str) for value in made.values())
    assert (made["study"], made["stage"], made["model"], made["code"]) == (
        "tiny", "extract", "one", "0123",
    )  # fmt: skip
    assert made["config"] == digest({"seed": 1})
    assert {"vrp", "python", "torch", "numpy"} <= json.loads(made["versions"]).keys()
