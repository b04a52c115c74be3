"""API pages from source, docments and notebooks, one for each public name and for each module. Nothing is written by hand."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from stage import NBS, ROOT, Page

import labeldistill

LIMITS = {"at_least": "at least", "at_most": "at most", "above": "above", "below": "below"}
SHAPE = re.compile(
    r"(\([^()]*\)(?: (?:u?int|float|bool)\d*(?: or float\d+)?)?|per cent|seconds|bytes)(?:[,;:]\s*|\s+|$)(.*)", re.DOTALL
)
UNITS = "pixels seconds minutes hours bytes epochs passes iterations steps examples images".split(" ")
MOST_LINES = 20  # of an example's output


class Field(NamedTuple):
    "A parameter of a function or a field of a class."

    name: str
    type: str
    default: str
    meaning: str


class Module:
    "A module's source and the notebook that it was exported from."

    def __init__(self, name: str):
        self.name = name  # dotted, without the package
        self.module = import_module(f"labeldistill.{name}")
        self.source = Path(self.module.__file__).read_text(encoding="utf-8")
        self.notebook = NBS / re.search(r"File to edit: \S*nbs/(\S+\.ipynb)", self.source)[1]
        self.public = [public for public in self.module.__all__ if public in self.nodes]

    @cached_property
    def nodes(self) -> dict[str, ast.stmt]:
        "The definitions of the module by name."
        found = {}
        for node in ast.parse(self.source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found[node.name] = node
            elif isinstance(node, ast.AnnAssign):
                found[ast.unparse(node.target)] = node
            elif isinstance(node, ast.Assign):
                found |= {ast.unparse(target): node for target in node.targets}
        return found

    @cached_property
    def comments(self) -> dict[int, str]:
        "The comments by line; those on lines of their own belong to the next line."
        found, above = {}, ""
        for token in tokenize.generate_tokens(io.StringIO(self.source).readline):
            if token.type == tokenize.COMMENT:
                text = token.string.lstrip("# ")
                if token.line.strip().startswith("#"):
                    above = f"{above} {text}".strip()
                else:
                    found[token.start[0]] = f"{above} {text}".strip()
            elif token.type not in (tokenize.NL, tokenize.COMMENT):
                above = ""
        return found


@cache
def module(name: str) -> Module:
    "A module of the package by its name."
    return Module(name)


def modules() -> list[str]:
    "The modules of the package, in the order of the book."
    notebooks = {path: place for place, path in enumerate(sorted(NBS.rglob("*.ipynb")))}
    package = ROOT / "labeldistill"
    names = [path.relative_to(package).with_suffix("").as_posix().replace("/", ".") for path in package.rglob("[!_]*.py")]
    order = ["core", "data", "networks", "training", "methods", "reproduce"]
    return sorted(names, key=lambda name: (order.index(module(name).notebook.parent.name), notebooks[module(name).notebook]))


def unparse(node: ast.AST | None) -> str:
    "Source of a node, empty for none."
    return "" if node is None else ast.unparse(node)


def parameters(function: ast.FunctionDef, comments: dict[int, str]) -> list[Field]:
    "The parameters of a function."
    given = function.args
    named = [*given.posonlyargs, *given.args]
    rows = [*zip(named, [None] * (len(named) - len(given.defaults)) + given.defaults, strict=True), (given.vararg, None)]
    rows += [*zip(given.kwonlyargs, given.kw_defaults, strict=True), (given.kwarg, None)]
    stars = {id(given.vararg): "*", id(given.kwarg): "**"}
    return [
        Field(
            stars.get(id(arg), "") + arg.arg,
            unparse(arg.annotation),
            unparse(default),
            comments.get((default or arg).end_lineno, "") if arg.lineno > function.lineno else "",
        )
        for arg, default in rows
        if arg and arg.arg not in ("self", "cls")
    ]


def lineage(name: str, owner: Module) -> list[tuple[ast.ClassDef, Module]]:
    "A class and the private classes that it is built from, the first of these first."
    cls = getattr(owner.module, name)
    own = [base for base in reversed(cls.__mro__) if base.__module__.startswith("labeldistill.")]
    homes = [
        (base, module(base.__module__.removeprefix("labeldistill.")))
        for base in own
        if base is cls or base.__name__.startswith("_")
    ]
    return [(home.nodes[base.__name__], home) for base, home in homes]


def attributes(node: ast.ClassDef, owner: Module) -> list[Field]:
    "The fields that a class adds: their comments, or the help and the limits of a `setting`."
    cls = getattr(owner.module, node.name)
    settings = {field.name: field for field in fields(cls) if field.metadata} if is_dataclass(cls) else {}
    found = []
    for line in node.body:
        if not isinstance(line, ast.AnnAssign) or line.target.id.startswith("_") or "ClassVar" in unparse(line.annotation):
            continue
        name, default, meaning = line.target.id, unparse(line.value), owner.comments.get(line.end_lineno, "")
        if name in settings:
            limits = [
                f"{LIMITS[key]} {value}" for key, value in settings[name].metadata.items() if key in LIMITS and value is not None
            ]
            meaning = "; ".join([settings[name].metadata["help"], *limits])
            first = line.value.args[0] if line.value.args else None
            default = unparse(first)
        elif default.startswith("field("):
            default = default.removeprefix("field(default_factory=").removesuffix(")").removeprefix("lambda: ")
            default += "()" if default.isidentifier() else ""
        found.append(Field(name, unparse(line.annotation), default, meaning))
    return found


def unit_of(field: Field) -> tuple[str, str]:
    "Shape or unit of a field, and the rest of its meaning."
    if found := SHAPE.match(field.meaning):
        return found[1], found[2]
    counts = re.search(r"\b(int|float)\b", field.type) and [
        unit for unit in UNITS if re.search(rf"\b{unit}\b", field.meaning.split(";")[0])
    ]
    return counts[0] if counts else "", field.meaning


def code(text: str) -> str:
    "A code span in a cell of a table."
    return f"`{text}`".replace("|", r"\|") if text else ""


def table(rows: list[Field], kind: str) -> str:
    "Fields as a Markdown table."
    lines = [f"| {kind} | type | default | shape or unit | meaning |", "| --- | --- | --- | --- | --- |"]
    for field in rows:
        unit, meaning = unit_of(field)
        cells = code(field.name), code(field.type), code(field.default), unit, meaning.replace("|", r"\|")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) if rows else ""


def signature(name: str, rows: list[Field], returns: str = "", note: str = "") -> str:
    "How something is called, as code."
    given = [f"{row.name}{': ' + row.type if row.type else ''}{' = ' + row.default if row.default else ''}" for row in rows]
    end = (f" -> {returns}" if returns else "") + (f"  # {note}" if note else "")
    line = f"{name}({', '.join(given)}){end}"
    if len(line) > 80:
        line = f"{name}(\n" + "".join(f"    {one},\n" for one in given) + f"){end}"
    return f"```python\n{line}\n```"


def docstring(node: ast.AST) -> str:
    "What a definition says of itself; what it raises on a line of its own."
    text = ast.get_docstring(node) or ""
    said = re.sub(r"\s*(Raises [^.]*\.)", "", text).strip()
    raises = " ".join(re.findall(r"(Raises [^.]*\.)", text))
    return "\n\n".join(part for part in (said, raises.replace("Raises", "**Raises**")) if part)


def function(node: ast.FunctionDef, owner: Module, prefix: str = "") -> str:
    "A function or a method."
    rows = parameters(node, owner.comments)
    note = owner.comments.get(node.returns.end_lineno if node.returns else node.lineno, "")
    if any("property" in unparse(decorator) for decorator in node.decorator_list):
        shown = f"```python\n{prefix}{node.name}: {unparse(node.returns)}{'  # ' + note if note else ''}\n```"
    else:
        shown = signature(prefix + node.name, rows, unparse(node.returns), note)
    return "\n\n".join(
        part for part in (shown, docstring(node), table(rows, "parameter") if any(row.meaning for row in rows) else "") if part
    )


def definition(name: str, owner: Module, level: str) -> str:
    "A function, a class with its methods, or a value."
    node = owner.nodes[name]
    if isinstance(node, ast.FunctionDef):
        return function(node, owner)
    if not isinstance(node, ast.ClassDef):
        return f"```python\n{unparse(node)[:500]}\n```\n\n{owner.comments.get(node.end_lineno, '')}"
    classes = lineage(name, owner)
    methods = {method.name: (method, home) for cls, home in classes for method in cls.body if isinstance(method, ast.FunctionDef)}
    rows = [row for cls, home in classes for row in attributes(cls, home)]
    made = parameters(methods["__init__"][0], methods["__init__"][1].comments) if "__init__" in methods else rows
    bases = [base for cls, _ in classes for base in map(unparse, cls.bases) if not base.startswith("_")]
    parts = [signature(name, made), docstring(node), f"Base: {', '.join(f'`{base}`' for base in bases)}." if bases else ""]
    parts += [table(made, "field" if made is rows else "parameter"), table(rows, "attribute") if made is not rows else ""]
    shown = [(method, home) for method, home in methods.values() if not method.name.startswith("_") and ast.get_docstring(method)]
    parts += [f"{level} {method.name}\n\n{function(method, home, name + '.')}" for method, home in shown]
    return "\n\n".join(part for part in parts if part)


@cache
def cells(path: Path) -> list[Any]:
    "The cells of a notebook as committed."
    return nbformat.read(path, as_version=4).cells


def exported(cell: Any) -> bool:
    "Whether a cell goes into the package, or is not shown."
    return cell.cell_type == "code" and cell.source.startswith(("#| export", "#| hide", "#| default_exp"))


@cache
def imports(path: Path) -> set[str]:
    "What a notebook imports from the package, or exports itself."
    found = set()
    for cell in cells(path):
        if cell.cell_type == "code":
            source = re.sub(r"^[%!].*", "", cell.source, flags=re.MULTILINE)
            for node in ast.parse(source).body:
                if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("labeldistill"):
                    found |= {alias.name for alias in node.names}
                elif isinstance(node, ast.FunctionDef | ast.ClassDef) and exported(cell):
                    found.add(node.name)
    return found


def uses(name: str, path: Path) -> Iterator[Any]:
    "The demonstration cells of a notebook in which a name of the package stands."
    pattern = re.compile(rf"\bld\.{name}\b" + (rf"|(?<![.\w\"'-]){name}\b(?![\"'=])" if name in imports(path) else ""))
    yield from (cell for cell in cells(path) if cell.cell_type == "code" and not exported(cell) and pattern.search(cell.source))


def home(name: str, owner: Module) -> int:
    "Number of the cell that exports a name."
    pattern = re.compile(rf"^(?:def|class) {name}\b|^{name}\b *[:=]", re.MULTILINE)
    return next(place for place, cell in enumerate(cells(owner.notebook)) if exported(cell) and pattern.search(cell.source))


def demonstrations(name: str, owner: Module, paths: list[Path]) -> Iterator[Any]:
    "The cells that use a name: in its own notebook after its definition, then elsewhere."
    later = cells(owner.notebook)[home(name, owner) :]
    yield from (cell for cell in uses(name, owner.notebook) if cell in later)
    yield from (cell for path in paths if path != owner.notebook for cell in uses(name, path))


def example(cell: Any | None) -> str:
    "A cell with what it printed."
    if cell is None:
        return ""
    source = re.sub(r"^#\|.*\n", "", cell.source, flags=re.MULTILINE)
    printed = "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)
    lines = [line for line in printed.splitlines() if not line.startswith("<Figure")]
    lines = [*lines[:MOST_LINES], "..."] if len(lines) > MOST_LINES else lines
    return f"```python\n{source}\n```" + ("\n\n```text\n" + "\n".join(lines) + "\n```" if lines else "")


def equations(name: str, owner: Module) -> str:
    "Display maths in the text just before a definition, and at the head of the notebook whose distiller a method builds."
    place = home(name, owner)
    before = cells(owner.notebook)[:place]
    last = max((number for number, cell in enumerate(before) if exported(cell)), default=0)
    texts = [cell.source for cell in before[last:] if cell.cell_type == "markdown"]
    built = re.search(
        r"labeldistill\.methods(?:\.(\w+))? import (?:images, )?(\w+)", ast.get_source_segment(owner.source, owner.nodes[name])
    )
    if owner.name == "config" and built:
        texts.append(cells(module(f"methods.{built[1] or built[2]}").notebook)[0].source)
    return "\n\n".join(found for text in texts for found in re.findall(r"\$\$.+?\$\$", text, re.DOTALL))


def links(paths: list[Path], pages: list[Page], up: str) -> str:
    "A list of links to notebooks."
    known = {page.path: page for page in pages}
    return "\n".join(f"- [{known[path].title}]({up}{known[path].name}.ipynb)" for path in paths if path in known)


def register(kind: str, name: str) -> str:
    "An entry of the index that shows nothing."
    return f"```{{py:{kind}}} {name}\n:no-typesetting:\n```"


def kind_of(node: ast.stmt) -> str:
    "The kind of object, as Sphinx calls it."
    return {ast.FunctionDef: "function", ast.ClassDef: "class"}.get(type(node), "data")


def public_page(name: str, pages: list[Page]) -> str:
    "The page of a public name."
    owner, paths = module(labeldistill.PUBLIC[name]), [page.path for page in pages]
    tutorials = [cell for path in paths if path.parent.name == "tutorials" for cell in uses(name, path)]
    shortest = min(tutorials, key=lambda cell: len(cell.source), default=next(demonstrations(name, owner, paths), None))
    parts = [
        f"# labeldistill.{name}",
        register(kind_of(owner.nodes[name]), f"labeldistill.{name}"),
        definition(name, owner, "##"),
    ]
    for title, text in {
        "Equation": equations(name, owner),
        "Example": example(shortest),
        "Used in": links([path for path in paths if any(uses(name, path))], pages, "../"),
        "Defined in": f"- [labeldistill.{owner.name}](modules/{owner.name}.md)\n{links([owner.notebook], pages, '../')}",
    }.items():
        parts += [f"## {title}\n\n{text}"] if text else []
    return "\n\n".join(parts) + "\n"


def module_page(name: str, pages: list[Page]) -> str:
    "The page of a module."
    owner, paths = module(name), [page.path for page in pages]
    own = {public for public, place in labeldistill.PUBLIC.items() if place == name}
    doc = ast.get_docstring(ast.parse(owner.source)) or ""
    parts = [f"---\norphan: true\n---\n\n# labeldistill.{name}", register("module", f"labeldistill.{name}"), doc]
    parts += [f"Explained in {links([owner.notebook], pages, '../../')[2:]}."]
    for public in owner.public:
        if public in own:
            parts += [f"## {public}\n\nPublic: see [labeldistill.{public}](../{public}.md)."]
            continue
        parts += [
            f"## {public}",
            register(kind_of(owner.nodes[public]), f"labeldistill.{name}.{public}"),
            definition(public, owner, "###"),
        ]
        parts += [text for text in (equations(public, owner),) if text]
        parts += [f"**Example**\n\n{text}" for text in (example(next(demonstrations(public, owner, paths), None)),) if text]
    used = {path: imports(path) & {*owner.public} for path in paths if path != owner.notebook}
    users = [path for path, names in used.items() if any(any(uses(public, path)) for public in names)]
    parts += [f"## Used in\n\n{links(users, pages, '../../')}"] if users else []
    return "\n\n".join(parts) + "\n"


def write(folder: Path, pages: list[Page]) -> None:
    "Write all pages of the API into a new folder."
    (folder / "modules").mkdir(parents=True)
    for name in labeldistill.PUBLIC:
        (folder / f"{name}.md").write_text(public_page(name, pages), encoding="utf-8")
    for name in modules():
        (folder / "modules" / f"{name}.md").write_text(module_page(name, pages), encoding="utf-8")
    said = {name: module(place).nodes[name] for name, place in labeldistill.PUBLIC.items()}
    names = "\n".join(f"| [{name}]({name}.md) | {docstring(node).splitlines()[0]} |" for name, node in said.items())
    docs = {name: (ast.get_docstring(ast.parse(module(name).source)) or "").splitlines()[0] for name in modules()}
    rows = "\n".join(f"| [{name}](modules/{name}.md) | {doc} |" for name, doc in docs.items())
    head = "# API\n\n`import labeldistill as ld` gives the public names. They are imported on first use.\n\n"
    tree = ["```{toctree}", ":hidden:", "", *labeldistill.PUBLIC, "```"]  # modules stay out of the sidebar
    public = f"| name | what it is |\n| --- | --- |\n{names}"
    text = f"{head}{public}\n\n## Modules\n\n| module | what it holds |\n| --- | --- |\n{rows}\n\n"
    (folder / "index.md").write_text(text + "\n".join(tree) + "\n", encoding="utf-8")
