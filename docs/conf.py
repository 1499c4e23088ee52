"""Sphinx: the pages of this folder, the notebooks of tutorials/ as they were saved, and the docstrings.

    make docs        # warnings are errors; the site is docs/_build/html and asks nothing of the network

The pages are plain Markdown, to be read on a code host too. What the site adds is made here: citations, names
of public objects and of tests become links.
"""

import ast
import importlib.util
import inspect
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]
import gallery  # noqa: E402  (of this folder)

project = "minikfac"
author = "minikfac contributors"
copyright = "minikfac contributors, MIT licence"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "slides/*", "**.ipynb_checkpoints", "*.bib"]  # slides: see slides.md

# pages and notebooks

myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
myst_dmath_double_inline = True
nb_execution_mode = "off"  # tutorials/run.py ran them
nb_merge_streams = True
suppress_warnings = [
    "mystnb.unknown_mime_type",  # widgets: the static figure beside them is shown
]

# formulas: (2.5) is number 5 on the second page of derivations

numfig = True
math_numfig = True
numfig_secnum_depth = 1

# docstrings

autodoc_member_order = "bysource"  # which is the order of __all__ in a module
autodoc_typehints = "none"  # in the text of each argument, with its shape
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_attr_annotations = False
napoleon_use_rtype = False
add_module_names = False
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# the look

html_theme = "furo"
html_title = "minikfac"
html_baseurl = ""  # -D html_baseurl=https://.../ where the site has an address, which previews of links need
DESCRIPTION = (
    "Natural gradient, the Fisher matrix and K-FAC from scratch in NumPy, measured against the exact matrix."
)
html_static_path = ["_static"]
html_css_files = ["minikfac.css"]
html_favicon = "_static/favicon.svg"
html_show_sphinx = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "native"
copybutton_selector = "[class*=highlight-]:not([class*=ansi]):not(.output *) pre, .gallery pre"  # no output


def mathjax() -> Path | None:
    """Return one file of MathJax that loads nothing more, from a package of the extra `docs`."""
    spec = importlib.util.find_spec("mathjax")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "static" / "mathjax" / "es5" / "tex-svg-full.js"


if (mathjax_file := mathjax()) is None:
    raise RuntimeError("expected MathJax for formulas without a network: pip install 'minikfac[docs]'")
html_static_path.append(str(mathjax_file))
mathjax_path = mathjax_file.name
mathjax3_config = {"options": {"enableMenu": False}, "svg": {"fontCache": "global"}}


# notebooks -------------------------------------------------------------------------------------------------


def copy_notebooks(app: object) -> None:
    """Bring tutorials/ into this folder, with links that hold from there."""
    target = DOCS / "tutorials"
    notebooks = sorted((ROOT / "tutorials").glob("*.ipynb"))
    for old in set(target.glob("*.ipynb")) - {target / path.name for path in notebooks}:
        old.unlink()
    for path in notebooks:
        text = path.read_text(encoding="utf-8")
        text = text.replace("](../docs/", "](../").replace("](../minikfac/", "](../../minikfac/")
        text = text.replace("](../README.md", "](../index.md").replace("](../tests/", "](../../tests/")
        copy = target / path.name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
    for image in (ROOT / "tutorials").glob("images/*"):
        (target / "images").mkdir(exist_ok=True)
        shutil.copy(image, target / "images" / image.name)


def write_explorer(app: object) -> None:
    """Write the explorer's page beside the style, unless it is newer than all that it is made of."""
    page, kinds = DOCS / "_static" / "explorer.html", (".py", ".js", ".css", ".html")
    parts = [part for part in (ROOT / "minikfac").rglob("*") if part.suffix in kinds]
    if not page.exists() or page.stat().st_mtime < max(part.stat().st_mtime for part in parts):
        import_module("minikfac.explorer").write_example(page)


def write_gallery(app: object) -> None:
    """Draw every figure for the gallery, unless those that are there are newer than what they are made of."""
    if gallery.stale():
        gallery.write()


def add_to_page(app: Any, pagename: str, template: str, context: dict[str, Any], doctree: object) -> None:
    """A link to the notebook above what is shown of it, and what is shown where a link is sent on."""
    if pagename.startswith("tutorials/"):
        file = f"../_notebooks/{Path(pagename).name}.ipynb"
        link = f'<p class="download"><a href="{file}" download>Download this notebook</a></p>'
        context["body"] = link + context["body"]
    root = app.config.html_baseurl or "../" * pagename.count("/")
    tags = {
        "og:title": re.sub(r"<.*?>", "", context.get("title", project)),
        "og:type": "website",
        "og:description": DESCRIPTION,
        "og:image": f"{root}_static/gallery/social.png",
        "twitter:card": "summary_large_image",
    }
    lines = [f'<meta property="{key}" content="{escape(tag, quote=True)}">' for key, tag in tags.items()]
    context["metatags"] = "\n".join([context.get("metatags", ""), *lines])


