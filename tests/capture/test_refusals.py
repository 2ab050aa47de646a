"""What cannot travel is named by its path, with the way out; what is not needed does not travel."""

from __future__ import annotations

import threading

import pytest

from nbaas.errors import CaptureError


def refused(notebook, source, **options):
    with pytest.raises(CaptureError) as caught:
        notebook.capture(source, **options)
    return caught.value


def test_a_lock_deep_inside_is_named_by_its_path(notebook):
    notebook.cell("""
        import threading
        class Client:
            def __init__(self): self._lock = threading.Lock()
        class Config: pass
        cfg = Config(); cfg.client = Client(); cfg.lr = 0.1
    """)
    error = refused(notebook, "print(cfg.lr)")
    assert error.message == (
        "cfg.client._lock cannot travel to the ranks: cannot pickle '_thread.lock' object"
    )
    assert "--exclude cfg" in error.hint


@pytest.mark.parametrize(
    ("source", "path", "hint"),
    [
        ("value = [1, {'a': (i for i in [])}]", "value[1]['a']", "generator inside the cell"),
        ("value = open('/dev/null', 'w')", "value", "open the file inside the cell"),
        ("import socket\nvalue = {'s': socket.socket()}", "value['s']", "inside the cell"),
        (
            "from threading import Lock\nhidden = Lock()\ndef value(): return hidden",
            "hidden",
            "--exclude hidden",
        ),
        (
            "from threading import Lock\ndef make(lock):\n    return lambda: lock\nvalue = make(Lock())",
            "value.<lock>",
            "--exclude value",
        ),
    ],
)
def test_each_kind_of_obstacle_has_its_path_and_its_way_out(notebook, source, path, hint):
    notebook.cell(source)
    error = refused(notebook, "value")
    assert error.message.startswith(f"{path} cannot travel")
    assert hint in error.hint


def test_every_obstacle_is_named_at_once(notebook):
    notebook.cell("import threading\na = threading.Lock()\nb = [threading.Lock()]\nc = 1")
    error = refused(notebook, "a, b, c")
    assert "a cannot travel" in error.message
    assert "b[0] cannot travel" in error.message
    assert "--exclude a,b" in error.hint


def test_an_excluded_name_stays_here(notebook):
    notebook.cell("import threading\na = threading.Lock()\nb = 2")
    contents = notebook.capture("print(b); a", exclude=["a"])
    assert [name.name for name in contents.names] == ["b"]
    assert contents.left_out == ("a",)


def test_secrets_that_the_code_does_not_name_are_not_in_the_bundle(notebook):
    notebook.cell("""
        import torch
        API_KEY = "CANARY-global"
        def login(): return "CANARY-body-of-unneeded-function", API_KEY
        class Unneeded:
            token = "CANARY-class"
        def helper(x): return x + 1  # used
        tail = torch.tensor(list(b"CANARY-tensor"), dtype=torch.uint8)
        head = tail[7:8]
        note = "CANARY-note"  # CANARY-comment
    """)
    directory = notebook.bundle(notebook.capture("y = helper(int(head[0]))"))
    found = [
        p for p in notebook.directory.rglob("*") if p.is_file() and b"CANARY" in p.read_bytes()
    ]
    assert found == []
    assert "helper" in (directory / "definitions.py").read_text()


def test_bundles_and_blobs_are_the_users_alone(notebook):
    notebook.cell("import torch\ndata = torch.zeros(1 << 17)")
    directory = notebook.bundle(notebook.capture("data"))
    assert directory.stat().st_mode & 0o077 == 0
    assert notebook.blobs.stat().st_mode & 0o077 == 0


def test_a_leftover_of_an_earlier_run_does_not_stop_the_next(notebook):
    notebook.cell("import threading\nclass Bar:\n    def close(self): pass")
    source = """
        for bar in [Bar()]:
            bar.lock = threading.Lock()
        bar.close()
    """
    notebook.cell(source)
    contents = notebook.capture(source)
    assert contents.left_out == ("bar",)
    notebook.train(source)


def test_a_small_leftover_is_there_when_the_loop_has_no_turns(notebook):
    notebook.cell("xs = []\nloss = 0.25")
    notebook.train("for x in xs:\n    loss = x\nlast = loss")
    assert notebook["last"] == 0.25


def test_input_is_refused_by_name(notebook):
    error = refused(notebook, "name = input('who? ')")
    assert "input()" in error.message
    notebook.cell("def input(prompt): return 'me'")
    notebook.train("name = input('who? ')")
    assert notebook["name"] == "me"


def test_names_that_are_nowhere_are_told(notebook):
    assert notebook.capture("print(undefined_name)").missing == ("undefined_name",)


def test_capture_changes_nothing_in_the_notebook(notebook):
    notebook.cell("import torch\nm = torch.nn.Linear(2, 2)\nd = {'m': m}\nx = [d]")
    before = {name: id(value) for name, value in notebook.namespace.items()}
    state = torch_state(notebook["m"])
    notebook.bundle(notebook.capture("x, d, m"))
    assert {name: id(value) for name, value in notebook.namespace.items()} == before
    assert torch_state(notebook["m"]) == state


def torch_state(module):
    return {name: (id(p), p._version, p.tolist()) for name, p in module.named_parameters()}


def test_a_value_whose_reduce_raises_is_named(notebook):
    class Broken:
        def __reduce__(self):
            raise RuntimeError("no way")

    notebook.namespace["value"] = {"k": Broken(), "lock": threading.Lock()}
    error = refused(notebook, "value")
    assert error.message.startswith("value['k'] cannot travel to the ranks: no way")
