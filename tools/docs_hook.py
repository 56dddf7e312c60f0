"""mkdocs hook: method cards and the command reference come from the code they describe.

Nothing is written into the source tree: cards are pages that exist during the build only.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

__all__ = ["on_config", "on_files", "on_page_markdown", "on_post_page"]

_COLUMNS_HERE = "<!-- the hook puts the table of columns here -->"
_ELSEWHERE = re.compile(r'<(?:script|img|iframe|source)[^>]+src="(?:https?:)?//', re.IGNORECASE)
_STYLE_ELSEWHERE = re.compile(r'<link[^>]+rel="(?:stylesheet|preconnect)"[^>]+href="(?:https?:)?//')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add every decision and every method card to the navigation."""
    from errata.methods import recipe_names

    folder = Path(config.docs_dir) / "decisions"
    assert config.nav is not None
    for section in config.nav:
        if "Decisions" in section:
            section["Decisions"] += [f"decisions/{p.name}" for p in sorted(folder.glob("0*.md"))]
        if "Methods" in section:
            section["Methods"] += [{name: f"methods/{name}.md"} for name in recipe_names()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make one page per recipe, from its card."""
    from errata.methods import card_named, recipe_names
    from errata.report.pipeline_figure import pipeline_figure

    for name in recipe_names():
        card = card_named(name)
        recipes = [phase.recipe for phase in card.phases()]
        parts = dict.fromkeys(part.kind for recipe in recipes for part in recipe.parts)
        losses = "`, then `".join(recipe.loss for recipe in recipes)
        facts = [
            f"# {name}",
            f"*{card.summary}*",
            f"**Parts:** {_listed(parts)}. "
            f"**Loss:** `{losses}`. **Needs:** {_listed(card.needs)}. "
            f"**Cost:** {_cost(card.cost)}.",
            pipeline_figure(card.pipeline) if card.pipeline else "",
            # The first line of a card is its summary.
            card.text.strip().partition("\n")[2].strip(),
        ]
        files.append(File.generated(config, f"methods/{name}.md", content="\n\n".join(facts)))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Fill the table of recipes, the command reference and the table of ledger columns."""
    if page.file.src_uri == "methods/index.md":
        return f"{markdown}\n\n{_recipe_table()}"
    if page.file.src_uri == "reference/cli.md":
        return f"{markdown}\n\n{_commands()}"
    if page.file.src_uri == "concepts/ledger.md":
        assert _COLUMNS_HERE in markdown
        return markdown.replace(_COLUMNS_HERE, _columns())
    return markdown


def on_post_page(output: str, *, page: Page, **_: Any) -> str:
    """Refuse a page that fetches anything from elsewhere.

    Raises:
        PluginError: The page names a script, style or picture of another host.
    """
    if _ELSEWHERE.search(output) or _STYLE_ELSEWHERE.search(output):
        raise PluginError(f"`{page.file.src_uri}` fetches something from another host")
    return output


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def _cost(cost: float | None) -> str:
    return "not measured yet" if cost is None else f"{cost:g} plain training passes"


def _recipe_table() -> str:
    from errata.methods import card_named, recipe_names
    from errata.methods.card import WAYS

    cards = [card_named(name) for name in recipe_names()]
    lines = []
    for way, heading in WAYS.items():
        lines += [f"## {heading}", "", "| recipe | what it does | needs | source |"]
        lines += ["|---|---|---|---|"]
        for card in (each for each in cards if each.way == way):
            needs = ", ".join(card.needs)
            link = f"[`{card.name}`]({card.name}.md)"
            lines.append(f"| {link} | {card.summary} | {needs} | {card.source} |")
        lines.append("")
    return "\n".join(lines)


def _columns() -> str:
    from errata.ledger import VOCABULARY

    lines = ["| column | unit | rule | meaning |", "|---|---|---|---|"]
    for name, term in VOCABULARY.items():
        shape = " per class" if term.per_class else ""
        lines.append(f"| `{name}` | {term.unit}{shape} | {term.column.rule} | {term.meaning} |")
    return "\n".join(lines)


def _commands() -> str:
    import typer.main

    from errata.cli.app import app

    group: Any = typer.main.get_command(app)
    sections = []
    for name, command in sorted(_leaves(group, "errata")):
        if not command.help:
            raise PluginError(f"`{name}` has no help")
        sections.append(f"## {name}\n\n{_plain(command.help)}\n\n{_flags(name, command)}")
    return "\n\n".join(sections)


def _leaves(command: Any, name: str) -> list[tuple[str, Any]]:
    if not hasattr(command, "commands"):
        return [(name, command)]
    found = []
    for each, inner in command.commands.items():
        found += _leaves(inner, f"{name} {each}")
    return found


def _flags(name: str, command: Any) -> str:
    lines = ["| argument or flag | meaning | default |", "|---|---|---|"]
    for param in command.params:
        if param.name == "help" or getattr(param, "hidden", False):
            continue
        is_flag = param.param_type_name == "option"
        shown = ", ".join(param.opts) if is_flag else (param.metavar or param.name.upper())
        if is_flag and param.metavar:
            shown += f" {param.metavar}"
        meaning = (getattr(param, "help", "") or "").replace("|", "\\|")
        if not meaning:
            raise PluginError(f"`{name}`: `{shown}` has no help")
        default = param.default
        has_default = default not in (None, (), [], "", False) and not callable(default)
        lines.append(f"| `{shown}` | {meaning} | {f'`{default}`' if has_default else ''} |")
    return "\n".join(lines)


def _plain(text: str) -> str:
    return text.replace("\b", "").strip()