def copy_files(app: Any, exception: Exception | None) -> None:
    """Put the notebooks beside the pages, to be downloaded."""
    target = Path(app.outdir) / "_notebooks"
    target.mkdir(exist_ok=True)
    for path in (ROOT / "tutorials").glob("*.ipynb"):
        shutil.copy(path, target / path.name)


# references ------------------------------------------------------------------------------------------------


def bibliography() -> dict[str, dict[str, str]]:
    """Entries of references.bib by key."""
    text = (DOCS / "references.bib").read_text(encoding="utf-8")
    entries = {}
    for kind, key, body in re.findall(r"^@(\w+)\{([^,\s]+),\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        fields = re.findall(
            r"^\s*(\w+)\s*=\s*\{(.*?)\},?\s*(?=^\s*\w+\s*=|\Z)", body, re.MULTILINE | re.DOTALL
        )
        entries[key] = {"kind": kind, **{name: plain(" ".join(value.split())) for name, value in fields}}
    return entries


ACCENTS = {
    r"\"o": "ö",
    r"\"u": "ü",
    r"\"a": "ä",
    r"\'e": "é",
    r"\'o": "ó",
    r"\'a": "á",
    r"\c{c}": "ç",
    r"\`e": "è",
}


def plain(text: str) -> str:
    """TeX as the file has it, to Unicode."""
    for tex, letter in ACCENTS.items():
        text = text.replace("{" + tex + "}", letter).replace(tex, letter)
    text = re.sub(r"\{\\['\"`^]\{?(\w)\}?\}", r"\1", text)
    text = re.sub(r"[{}]", "", text).replace("``", "“").replace("''", "”")
    return text.replace("--", "–").replace("~", " ")


def as_line(entry: dict[str, str]) -> str:
    """One entry as a sentence."""
    people = [" ".join(reversed(name.split(", "))) for name in entry.get("author", "").split(" and ")]
    people = ["and others" if name == "others" else name for name in people]
    names = ", ".join(people[:-1]) + " and " + people[-1] if len(people) > 1 else people[0]
    names = names.replace(" and and others", " and others")
    venue = (
        entry.get("journal") or entry.get("booktitle") or entry.get("publisher") or entry.get("institution")
    )
    where = [venue, entry.get("volume"), entry.get("pages")]
    parts = [names, f"*{entry['title']}*", ", ".join(part for part in where if part), entry["year"]]
    line = ". ".join(part for part in parts if part) + "."
    if "doi" in entry:
        line += f" [doi:{entry['doi']}](https://doi.org/{entry['doi']})"
    elif "eprint" in entry:
        line += f" [arXiv:{entry['eprint']}](https://arxiv.org/abs/{entry['eprint']})"
    elif "url" in entry:
        line += f" <{entry['url']}>"
    return line


def complete(app: object, docname: str, source: list[str]) -> None:
    """Add the entries of references.bib to their page, and to the index the pages that it does not name."""
    if docname == "index":
        named = set(re.findall(r"^(?:.* <)?([\w-]+)>?$", source[0], re.MULTILINE)) | {"index"}
        others = [page.stem for page in sorted(DOCS.glob("*.md")) if page.stem not in named]
        source[0] = source[0].replace("\n*\n", "\n" + "\n".join(others) + "\n")
    if docname.startswith("api/") and docname.removeprefix("api/") in MODULES:
        source[0] += constants("minikfac." + MODULES[docname.removeprefix("api/")])
    if docname == "tutorials" and not list((DOCS / "tutorials").glob("*.ipynb")):
        source[0] = source[0].split("```{toctree}")[0]  # an empty one would be a warning
    source[0] = re.sub(r"\[([^\]]+)\]\(([^)#\s:]+)(#[^)]*)?\)", partial(within, docname), source[0])
    if docname == "gallery":
        source[0] += gallery.page()
    if docname == "references":
        for key, entry in sorted(bibliography().items()):
            source[0] += f"\n({key.lower()})=\n**{key}**: {as_line(entry)}\n"


def constants(module: str) -> str:
    """What is public in a module but neither function nor class, with its explanation; autodoc misses it."""
    part = import_module(module)
    entries = ""
    for name in getattr(part, "__all__", ()):
        member = getattr(part, name)
        if not (inspect.isroutine(member) or inspect.isclass(member) or inspect.ismodule(member)):
            text = getattr(member, "task", "").split("\n")[0] or explained(
                Path(part.__file__ or "").parent, name
            )
            entries += f"\n.. py:data:: {name}\n   :module: {module}\n\n   {text}\n"
    return f"\n```{{eval-rst}}\n{entries}\n```\n" if entries else ""


