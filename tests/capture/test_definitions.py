"""Functions and classes of the notebook in a rank: themselves, in the state they have."""

from __future__ import annotations

import sys

import pytest

from tests.capture.notebook import CellError


def test_a_function_brings_what_it_reads_through_other_functions(notebook):
    notebook.cell("scale = 3")
    notebook.cell("def double(x): return 2 * x * scale")
    notebook.cell("def work(x): return double(x) + 1")
    notebook.train("answer = work(5)")
    assert notebook["answer"] == 31


def test_recursion_closures_defaults_and_lambdas_work(notebook):
    notebook.cell("""
        def factorial(n): return 1 if n < 2 else n * factorial(n - 1)
        def counter(start):
            count = start
            def up(by=[2]):
                nonlocal count
                count += by[0]
                return count
            def now(): return count
            return up, now
        up, now = counter(10)
        up()
        square = lambda x: x * x
        table = {"f": lambda x: square(x) + 1}
    """)
    notebook.train("answers = factorial(5), up(), now(), table['f'](3)")
    assert notebook["answers"] == (120, 14, 14, 10)
    assert notebook["now"]() == 14  # the closure's own variable went on here


def test_a_class_comes_in_the_state_it_has_now(notebook):
    notebook.cell("""
        class Net:
            width = 1
            def area(self): return self.width * self.height
        net = Net()
    """)
    notebook.cell("""
        Net.width = 7
        Net.height = property(lambda self: 3)
        def perimeter(self): return 2 * (self.width + self.height)
        Net.perimeter = perimeter
        net.width = 5
    """)
    notebook.train("answers = net.area(), net.perimeter(), Net().area()")
    assert notebook["answers"] == (15, 16, 21)


def test_inheritance_across_cells_super_and_class_methods_work(notebook):
    notebook.cell("""
        from abc import ABC, abstractmethod
        class Base(ABC):
            made = 0
            def __init__(self): Base.made += 1
            @abstractmethod
            def name(self): ...
            @classmethod
            def build(cls): return cls()
            @staticmethod
            def twice(x): return 2 * x
    """)
    notebook.cell("""
        class Child(Base):
            def __init__(self):
                super().__init__()
                self.tag = "child"
            def name(self): return self.tag + str(self.twice(4))
    """)
    notebook.train("c = Child.build(); answer = c.name(), isinstance(c, Base), Base.made")
    assert notebook["answer"] == ("child8", True, 1)
    assert type(notebook["c"]) is notebook["Child"]
    assert notebook["Base"].made == 1


def test_dataclasses_enums_named_tuples_and_generics_work(notebook):
    notebook.cell("""
        import dataclasses, enum
        from typing import Generic, NamedTuple, Protocol, TypedDict, TypeVar, runtime_checkable
        T = TypeVar("T")
        @dataclasses.dataclass(frozen=True)
        class Config:
            lr: float = 0.1
            layers: list[int] = dataclasses.field(default_factory=lambda: [1, 2])
        class Mode(enum.Enum):
            TRAIN = "t"
            EVAL = "e"
        class Pair(NamedTuple):
            x: int
            y: int = 2
        class Box(Generic[T]):
            def __init__(self, item: T): self.item = item
        @runtime_checkable
        class Sized(Protocol):
            def size(self) -> int: ...
        class Row(TypedDict):
            key: str
        class Shape:
            def size(self): return 3
        cfg = Config(lr=0.5)
        mode = Mode.EVAL
    """)
    notebook.train("""
        new = dataclasses.replace(cfg, lr=0.25)
        fields = [f.name for f in dataclasses.fields(Config)]
        answers = (cfg.lr, Config().layers, mode is Mode.EVAL, Mode("t"), Pair(1), Box[int](3).item,
                   isinstance(Shape(), Sized), Row(key='k'), Row.__annotations__)
        other = Mode.TRAIN
        box = Box("a")
    """)
    assert notebook["fields"] == ["lr", "layers"]
    assert notebook["new"] == notebook["Config"](lr=0.25)
    mode, pair = notebook["Mode"], notebook["Pair"]
    assert notebook["answers"][:6] == (0.5, [1, 2], True, mode.TRAIN, pair(1), 3)
    assert notebook["answers"][6:] == (True, {"key": "k"}, {"key": str})
    assert notebook["other"] is mode.TRAIN
    assert type(notebook["box"]) is notebook["Box"]


