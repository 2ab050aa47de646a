"""Python without a notebook: what IPython made of `!`, `%` and `%%` lines, as a plain script has it.

Rule: only those calls change; all other text, comments included, stays as the user wrote it.
"""

from __future__ import annotations

import ast

from nbaas.capture.syntax import magic_code
from nbaas.errors import CaptureError

_READS_SHELL = "subprocess.run({command}, shell=True, capture_output=True, text=True)"


def plain_python(source: str) -> str:
    """Return `source`, which is Python as IPython transforms it, without calls of the shell.

    Raises: CaptureError: it awaits at its top level, which no script can.
    """
    tree = ast.parse(source)
    _refuse_await(tree)
    statements = {node.value: node for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    edits = [
        (*_place(source, statements.get(node, node)), text)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and (text := _plain_call(node, alone=node in statements))
    ]
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + _indented(text, source, start) + source[end:]
    return source


def imports_for(source: str) -> list[str]:
    """Return the imports and stand-ins that plain code needs and the notebook did not."""
    lines = []
    if "subprocess.run(" in source and "import subprocess" not in source:
        lines.append("import subprocess")
    if "display(" in source:
        lines.append("display = print")
    return lines


def _plain_call(node: ast.Call, *, alone: bool) -> str:
    """Return what takes the place of a call of the shell, '' for any other call."""
    func = node.func
    if not isinstance(func, ast.Attribute) or not isinstance(func.value, ast.Call):
        return ""
    if getattr(func.value.func, "id", "") != "get_ipython":
        return ""
    if (code := magic_code(node)) is not None and alone:
        return code.strip("\n")
    words = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
    command = _command(str(words[0])) if words else "''"
    if func.attr == "system":
        return f"subprocess.run({command}, shell=True)"
    if func.attr == "getoutput":
        return f"{_READS_SHELL.format(command=command)}.stdout.splitlines()"
    said = " ".join(str(word) for word in words)
    mark = {"run_line_magic": "%", "run_cell_magic": "%%"}.get(func.attr, "")
    return f"pass  # {mark}{said.splitlines()[0] if said else func.attr}" if alone else ""


def _command(text: str) -> str:
    """Return a shell command as a literal; one in which IPython fills names in, as an f-string."""
    return ("f" if "{" in text else "") + repr(text)


def _place(source: str, node: ast.expr | ast.Expr) -> tuple[int, int]:
    """Return where a node's text begins and ends in `source`, in characters."""
    lines = source.splitlines(keepends=True)

    def position(line: int, column: int) -> int:
        before = lines[line - 1].encode()[:column].decode()
        return sum(map(len, lines[: line - 1])) + len(before)

    end = (node.end_lineno or node.lineno, node.end_col_offset or node.col_offset)
    return position(node.lineno, node.col_offset), position(*end)


def _indented(text: str, source: str, at: int) -> str:
    begin = source.rfind("\n", 0, at) + 1
    blank = source[begin:at]
    return text.replace("\n", "\n" + blank) if not blank.strip() else text


def _refuse_await(tree: ast.Module) -> None:
    todo: list[ast.AST] = list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            raise CaptureError(
                f"line {node.lineno} awaits at the top level, which a script cannot",
                hint="put it into an async function and call asyncio.run",
            )
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            todo += ast.iter_child_nodes(node)