def explained(folder: Path, name: str) -> str:
    """The docstring below the line that makes a constant, somewhere in a part of the package."""
    for path in folder.rglob("*.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for made, text in pairwise(body):
            target = made.target if isinstance(made, ast.AnnAssign) else getattr(made, "targets", [None])[0]
            if isinstance(target, ast.Name) and target.id == name and isinstance(text, ast.Expr):
                return " ".join(str(getattr(text.value, "value", "")).split())
    return ""


def always_read(app: object, env: object, added: object, changed: object, removed: object) -> list[str]:
    """Pages that list others are made anew each time."""
    return ["index", "tutorials", "references", "gallery"]


def within(docname: str, link: re.Match[str]) -> str:
    """Keep links to pages of this folder and to files; README.md is the index, and the rest has no page."""
    target = (DOCS / docname).parent / link[2]
    if target.resolve().parent == ROOT / "tutorials":  # copied into this folder
        return f"[{link[1]}]({'../' * docname.count('/')}tutorials/{target.name}{link[3] or ''})"
    if target.resolve().is_relative_to(DOCS) or (target.suffix != ".md" and not target.is_dir()):
        return link[0]
    if target.resolve() == ROOT / "README.md":
        return f"[{link[1]}]({'../' * docname.count('/')}index.md)"
    return link[1]


# what becomes a link ---------------------------------------------------------------------------------------

KEYS = re.compile(r"\b(" + "|".join(sorted(bibliography(), key=len, reverse=True)) + r")\b")


TUTORIAL = re.compile(r"((?:(?<=tutorial )|(?<=tutorials )|(?<=tutorials \d and ))\d+)\b")


class LinkWords(SphinxTransform):
    """In [MG15, sec. 4.3] the key leads to its entry; in "tutorial 4" the number to the notebook, if any."""

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        if self.env.docname == "references":
            return
        inside = (nodes.literal, nodes.literal_block, nodes.math, nodes.math_block, nodes.reference)
        inside = (*inside, nodes.title, addnodes.pending_xref, nodes.raw, addnodes.desc_signature)
        for text in list(self.document.findall(nodes.Text)):
            if not any(isinstance(node, inside) for node in ancestors(text)):
                pieces = [piece for run in linked(KEYS, text.astext(), self.entry) for piece in run]
                if len(pieces) > 1 or TUTORIAL.search(text.astext()):
                    text.parent.replace(text, [new for run in pieces for new in self.within(run)])

    def within(self, piece: nodes.Node) -> list[nodes.Node]:
        if not isinstance(piece, nodes.Text):
            return [piece]
        return [new for run in linked(TUTORIAL, piece.astext(), self.notebook) for new in run]

    def entry(self, key: str) -> nodes.Node:
        return self.xref(key, "ref", key.lower())

    def notebook(self, number: str) -> nodes.Node:
        for path in (DOCS / "tutorials").glob(f"{int(number):02d}-*.ipynb"):
            return self.xref(number, "doc", f"/tutorials/{path.stem}")
        return nodes.Text(number)

    def xref(self, text: str, kind: str, target: str) -> nodes.Node:
        return addnodes.pending_xref(
            text, nodes.inline(text, text), refdomain="std", reftype=kind, refexplicit=True, reftarget=target,
            refdoc=self.env.docname, refwarn=True,
        )  # fmt: skip


def linked(
    pattern: re.Pattern[str], text: str, link: Callable[[str], nodes.Node]
) -> Iterator[list[nodes.Node]]:
    """Cut text at what the pattern's one group matches, and make links of that."""
    for number, piece in enumerate(pattern.split(text)):
        if piece:
            yield [link(piece) if number % 2 else nodes.Text(piece)]


def ancestors(node: nodes.Node) -> list[nodes.Node]:
    nodes = []
    while node.parent is not None:
        node = node.parent
        nodes.append(node)
    return nodes


def public(name: str) -> str | None:
    """Full name of what a code span such as `fisher.kfac` names, if it is public."""
    name = name.removesuffix("()").removeprefix("mk.").removeprefix("minikfac.")
    page, _, rest = name.partition(".")
    if page not in MODULES or not rest:
        return None
    module = import_module("minikfac." + MODULES[page])
    first, *attributes = rest.split(".")
    if first not in getattr(module, "__all__", dir(module)):
        return None
    target = getattr(module, first, None)
    for attribute in attributes:
        target = getattr(target, attribute, None)
    return None if target is None or inspect.ismodule(target) else f"minikfac.{MODULES[page]}.{rest}"


MODULES = {
    page.stem: re.search(r"automodule:: minikfac\.(\S+)", page.read_text(encoding="utf-8"))[1]  # type: ignore[index]
    for page in (DOCS / "api").glob("*.md")
    if page.stem not in ("index", "minikfac")
}


class LinkNames(SphinxTransform):
    """Code spans that name a public object or a test lead to it."""

    default_priority = 410

    def apply(self, **kwargs: object) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            if any(isinstance(node, nodes.reference | addnodes.pending_xref) for node in ancestors(literal)):
                continue
            text = literal.astext()
            if match := re.fullmatch(r"([\w/]*test_\w+)\.py::(test_\w+)", text):
                short = nodes.literal(match[2], match[2], classes=["test"])
                where = "../" * self.env.docname.count("/") + f"_tests/{match[1]}.html#{match[2]}"
                literal.replace_self(nodes.reference("", "", short, refuri=where, internal=True))
            elif target := public(text) or public(f"{self.env.docname.removeprefix('api/')}.{text}"):
                xref = addnodes.pending_xref(
                    text, literal.deepcopy(), refdomain="py", reftype="obj", reftarget=target,
                    refdoc=self.env.docname, refwarn=False, refexplicit=True,
                )  # fmt: skip
                literal.replace_self(xref)


def pages_of_tests(app: object) -> list[tuple[str, dict[str, str], str]]:
    """Tests as pages to read, with an anchor at each."""
    made = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        code = path.read_text(encoding="utf-8")
        lines = {
            node.lineno: node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)
        }
        shown = highlight(code, PythonLexer(), HtmlFormatter(nowrap=True)).splitlines()
        body = "\n".join(
            f'<span id="{lines[number]}">{line}</span>' if number in lines else line
            for number, line in enumerate(shown, 1)
        )
        name = path.relative_to(ROOT / "tests").with_suffix("").as_posix()
        body = f"<h1>{name}.py</h1><div class='highlight'><pre>{body}</pre></div>"
        made.append((f"_tests/{name}", {"title": path.name, "body": body}, "page.html"))
    return made