def test_decorators_keep_what_they_did(notebook):
    notebook.cell("""
        import functools, torch
        calls = []
        registry = {}
        def logged(f):
            @functools.wraps(f)
            def wrapper(*args):
                calls.append(f.__name__)
                return f(*args)
            registry[f.__name__] = wrapper
            return wrapper
        @logged
        def add(a, b): return a + b
        @functools.lru_cache(maxsize=8)
        def cached(x): return x + offset
        offset = 100
        @torch.no_grad()
        def frozen(x): return (x * 2).requires_grad
        class Lazy:
            @functools.cached_property
            def value(self): return offset + 1
            @property
            def half(self): return self._half
            @half.setter
            def half(self, v): self._half = v / 2
        lazy = Lazy()
        part = functools.partial(add, 1)
    """)
    notebook.train("""
        lazy.half = 8
        x = torch.ones(1, requires_grad=True)
        answers = add(1, 2), cached(1), frozen(x), lazy.value, lazy.half, registry["add"](3, 4), part(5)
    """)
    assert notebook["answers"] == (3, 101, False, 101, 4, 7, 6)
    assert notebook["calls"] == ["add", "add", "add"]
    assert notebook["lazy"].half == 4


def test_a_redefined_class_does_not_disturb_objects_of_the_old_one(notebook):
    notebook.cell("class Net:\n    def name(self): return 'old'\nold = Net()")
    notebook.cell("class Net:\n    def name(self): return 'new'\nnew = Net()")
    first = type(notebook["old"])
    notebook.train("names = old.name(), new.name(); again = type(old)()")
    assert notebook["names"] == ("old", "new")
    assert type(notebook["again"]) is first


def test_subclass_hooks_and_registries_do_not_run_twice(notebook):
    notebook.cell("""
        registry = {}
        class Plugin:
            def __init_subclass__(cls, *, key, **kwargs):
                super().__init_subclass__(**kwargs)
                registry[key] = cls
        class A(Plugin, key="a"):
            value = 1
    """)
    notebook.train("""
        class B(Plugin, key="b"): pass
        answer = sorted(registry), registry["a"] is A, registry["a"]().value
    """)
    assert notebook["answer"] == (["a", "b"], True, 1)
    assert notebook["registry"]["b"] is notebook["B"]


def test_slots_metaclasses_and_descriptors_work(notebook):
    notebook.cell("""
        class Meta(type):
            def __call__(cls, *args):
                made = super().__call__(*args)
                made.tag = cls.__name__
                return made
        class Positive:
            def __set_name__(self, owner, name): self.name = "_" + name
            def __get__(self, obj, kind=None): return self if obj is None else getattr(obj, self.name)
            def __set__(self, obj, value): setattr(obj, self.name, abs(value))
        class Point(metaclass=Meta):
            __slots__ = ("_x", "tag")
            x = Positive()
        p = Point(); p.x = -3
    """)
    notebook.train("q = Point(); q.x = -4; p.x = -5; tags = p.tag, q.tag, p.x")
    assert notebook["tags"] == ("Point", "Point", 5)
    assert notebook["p"].x == 5
    assert notebook["q"].x == 4


def test_a_class_of_the_training_cell_works_and_comes_back(notebook):
    notebook.cell("import torch\nfrom torch import nn\nwidth = 3")
    notebook.train("""
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(width, 1)
            def forward(self, x): return self.layer(x).sum()
        model = Net()
    """)
    import torch

    assert notebook["model"](torch.zeros(1, 3)).shape == ()
    assert type(notebook["model"]) is notebook["Net"]
    assert isinstance(notebook["Net"](), torch.nn.Module)


