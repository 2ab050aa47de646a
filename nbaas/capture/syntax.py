"""Questions to the syntax tree of a cell: code in magics, signatures, exits, globals of a function."""

from __future__ import annotations

import ast
import re
import string
import symtable

_DOLLAR = re.compile(r"\$([A-Za-z_]\w*)")
_CODE_MAGICS = frozenset(["time", "timeit", "prun", "capture"])


def magic_code(node: ast.Call) -> str | None:
    """Return the Python inside `get_ipython().run_line_magic('time', '...')` and its like."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in (
        "run_line_magic",
        "run_cell_magic",
    ):
        return None
    words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    if len(words) != len(node.args) or not words or words[0] not in _CODE_MAGICS:
        return None
    try:
        ast.parse(str(words[-1]))
    except SyntaxError:
        return None
    return str(words[-1])


def shell_reads(node: ast.Call) -> tuple[str, ...]:
    """Return the names that IPython fills into the `!` line that became this call: `{n + 1}`, `$n`."""
    if not isinstance(node.func, ast.Attribute) or node.func.attr not in ("system", "getoutput"):
        return ()
    words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    command = str(words[0]) if words else ""
    names = {found[1]: None for found in _DOLLAR.finditer(command)}
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(command) if field]
        trees = [ast.parse(field, mode="eval") for field in fields]
    except (ValueError, SyntaxError):  # braces of the shell's own
        trees = []
    for tree in trees:
        names |= {n.id: None for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return tuple(names)


def signature(arguments: ast.arguments) -> list[ast.expr]:
    every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
    annotations = [arg.annotation for arg in every if arg.annotation is not None]
    defaults = [d for d in (*arguments.defaults, *arguments.kw_defaults) if d is not None]
    return [*defaults, *annotations]


def leaves(block: list[ast.stmt]) -> bool:
    """Tell whether nothing after `block` runs when it ran to its end."""
    return bool(block) and isinstance(block[-1], ast.Raise | ast.Continue | ast.Break | ast.Return)


def global_reads(node: ast.AST) -> tuple[str, ...]:
    """Return the module's names that a function reads when it is called, inner ones included."""
    holder = ast.Module([ast.Expr(node) if isinstance(node, ast.Lambda) else node], [])  # type: ignore[list-item]
    table = symtable.symtable(ast.unparse(ast.fix_missing_locations(holder)), "<cell>", "exec")
    reads: dict[str, None] = {}
    for child in table.get_children():
        _collect(child, reads)
    return tuple(reads)


def _collect(table: symtable.SymbolTable, reads: dict[str, None]) -> None:
    for symbol in table.get_symbols():
        if symbol.is_global() and symbol.is_referenced():
            reads.setdefault(symbol.get_name())
    for child in table.get_children():
        _collect(child, reads)