def pages_of_chapters(app: object) -> list[tuple[str, dict[str, str], str]]:
    """The chapters that compute the figures of the gallery, as pages to read."""
    made = []
    for path in sorted((ROOT / "minikfac" / "tour" / "chapters").glob("*.py")):
        shown = highlight(path.read_text(encoding="utf-8"), PythonLexer(), HtmlFormatter())
        title = f"tour/chapters/{path.name}"
        made.append(
            (f"_chapters/{path.stem}", {"title": title, "body": f"<h1>{title}</h1>{shown}"}, "page.html")
        )
    return made


# docstrings ------------------------------------------------------------------------------------------------


def formulas(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Indented lines after a blank one are formulas and drawings: shown as they stand."""
    shown: list[str] = []
    margin = 0
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        before = [line for line in lines[:number] if line.strip()]
        if line.strip() and number and not lines[number - 1].strip() and before:
            last = before[-1]
            depth = len(last) - len(last.lstrip())
            listed = re.match(r"\s*([-*+]|\d+\.) ", last) or last.rstrip().endswith("::")
            if indent > depth + 1 and indent > margin and not listed and not line.lstrip().startswith(">>>"):
                shown += [" " * depth + "::", ""]
                margin = indent
        if line.strip() and indent < margin:
            margin = 0
        if not margin:
            line = line.replace("|", "\\|")  # |F| is no substitution
            # several arguments that are explained as one
            if names := re.match(r"(\s+)(\w+(?:, \w+)+)(: .*)", line):
                line = names[1] + names[2].replace(", ", ",") + names[3]
        shown.append(line)
    lines[:] = shown


def pictures(app: object, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Below the docstring of a figure's function, a figure that it drew."""
    if name.startswith("minikfac.plots."):
        function = name.removeprefix("minikfac.plots.")
        drawn = [figure for figure, entry in gallery.entries().items() if function in entry["functions"]]
        for figure in drawn[:1]:  # larger ones are in the gallery
            at = f"/_static/gallery/{figure}-small.png"
            lines += [
                "",
                f".. image:: {at}",
                f"   :alt: {function}",
                f"   :target: ../_static/gallery/{figure}.png",
                "",
            ]


def setup(app: object) -> None:
    app.connect("builder-inited", copy_notebooks)
    app.connect("builder-inited", write_gallery)
    app.connect("html-page-context", add_to_page)
    app.connect("build-finished", copy_files)
    app.connect("html-collect-pages", pages_of_chapters)
    app.connect("autodoc-process-docstring", pictures, priority=900)
    app.connect("builder-inited", write_explorer)
    app.connect("env-get-outdated", always_read)
    app.connect("source-read", complete)
    app.connect("html-collect-pages", pages_of_tests)
    app.connect("autodoc-process-docstring", formulas, priority=400)
    app.add_transform(LinkWords)
    app.add_transform(LinkNames)