def test_a_rank_finds_the_source_of_functions_and_classes(notebook):
    notebook.cell("""
        import inspect, torch
        marker = 1
        class Net(torch.nn.Module):
            def forward(self, x):
                return x + marker
        def helper(x):
            return Net()(x)
    """)
    notebook.train("""
        texts = inspect.getsource(helper), inspect.getsource(Net), inspect.getsource(Net.forward)
        names = Net.__module__, repr(Net)
    """)
    helper, net, forward = notebook["texts"]
    assert helper == "def helper(x):\n    return Net()(x)\n"
    assert "class Net(torch.nn.Module):" in net
    assert "return x + marker" in net
    assert forward.strip().startswith("def forward(self, x):")
    assert notebook["names"] == ("__main__", "<class '__main__.Net'>")


def test_pickles_made_in_a_rank_open_in_the_notebook(notebook, tmp_path):
    notebook.cell("import pickle\nclass Item:\n    pass\nitem = Item(); item.x = 4")
    notebook.namespace["path"] = str(tmp_path / "item.pkl")
    notebook.train("with open(path, 'wb') as file:\n    pickle.dump([item, Item], file)")
    text = (tmp_path / "item.pkl").read_bytes()
    assert b"__main__" in text  # by name: the notebook's own class is found under it


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_loader_workers_find_the_classes_of_the_notebook(notebook, method):
    notebook.cell("""
        import torch
        from torch.utils.data import DataLoader, Dataset
        class Squares(Dataset):
            def __init__(self, n): self.n = n
            def __len__(self): return self.n
            def __getitem__(self, i): return torch.tensor([float(i) ** power])
        power = 2
        def collate(items): return torch.cat(items)
        data = Squares(6)
    """)
    notebook.namespace["method"] = method
    notebook.train("""
        loader = DataLoader(data, batch_size=3, num_workers=1, collate_fn=collate,
                            multiprocessing_context=method)
        total = sum(float(batch.sum()) for batch in loader)
        del loader
    """)
    assert notebook["total"] == 55


def test_a_module_beside_the_notebook_is_imported_by_ranks(notebook, tmp_path, monkeypatch):
    (tmp_path / "beside_notebook.py").write_text(
        "def f(x):\n    return x + 1\n\nclass C:\n    y = 2\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    notebook.cell("import beside_notebook as local\nfrom beside_notebook import C\nc = C()")
    notebook.train("answer = local.f(1) + c.y; d = C()")
    assert notebook["answer"] == 4
    assert type(notebook["d"]) is notebook["C"]


def test_an_edited_module_is_named(notebook, tmp_path, monkeypatch):
    path = tmp_path / "edited_module.py"
    path.write_text("x = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # it is the compiled file that tells
    notebook.cell("import edited_module")
    assert notebook.capture("edited_module.x").notices == ()
    path.write_text("x = 1 + 1\n")
    (notice,) = notebook.capture("edited_module.x").notices
    assert "edited_module was edited after its import" in notice


def test_a_function_of_the_notebook_may_change_the_names_of_the_notebook(notebook):
    notebook.cell(
        "count = 0\ndef bump():\n    global count, fresh\n    count += 1\n    fresh = 'new'"
    )
    notebook.train("bump(); bump()")
    assert notebook["count"] == 2
    assert notebook["fresh"] == "new"


def test_an_error_in_a_function_of_another_cell_shows_that_cells_lines(notebook):
    notebook.cell("""
        def divide(a, b):
            # a comment
            return a / b
    """)
    with pytest.raises(CellError) as caught:
        notebook.train("x = 1\ndivide(x, 0)")
    failure = caught.value.failure
    assert failure["kind"] == "ZeroDivisionError"
    assert "Cell In[2], line 3\n" in failure["traceback"]
    assert "---> 3 divide(x, 0)" in failure["traceback"]
    assert "Cell In[1], line 3, in divide" in failure["traceback"]
    assert "---> 3     return a / b" in failure["traceback"]
    assert "nbaas" not in failure["traceback"]
