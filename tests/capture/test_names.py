"""What a cell needs: names that it may read before it has bound them itself."""

from __future__ import annotations

import textwrap

import pytest

from nbaas.capture.names import cell_names


def needed(source: str, **reads: list[str]) -> set[str]:
    return set(cell_names(textwrap.dedent(source), lambda name: reads.get(name, ())).needed)


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("x = a + b", {"a", "b"}),
        ("losses = []\nlosses.append(1)", set()),
        ("total += 1", {"total"}),
        ("model.lr = 1\nd[k] = v", {"model", "d", "k", "v"}),
        ("for x, y in loader:\n    print(x, y, z)", {"print", "loader", "z"}),
        ("[i * s for i in items if i > low]", {"items", "s", "low"}),
        ("[(i, j) for i in rows for j in i]", {"rows"}),
        ("{k: v for k, v in d.items()}", {"d"}),
        ("import torch.nn as nn\nfrom a import b as c\nnn, c", set()),
        ("with open(p) as f:\n    f.read()", {"open", "p"}),
        ("if flag:\n    x = 1\nelse:\n    x = 2\nprint(x)", {"flag", "print"}),
        ("if flag:\n    x = 1\nprint(x)", {"flag", "print", "x"}),
        ("f'{a:{width}}'", {"a", "width"}),
        ("(n := len(a))\nn", {"len", "a"}),
        ("del a\na = 1", {"a"}),
        ("x: Kind = 1", {"Kind"}),
        ("match v:\n    case [a, *b]:\n        a, b\n    case Point(x=c):\n        c", {"v", "Point"}),
        ("try:\n    model\nexcept NameError:\n    model = Net()", {"model", "NameError", "Net"}),
        ("assert a, b", {"a", "b"}),
        ("lambda x, y=d: x + y + z", {"d", "z"}),
        ("await fetch(u)", {"fetch", "u"}),
        ("while True:\n    x = 1\n    break\nx", set()),
    ],
)  # fmt: skip
def test_a_name_is_needed_when_it_is_read_before_the_cell_binds_it(source, names):
    assert needed(source) == names


def test_a_function_of_the_cell_needs_its_names_where_it_is_mentioned():
    source = """
        def evaluate():
            return model(data)
        model = Net()
        evaluate()
    """
    assert needed(source) == {"Net", "data"}


def test_a_function_that_is_passed_on_counts_as_called():
    assert needed("def f():\n    return g\nmap(f, xs)") == {"map", "xs", "g"}


def test_functions_of_the_notebook_bring_what_they_read():
    assert needed("train()", train=["step", "lr"], step=["loss_fn"]) == {
        "train", "step", "lr", "loss_fn",
    }  # fmt: skip


def test_what_a_function_of_the_notebook_reads_is_not_needed_once_the_cell_has_bound_it():
    assert needed("writer = W()\nlog(1)", log=["writer"]) == {"W", "log"}


def test_functions_that_call_each_other_end():
    assert needed("even(3)", even=["odd"], odd=["even"]) == {"even", "odd"}


def test_a_class_needs_bases_decorators_and_defaults_at_once_and_methods_later():
    source = """
        @register
        class Net(Base):
            width = W
            def forward(self, x, k=K):
                return helper(x)
        helper = print
        Net()
    """
    assert needed(source) == {"register", "Base", "W", "K", "print"}


def test_local_variables_and_parameters_are_not_needed():
    source = """
        def f(a, *b, c=1, **d):
            e = a
            def g():
                nonlocal e
                return e, outer
            return g
        f
    """
    assert needed(source) == {"outer"}


def test_what_only_a_loop_without_turns_leaves_unbound_is_needed_perhaps():
    names = cell_names("for x in xs:\n    loss = x\nprint(loss)")
    assert set(names.needed) == {"xs", "print"}
    assert names.perhaps == ("loss",)


def test_what_a_try_block_binds_is_needed_perhaps_after_it():
    names = cell_names("try:\n    bar = make()\nexcept KeyboardInterrupt:\n    pass\nbar.close()")
    assert "bar" in names.perhaps
    assert "bar" not in names.needed


def test_code_inside_timing_magics_is_read_too():
    assert "train" in needed("get_ipython().run_line_magic('time', 'train(3)')")
    body = "get_ipython().run_cell_magic('time', '', 'x = data\\n')"
    assert "data" in needed(body)


def test_the_names_that_a_cell_binds_are_known():
    bound = cell_names("import a.b\nfor i in x: j = 1\ndef f(): k = 1\nclass C: pass").bound
    assert bound == {"a", "i", "j", "f", "C"}
