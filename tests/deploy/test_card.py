"""A model card tells what is known of a version, and nothing of the user's becomes markup."""

from __future__ import annotations

import html.parser

import pytest

from nbaas.deploy.card import card_of, code_digest
from nbaas.deploy.manifest import FileEntry, Signature, TensorSpec, VersionManifest

EVIL = "<script>alert(1)</script> | `x` [a](http://b) **c**"
JOB = {
    "id": "20260101-000000-00000000", "name": "fit", "state": "SUCCEEDED", "engine": "ddp",
    "where": "2 ranks on the CPU", "seed": 7, "started": 1.7e9, "seconds": 90.0, "steps": 1200,
    "epochs": 3, "code": "ab" * 32, "changed": True,
    "metrics": {"loss": {"last": 0.123456, "best": 0.1}, EVIL: {"last": "nan", "best": 1}},
    "data": [{"name": "train_loader", "kind": "DataLoader", "size": 1_500_000}],
    "resources": {"ranks": 2, "rank_seconds": 180.0, "cpu_seconds": 150.0, "peak_memory": 3e8},
}  # fmt: skip


def manifest(**given) -> VersionManifest:
    spec = TensorSpec("x", "FP32", (-1, 64))
    made = {
        "name": "digits", "created": 1.7e9, "model_class": "Net",
        "signature": Signature((spec,), (TensorSpec("output", "FP32", (-1, 10)),)),
        "files": {"model.safetensors": FileEntry("cd" * 32, 21_000),
                  "source/nbaas_notebook.py": FileEntry("ef" * 32, 400)},
        "batchable": True, "deterministic": True, "parameters": 5130,
        "versions": {"python": "3.11.2", "torch": "2.13.0"},
        "engine": "onnx",
        "engine_notes": {"difference": 2.1e-7, "single": {"torch": 3e-5, "onnx": 7e-6},
                         "batch": {"torch": 4e-5, "onnx": 1.2e-5}},
        "facts": {"job": JOB, "note": EVIL},
    }  # fmt: skip
    return VersionManifest(**{**made, **given})


@pytest.mark.parametrize(
    "told",
    ["digits, version 3", "5,130", "FP32", "any x 64", "fit (20260101-000000-00000000), SUCCEEDED",
     "1,200 in 3 epochs", "0.1235", "train_loader", "1.5 MB", "3 min (2 ranks)", "2 ranks on the CPU",
     "300.0 MB", "ONNX Runtime, by measurement", "PyTorch 30 µs, ONNX Runtime 7 µs", "2.1e-07",
     "the parameters were changed in the notebook after this job", "abababababababab", "2.13.0",
     "not the current version"],
)  # fmt: skip
def test_the_card_tells(told):
    assert told in repr(card_of(manifest(), 3, current=False))


class Tags(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)

    def handle_data(self, data):
        self.text += data


def test_no_word_of_the_user_becomes_html_or_markdown():
    card = card_of(manifest(name="<b>digits</b>"), 1)
    parsed = Tags()
    parsed.feed(card._repr_html_())
    assert parsed.found == {"div", "h3", "h4", "table", "tbody", "tr", "td", "th"}
    assert EVIL in parsed.text
    markdown = card.markdown
    assert r"\<script\>alert\(1\)\</script\> \| \`x\` \[a\]\(http://b\) \*\*c\*\*" in markdown
    assert "<" not in markdown.replace(r"\<", "")
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    widths = {line.replace(r"\|", "").count("|") for line in lines}
    assert widths == {3, 4, 5}  # no cell of the user's adds a column


def test_what_is_not_known_is_left_out():
    bare = card_of(
        manifest(facts={}, engine="torch", engine_notes={"error": "no such operator"}), 1
    )
    assert [section.title for section in bare.sections] == ["Model", "Signature", "Engine", "Code"]
    assert "no such operator" in repr(bare)
    damaged = card_of(manifest(facts={"job": {"metrics": 3, "data": [None], "resources": []}}), 1)
    assert "unknown time" in repr(damaged)


def test_the_code_digest_is_of_the_code_alone():
    ours = manifest()
    weights = {**ours.files, "model.safetensors": FileEntry("00" * 32, 1)}
    source = {**ours.files, "source/nbaas_notebook.py": FileEntry("00" * 32, 1)}
    assert code_digest(manifest(files=weights)) == code_digest(ours)
    assert code_digest(manifest(files=source)) != code_digest(ours)
