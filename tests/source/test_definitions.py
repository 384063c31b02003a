"""What counts as part of a result and what does not, on small packages made for the purpose."""

import textwrap
from pathlib import Path

import pytest

from vrp.source.definitions import Sources, Uncounted
from vrp.source.reach import reach

UNCOUNTED = Uncounted(
    {"pkg.tell:say": "a message", "pkg.clean:*": "cleans up", "pkg.other:Files.tidy": "cleans up"},
    {"pkg.other:write": ("label",), "pkg.tell:bar": ("*",), "pkg.other:column": (1, "text")},
)
OTHER = {
    "__init__": "",
    "tell": "def say(text): print(text)\ndef bar(n, text): return n",
    "clean": "def sweep(folder): folder.remove()\ndef lock(folder): return folder",
    "other": """
        import logging
        LIMIT = 3
        UNUSED = 4
        logger = logging.getLogger(__name__)
        class BadInputError(Exception):
            pass
        class CodeError(Exception):
            def __init__(self, code):
                self.code = code
        class Files:
            def tidy(self): return 1
            def read(self): return 2
        def write(rows, label): return rows
        def column(name, text): return name
        def helper(x): return x + LIMIT
        def advice(x): return str(x)
        """,
}


def package(folder: Path, files: dict[str, str]) -> Sources:
    """A package `pkg` of these modules, by their paths without `.py`, beside those of `OTHER`."""
    root = folder / "pkg"
    for name, text in {**OTHER, **files}.items():
        path = root / (name if "." in name else f"{name}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        for parent in path.relative_to(root).parents:
            init = root / parent / "__init__.py"
            if not init.exists():
                init.write_text("")
    return Sources({"pkg": root}, UNCOUNTED)


def digests_of(folder: Path, main: str, *more: str, **files: str) -> dict[str, str]:
    """Digests of what `pkg.main:run` reaches, in a package in which `main` is that module."""
    sources = package(folder, {"main": main, **files})
    return reach(sources, ["pkg.main:run", *more]).digests


def names_in(folder: Path, main: str, *more: str, **files: str) -> set[str]:
    """Names of what is reached, without the package's own name."""
    return {name.removeprefix("pkg.") for name in digests_of(folder, main, *more, **files)}


FROM_OTHER = "from pkg.other import {}\n"
# What leaves a definition's digest as it is: both texts of `pkg.main`.
ALIKE = {
    "a comment": ("def run():\n    return 1", "def run():  # one\n    # why\n    return 1"),
    "a docstring": ("def run():\n    'One.'\n    return 1", "def run():\n    'Two.'\n    return 1"),
    "nothing but a docstring": ("def run():\n    'All that it does.'", "def run():\n    pass"),
    "formatting": ("def run():\n    return f(1,\n             2)", "def run(): return f(1, 2)"),
    "quotes": ("def run(): return 'a'", 'def run(): return "a"'),
    "an appended function": ("def run(): return 1", "def run(): return 1\ndef new(): return 2"),
    "an appended constant": ("def run(): return 1", "def run(): return 1\nNEW = 2"),
    "an import for another": ("def run(): return 1", "import os\ndef run(): return 1"),
    "a name for a type checker": (
        "def run(): return 1",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.other import helper\n"
        "def run(): return 1",
    ),
    "an annotation": (
        FROM_OTHER.format("Files") + "def run(x: Files, *y: int, z: int = 1) -> Files:\n"
        "    n: Files = x\n    k: int\n    return n",
        "def run(x, *y, z=1):\n    n = x\n    return n",
    ),
    "the type of a cast": (
        FROM_OTHER.format("Files") + "from typing import cast\ndef run(x): return cast(Files, x)",
        "from typing import cast\ndef run(x): return cast(int, x)",
    ),
    "a constant's annotation": (
        "N: int = 1\ndef run(): return N", "N = 1\ndef run(): return N",
    ),
    "an exception's message": (
        FROM_OTHER.format("BadInputError, advice")
        + "def run(x):\n    raise BadInputError(advice(x))",
        FROM_OTHER.format("BadInputError") + "def run(x):\n    raise BadInputError('no') from None",
    ),
    "a built-in exception's message": (
        "def run(x):\n    raise ValueError('one')", "def run(x):\n    raise ValueError(f'two {x}')",
    ),
    "the message of an exception that is returned": (
        FROM_OTHER.format("BadInputError") + "def run(x): return BadInputError('one')",
        FROM_OTHER.format("BadInputError") + "def run(x): return BadInputError('two')",
    ),
    "an assertion's message": (
        "def run(x):\n    assert x, 'one'", "def run(x):\n    assert x, 'two'",
    ),
    "a line on stderr": (
        "import sys\ndef run(x):\n    return x",
        "import sys\ndef run(x):\n    print('running', x, file=sys.stderr)\n    return x",
    ),
    "a line on stderr on a condition": (
        "def run(x):\n    return x",
        "import sys\ndef run(x):\n    if x > 3:\n        print(x, file=sys.stderr)\n    return x",
    ),
    "a log line": (
        FROM_OTHER.format("logger") + "def run(x):\n    return x",
        FROM_OTHER.format("logger") + "def run(x):\n    logger.info('at %s', x)\n    return x",
    ),
    "a warning": (
        "def run(x):\n    return x",
        "import warnings\ndef run(x):\n    warnings.warn('beware')\n    return x",
    ),
    "a progress bar's words": (
        "from tqdm import tqdm\ndef run(x):\n    return list(tqdm(x, desc='one', unit='row'))",
        "from tqdm import tqdm\ndef run(x):\n    return list(tqdm(x, desc='two', mininterval=3))",
    ),
    "a call of what is declared": (
        "def run(x):\n    return x",
        "from pkg.tell import say\ndef run(x):\n    say(f'at {x}')\n    return x",
    ),
    "a call of what is declared with its module": (
        "def run(x):\n    return x",
        "from pkg import clean\ndef run(x):\n    clean.sweep(x)\n    return x",
    ),
    "an argument that is declared": (
        FROM_OTHER.format("write") + "def run(x): return write(x, label='one')",
        FROM_OTHER.format("write") + "def run(x): return write(x, label=f'two {x}')",
    ),
    "a positional argument that is declared": (
        FROM_OTHER.format("column") + "def run(): return column('a', 'one')",
        FROM_OTHER.format("column") + "def run(): return column('a', text='two')",
    ),
    "all arguments, where all are declared": (
        "from pkg.tell import bar\ndef run(x):\n    with bar(1, 'one'): return x",
        "from pkg.tell import bar\ndef run(x):\n    with bar(n=2, text='two'): return x",
    ),
    "an attribute's docstring": (
        "class A:\n    x: int = 1\n    'One.'\n    y: int\ndef run(): return A()",
        "class A:\n    x: int = 1\n    y: int\n    'Two.'\ndef run(): return A()",
    ),
}  # fmt: skip
# What changes the digest of something that is reached.
UNLIKE = {
    "a number": ("def run(): return 1", "def run(): return 2"),
    "a number's type": ("def run(): return 1", "def run(): return 1.0"),
    "a string for a number": ("def run(): return 1", "def run(): return '1'"),
    "a returned string": ("def run():\n    return 'a'", "def run():\n    return 'b'"),
    "brackets": ("def run(): return f(a, [b], c)", "def run(): return f(a, [b, c])"),
    "an order": ("def run(a, b): return a - b", "def run(a, b): return b - a"),
    "a local name's use": (
        "def run(a, b):\n    c = a\n    return c", "def run(a, b):\n    c = b\n    return c",
    ),
    "a default": ("def run(x=1): return x", "def run(x=2): return x"),
    "a keyword-only mark": ("def run(x): return x", "def run(*, x): return x"),
    "a decorator": (
        "import functools\ndef run(): return 1",
        "import functools\n@functools.cache\ndef run(): return 1",
    ),
    "a constant": ("N = 1\ndef run(): return N", "N = 2\ndef run(): return N"),
    "a constant that is changed further down": (
        "N = [1]\ndef run(): return N", "N = [1]\nN += [2]\ndef run(): return N",
    ),
    "a constant that is changed in place": (
        "N = [1]\ndef run(): return N", "N = [1]\nN.append(2)\ndef run(): return N",
    ),
    "a key that is set": (
        "N = {}\ndef run(): return N", "N = {}\nN['a'] = 2\ndef run(): return N",
    ),
    "a constant that is a default": (
        "N = 1\ndef run(x=N): return x", "N = 2\ndef run(x=N): return x",
    ),
    "a constant in a comprehension": (
        "N = 1\ndef run(x): return [N + i for i in x if i]",
        "N = 2\ndef run(x): return [N + i for i in x if i]",
    ),
    "a constant in a nested function": (
        "N = 1\ndef run():\n    def f(): return N\n    return f()",
        "N = 2\ndef run():\n    def f(): return N\n    return f()",
    ),
    "a constant in a lambda's default": (
        "N = 1\ndef run(): return lambda x=N: x", "N = 2\ndef run(): return lambda x=N: x",
    ),
    "a constant that a nested scope hides": (
        "N = 1\ndef run():\n    def f(N): return N\n    return f(N)",
        "N = 2\ndef run():\n    def f(N): return N\n    return f(N)",
    ),
    "a constant over which a comprehension runs by its own name": (
        "x = (1,)\ndef run(): return [x for x in x]", "x = (2,)\ndef run(): return [x for x in x]",
    ),
    "a global that is set": (
        "N = 1\ndef run():\n    global N\n    N += 1\n    return N",
        "N = 2\ndef run():\n    global N\n    N += 1\n    return N",
    ),
    "a choice on import": (
        "import sys\nif sys.platform == 'linux':\n    N = 1\nelse:\n    N = 3\ndef run(): return N",
        "import sys\nif sys.platform == 'linux':\n    N = 1\nelse:\n    N = 2\ndef run(): return N",
    ),
    "a class's base": ("class A(list): ...\ndef run(): return A()",
                       "class A(dict): ...\ndef run(): return A()"),
    "a class attribute": ("class A:\n    n = 1\ndef run(): return A()",
                          "class A:\n    n = 2\ndef run(): return A()"),
    "a field's type": ("class A:\n    n: int = 1\ndef run(): return A()",
                       "class A:\n    n: float = 1\ndef run(): return A()"),
    "a field's place": ("class A:\n    n: int\n    m: int\ndef run(): return A(1, 2)",
                        "class A:\n    m: int\n    n: int\ndef run(): return A(1, 2)"),
    "what a name was imported from": (
        "from math import log\ndef run(x): return log(x)",
        "from numpy import log\ndef run(x): return log(x)",
    ),
    "what an alias stands for": (
        "import math as m\ndef run(x): return m.log(x)",
        "import cmath as m\ndef run(x): return m.log(x)",
    ),
    "what was imported in the function": (
        "def run(x):\n    from math import log\n    return log(x)",
        "def run(x):\n    from numpy import log\n    return log(x)",
    ),
    "which exception": (
        "def run():\n    raise ValueError('no')", "def run():\n    raise TypeError('no')",
    ),
    "a built-in exception's data": (
        "def run():\n    raise OSError(1, 'no')", "def run():\n    raise OSError(2, 'no')",
    ),
    "an exception's data": (
        FROM_OTHER.format("CodeError") + "def run():\n    raise CodeError(1)",
        FROM_OTHER.format("CodeError") + "def run():\n    raise CodeError(2)",
    ),
    "a line on a file": (
        "def run(x, file):\n    print('one', file=file)",
        "def run(x, file):\n    print('two', file=file)",
    ),
    "a statement on a condition that calls": (
        "import sys\ndef run(x):\n    if x.pop():\n        print(x, file=sys.stderr)",
        "import sys\ndef run(x):\n    if x.copy():\n        print(x, file=sys.stderr)",
    ),
    "a local function named as what is declared": (
        "from pkg.tell import say\ndef run(x, say):\n    say(1)\n    return x",
        "from pkg.tell import say\ndef run(x, say):\n    say(2)\n    return x",
    ),
    "a local name bound after a nested function uses it": (
        "from pkg.tell import say\n"
        "def run(x):\n    def f(): say(1)\n    say = x.append\n    f()\n    return x",
        "from pkg.tell import say\n"
        "def run(x):\n    def f(): say(2)\n    say = x.append\n    f()\n    return x",
    ),
    "what a call of what is declared returns": (
        "from pkg.clean import lock\ndef run(x): return lock(x)",
        "from pkg.clean import lock\ndef run(x): return lock(x + 1)",
    ),
    "a match": (
        "def run(x):\n    match x:\n        case [a, *rest]: return a",
        "def run(x):\n    match x:\n        case [a, *rest]: return rest",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ALIKE)
def test_does_not_count(tmp_path, case):
    one, other = ALIKE[case]
    first, second = digests_of(tmp_path / "1", one), digests_of(tmp_path / "2", other)
    assert first["pkg.main:run"] == second["pkg.main:run"]
    if case != "a log line":  # which reaches nothing more, either
        assert first == second


@pytest.mark.parametrize("case", UNLIKE)
def test_counts(tmp_path, case):
    one, other = UNLIKE[case]
    assert digests_of(tmp_path / "1", one) != digests_of(tmp_path / "2", other)


# Text of `pkg.main`, and what `run` reaches beside itself.
REACHED = {
    "a helper and its constant": (
        FROM_OTHER.format("helper") + "def run(x): return helper(x)",
        {"other:helper", "other:LIMIT"},
    ),
    "a function of a module": (
        "from pkg import other\ndef run(x): return other.helper(x)",
        {"other:helper", "other:LIMIT"},
    ),
    "a module under another name": (
        "import pkg.other as o\ndef run(x): return o.LIMIT", {"other:LIMIT"},
    ),
    "a module by its whole name": (
        "import pkg.other\ndef run(x): return pkg.other.LIMIT", {"other:LIMIT"},
    ),
    "an import in the function": (
        "def run(x):\n    from pkg.other import LIMIT as L\n    return lambda: L", {"other:LIMIT"},
    ),
    "a relative import": ("from .other import LIMIT\ndef run(): return LIMIT", {"other:LIMIT"}),
    "a relative import of a module": (
        "from . import other\ndef run(): return other.LIMIT", {"other:LIMIT"},
    ),
    "everything that is imported": (
        "from pkg.other import *\ndef run(): return LIMIT", {"other:LIMIT"},
    ),
    "a name that a local one hides": (
        FROM_OTHER.format("helper, LIMIT") + "def run(helper):\n"
        "    for LIMIT in helper: pass\n    return [LIMIT for helper in (LIMIT,)]",
        set(),
    ),
    "a name in a class body, not seen in its methods": (
        FROM_OTHER.format("LIMIT") + "class A:\n    LIMIT = 2\n    def f(self): return LIMIT\n"
        "def run(): return A().f()",
        {"main:A", "main:A.f", "other:LIMIT"},
    ),
    "a method that is named": (
        "class A:\n    def f(self): return 1\n    def g(self): return 2\n    @property\n"
        "    def h(self): return 3\n    def __len__(self): return 4\ndef run(): return A().h",
        {"main:A", "main:A.h", "main:A.__len__"},
    ),
    "a method that is named by a string": (
        "class A:\n    def f(self): return 1\ndef run(): return getattr(A(), 'f')",
        {"main:A", "main:A.f"},
    ),
    "a method that is named before its class": (
        "class A:\n    def f(self): return g(self)\ndef g(a): return a.h()\n"
        "class B:\n    def h(self): return 1\ndef run(x):\n    x.f()\n    return A(), B()",
        {"main:A", "main:A.f", "main:g", "main:B", "main:B.h"},
    ),
    "a method of a base and of what inherits it": (
        "class A:\n    def f(self): return 1\nclass B(A):\n    def f(self): return super().f()\n"
        "class C(A):\n    def f(self): return 2\ndef run(): return B().f()",
        {"main:A", "main:A.f", "main:B", "main:B.f"},
    ),
    "methods that another package may call": (
        "from torch import nn\nclass A(nn.Module):\n    def forward(self): return 1\n"
        "class B(A):\n    def extra(self): return 2\ndef run(): return B()",
        {"main:A", "main:A.forward", "main:B", "main:B.extra"},
    ),
    "methods of a named tuple": (
        "from typing import NamedTuple\nclass A(NamedTuple):\n    n: int\n"
        "    def f(self): return 1\ndef run(): return A(1)",
        {"main:A"},
    ),
    "a method that something registers": (
        "from web import route\nclass A:\n    @route('/')\n    def f(self): return 1\n"
        "def run(): return A()",
        {"main:A", "main:A.f"},
    ),
    "a field's type, of which the field may be given an instance": (
        "class B: ...\nclass A:\n    b: B\ndef run(): return A()", {"main:A"},
    ),
    "a field's type, of which another package may make an instance": (
        "from model import Model\nclass B: ...\nclass A(Model):\n    b: B\ndef run(): return A()",
        {"main:A", "main:B"},
    ),
    "an exception's class": (
        FROM_OTHER.format("BadInputError, advice") + "def run(x): raise BadInputError(advice(x))",
        {"other:BadInputError"},
    ),
    "what is declared": (
        "from pkg.clean import lock\nfrom pkg.other import Files\n"
        "def run(x):\n    Files().tidy()\n    return lock(x)",
        {"other:Files"},
    ),
    "a module that is handed on": (
        "from pkg import tell, small\ndef run(): return [m.x for m in (small,)]",
        {"small:N", "small:f"},
    ),
    "a module by a string": (
        "import importlib\ndef run(): return importlib.import_module('pkg.small')",
        {"small:N", "small:f"},
    ),
    "a definition by a string": ("def run(): return load('pkg.small:N')", {"small:N"}),
    "what an import runs": (
        "import pkg.loud.inner\ndef run(): return 1",
        {"loud:<register a>", "loud:register", "loud:TABLE", "loud.inner:<print imported>"},
    ),
    "what a function's import runs": (
        "def run():\n    import pkg.loud\n    return 1",
        {"loud:<register a>", "loud:register", "loud:TABLE"},
    ),
    "what an import decorates": (
        "from pkg import decorated\ndef run(): return 1",
        {"decorated:<route>", "decorated:f", "decorated:N"},
    ),
    "an import that may fail": (
        "try:\n    from pkg.small import f\nexcept ImportError:\n    f = None\ndef run(): return f",
        {"main:<statements>", "main:f", "small:f"},
    ),
    "a lazy name": ("import pkg.lazy\ndef run(): return pkg.lazy.thing", {"lazy:__getattr__"}),
    "circles": (
        "from pkg.back import g\ndef run(): return g()\ndef f(): return g()",
        {"back:g", "main:f"},
    ),
}  # fmt: skip
MORE = {
    "small": "N = 1\ndef f(): return 2",
    "loud/__init__": """
        TABLE = {}
        def register(name): TABLE[name] = 1
        register('a')
        """,
    "loud/inner": "TABLE = 2\nprint('imported')",
    "decorated": "from web import route\nN = 1\n@route('/')\ndef f(): return N\ndef g(): return 2",
    "lazy": "def __getattr__(name): return 1\ndef other(): return 2",
    "back": "from pkg.main import f\ndef g(): return f()",
}


@pytest.mark.parametrize("case", REACHED)
def test_reaches(tmp_path, case):
    main, expected = REACHED[case]
    assert names_in(tmp_path, main, **MORE) == {"main:run", *expected}


def test_a_name_that_a_package_hands_on_is_followed_to_its_definition(tmp_path):
    files = {
        "room/__init__": "from pkg.room.inner import f as g\n__all__ = ['g']",
        "room/inner": "def f(): return 1\ndef other(): return 2",
    }
    main = "from pkg.room import g\ndef run(): return g()"
    assert names_in(tmp_path, main, **files) == {"main:run", "room.inner:f"}


def test_a_property_and_its_setter_are_one_definition(tmp_path):
    main = """
        class A:
            @property
            def n(self): return 1
            @n.setter
            def n(self, value): self._n = {}
        def run(a): A().n = a
        """
    one = digests_of(tmp_path / "1", main.format(1))
    other = digests_of(tmp_path / "2", main.format(2))
    assert {name for name in one if one[name] != other[name]} == {"pkg.main:A.n"}


@pytest.mark.parametrize(
    ("opens", "expected"),
    [
        ("resources.files('pkg.room') / 'one.json'", {"pkg.room:one.json"}),
        ("resources.files('pkg.room') / 'kept'", {"pkg.room:kept/a.csv", "pkg.room:kept/b/c.csv"}),
        (
            "resources.files('pkg.room')",
            {"pkg.room:one.json", "pkg.room:two.json", "pkg.room:kept/a.csv",
             "pkg.room:kept/b/c.csv", "pkg.room:templates/page.html.j2"},
        ),
        ("Environment(loader=PackageLoader('pkg.room'))", {"pkg.room:templates/page.html.j2"}),
    ],
)  # fmt: skip
def test_files_that_are_opened_by_a_package_count(tmp_path, opens, expected):
    files = {
        "room/one.json": "{}", "room/two.json": "{}",
        "room/kept/a.csv": "", "room/kept/b/c.csv": "",
        "room/templates/page.html.j2": "{{ table.rows() }}", "room/.one.json.swp": "",
        "room/kept/a.csv~": "", "room/#one.json#": "", "room/weights/w.bin": "",
    }  # fmt: skip
    imports = "from importlib import resources\nfrom jinja2 import Environment, PackageLoader\n"
    main = f"{imports}def other(): return resources.files('pkg') / 'main.py'\ndef run(): {opens}"
    found = digests_of(tmp_path, main, **files)
    assert found.keys() == {"pkg.main:run", *expected}


def test_a_template_names_methods(tmp_path):
    main = """
        from jinja2 import PackageLoader
        class Table:
            def rows(self): return 1
            def columns(self): return 2
        def run(): return PackageLoader('pkg.room'), Table()
        """
    files = {"room/templates/page.html.j2": "{{ table.rows() }}"}
    assert names_in(tmp_path, main, **files) >= {"main:Table.rows"}
    assert "main:Table.columns" not in names_in(tmp_path, main, **files)


def test_a_file_that_changes_is_named(tmp_path):
    main = "from importlib import resources\ndef run(): resources.files('pkg.room') / 'one.json'"
    before = digests_of(tmp_path, main, **{"room/one.json": "{}"})
    after = digests_of(tmp_path, main, **{"room/one.json": "{} "})
    assert [name for name in before if before[name] != after[name]] == ["pkg.room:one.json"]


def test_what_is_read_by_a_made_up_name_is_declared(tmp_path):
    main = "def load(name): return import_module(f'pkg.{name}')\ndef run(): return load('small')"
    sources = package(tmp_path, {"main": main, **MORE})
    reads = {"pkg.main:load": ("pkg.small:N",)}
    found = reach(sources, ["pkg.main:run"], reads=reads).digests
    assert set(found) == {"pkg.main:run", "pkg.main:load", "pkg.small:N"}


def test_of_the_classes_of_values_that_are_handed_over_only_named_methods_count(tmp_path):
    files = {
        "config": """
            from base import Model
            def check(value): return value
            class Inner(Model):
                n: int = 1
                @property
                def name(self): return LETTERS[self.n]
                @property
                def unused(self): return 2
                def __post_init__(self): check(self)
            LETTERS = 'abc'
            Inners = tuple[Inner, ...]
            class Outer(Model):
                @property
                def name(self): return 3
            class Config(Model):
                inners: Inners = (Inner(),)
                outer: Outer = Outer()
                def all(self): return self.inners
            """
    }
    sources = package(tmp_path, {"main": "def run(config): return config.inners[0].name", **files})
    handed = ("pkg.config:Config", {"inners"})
    found = reach(sources, ["pkg.main:run"], values_of=handed).digests
    assert set(found) == {"pkg.main:run", "pkg.config:Inner.name", "pkg.config:LETTERS"}


EXTENSION = """
    from pkg.registry import Colour, register_colour, register_shape
    def red(x): return x
    def blue(x): return x
    register_colour("red", red)
    register_colour("blue", blue)
    SQUARE = Colour("square")
    register_shape(SQUARE)
    def unused(): return 1
    """
REGISTRY = """
    COLOURS = {}
    _SHAPES = {}
    class Colour:
        def __init__(self, name): self.name = name
    def _put(name, made): COLOURS[name] = made
    def register_colour(name, made): _put(name, made)
    def register_shape(shape): _SHAPES[shape.name] = shape
    def colours(): return COLOURS
    def shapes(): return _SHAPES
    """


def extended(folder: Path, main: str) -> Sources:
    """A package with two registries, and a file that adds to them."""
    sources = package(folder, {"registry": REGISTRY, "main": main})
    mine = folder / "my_study.py"
    mine.write_text(textwrap.dedent(EXTENSION))
    return Sources(sources.roots, UNCOUNTED, {"my_study": mine})


def added(sources: Sources, **registered: set[str]) -> set[str]:
    """What counts of the file."""
    names = {f"pkg.registry:{function}": chosen for function, chosen in registered.items()}
    found = reach(sources, ["pkg.main:run"], registered=names).digests
    return {name.removeprefix("my_study:") for name in found if name.startswith("my_study:")}


def test_what_an_extension_registers_counts_where_the_registry_is_read(tmp_path):
    colours = "from pkg.registry import colours\ndef run(): return colours()"
    assert added(extended(tmp_path / "1", colours)) == {
        "<register_colour red>", "<register_colour blue>", "red", "blue",
    }  # fmt: skip
    shapes = "from pkg import registry\ndef run(): return registry.shapes()"
    assert added(extended(tmp_path / "2", shapes)) == {"<register_shape>", "SQUARE"}
    assert added(extended(tmp_path / "3", "def run(): return 1")) == set()


def test_of_what_an_extension_registers_by_name_only_what_is_used_counts(tmp_path):
    both = "from pkg.registry import colours, shapes\ndef run(): return colours(), shapes()"
    sources = extended(tmp_path, both)
    assert added(sources, register_colour={"blue"}, register_shape={"square"}) == {
        "<register_colour blue>", "blue", "<register_shape>", "SQUARE",
    }  # fmt: skip
    assert added(sources, register_colour=set(), register_shape={"circle"}) == set()


def test_an_extension_that_is_part_of_a_package_counts_with_its_package(tmp_path):
    for name, text in {
        "__init__": "",
        "inner/__init__": "",
        "inner/mine": "from web import add\nfrom own.more import f\nadd('x', f)",
        "more": "def f(): return 1",
    }.items():
        path = tmp_path / "own" / f"{name}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    path = tmp_path / "own" / "inner" / "mine.py"
    base = package(tmp_path, {"main": "def run(): return 1"})
    sources = Sources(base.roots, UNCOUNTED, {"own.inner.mine": path})
    # What another package registers may be used anywhere.
    assert set(reach(sources, ["pkg.main:run"]).digests) == {
        "pkg.main:run", "own.inner.mine:<add x>", "own.more:f",
    }  # fmt: skip


@pytest.mark.parametrize("entry", ["pkg.none:run", "pkg.main:none", "pkg.main:A.none", "other:f"])
def test_an_entry_that_does_not_exist_is_an_error(tmp_path, entry):
    sources = package(tmp_path, {"main": "class A: ...\ndef run(): return 1"})
    with pytest.raises(KeyError):
        reach(sources, [entry])


def test_the_order_of_entries_and_the_process_do_not_matter(tmp_path):
    main = "from pkg.other import helper, Files\ndef run(): return Files().read(), helper(1)"
    files = {"main": main}
    entries = ["pkg.main:run", "pkg.other:column", "pkg.other:write"]
    one = reach(package(tmp_path / "1", files), entries).digests
    other = reach(package(tmp_path / "2", files), entries[::-1]).digests
    assert list(one.items()) == list(other.items())
    # The digits themselves: a change here reruns everybody's studies.
    assert one["pkg.other:helper"] == "82d1d543"
