"""Help pages and explanations of bad usage, the same whatever version of typer is installed."""

from __future__ import annotations

import difflib
import re
import shutil
import textwrap
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from errata.errors import SettingsError

__all__ = ["Command", "Group", "NoCommandError", "UsageError", "explain_usage"]

# Typer brings its own click since 0.22 and took it from outside before; the base of this class is
# the usage error of either.
UsageError: type[Any] = typer.BadParameter.__bases__[0]

_OTHER = "Everywhere"
_NAMES = 24


class NoCommandError(Exception):
    """No command was given; the text is the help."""


class Command(TyperCommand):
    """A command with a plain help page, its flags under the titles of their groups."""

    def get_help(self, ctx: Any) -> str:
        """Write the help page."""
        arguments = [p.metavar for p in self.params if p.param_type_name == "argument"]
        usage = " ".join([ctx.command_path, *map(str, arguments), "[OPTIONS]"])
        parts = [f"usage: {usage}", _indented(self.help or ""), *_sections(self.get_params(ctx))]
        notes = self.notes()
        if notes:
            parts.append("\n\n".join(_filled(text) for text in notes.split("\n\n")))
        return "\n\n".join(parts)

    def notes(self) -> str:
        """Give what stands at the end of the help page."""
        return ""


class Group(TyperGroup):
    """A group of commands that knows what a mistyped one should have been."""

    def get_help(self, ctx: Any) -> str:
        """Write the help page."""
        names = self.list_commands(ctx)
        entries = [(name, _first_line(self.commands[name].help or "")) for name in names]
        return "\n\n".join(
            [
                f"usage: {ctx.command_path} COMMAND ...",
                _indented(self.help or ""),
                _entries("Commands", entries),
                *_sections(self.get_params(ctx)),
                f"{ctx.command_path} COMMAND --help shows a command with an example.",
            ]
        )

    def list_commands(self, ctx: Any) -> list[str]:
        """List the commands in the order in which people need them."""
        return list(self.commands)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where no command is given."""
        if not args and not ctx.resilient_parsing:
            raise NoCommandError(self.get_help(ctx))
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command, or the nearest to a mistyped one.

        Raises:
            SettingsError: No command has this name.
        """
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            allowed = self.list_commands(ctx)
            raise SettingsError(
                f"command `{ctx.command_path} {name}` is unknown; allowed: {', '.join(allowed)}",
                hint=_nearest(name, allowed) or f"`{ctx.command_path} --help` describes them",
            )
        return super().resolve_command(ctx, args)


def explain_usage(error: Any, arguments: list[str]) -> tuple[str, str]:
    """Say what is wrong with a command line, and what to do about it.

    Args:
        error: A usage error of typer.
        arguments: The command line.
    """
    path = error.ctx.command_path if error.ctx is not None else " ".join(["errata", *arguments[:1]])
    see = f"`{path} --help` shows what is allowed"
    match type(error).__name__:
        case "NoSuchOption" if error.ctx is not None:
            params = error.ctx.command.get_params(error.ctx)
            near = _nearest(error.option_name, [name for param in params for name in param.opts])
            return f"option `{error.option_name}` is unknown to `{path}`", near or see
        case "MissingParameter" if error.param is not None:
            example = _example(error.ctx.command.help or "")
            return f"`{_shown(error.param)}` is missing", f"for example `{example}`"
        case "BadParameter" if error.param is not None:
            value = _value_of(error.param, arguments)
            why = _sentence(error.message).partition(", ")[0]
            return (
                f"`{error.param.opts[0]}` is `{value}`: {why}",
                f"`{_shown(error.param)}`: {error.param.help}",
            )
        case _:
            return _sentence(error.format_message()), see


def _shown(param: Any) -> str:
    is_flag = param.param_type_name == "option"
    return f"{param.opts[0]} {param.metavar}" if is_flag else str(param.metavar)


def _value_of(param: Any, arguments: list[str]) -> str:
    """Find the value of a flag on the command line; the last one counts."""
    found = ""
    for place, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        if name in param.opts:
            found = value if equals else "".join(arguments[place + 1 : place + 2])
    return found


def _sentence(text: str) -> str:
    text = re.sub(r"'([^']*)'", r"`\1`", text.strip().rstrip("."))
    return text[:1].lower() + text[1:]


def _nearest(name: str, allowed: list[str]) -> str:
    near = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


def _example(text: str) -> str:
    lines = [line.strip() for line in text.partition("For example:")[2].splitlines()]
    return next((line for line in lines if line), "")


def _sections(params: list[Any]) -> list[str]:
    """Write arguments, then flags by group, in the order in which they are declared."""
    found: dict[str, list[tuple[str, str]]] = {}
    for param in params:
        if getattr(param, "hidden", False):
            continue
        if param.param_type_name == "argument":
            found.setdefault("Arguments", []).append((str(param.metavar), param.help or ""))
            continue
        title = getattr(param, "rich_help_panel", None) or _OTHER
        takes = "" if param.is_flag else f" {param.metavar}"
        found.setdefault(title, []).append((", ".join(param.opts) + takes, _with_default(param)))
    if _OTHER in found:
        found[_OTHER] = found.pop(_OTHER)
    return [_entries(title, entries) for title, entries in found.items()]


def _with_default(param: Any) -> str:
    text = param.help or ""
    if param.required:
        return f"{text} [required]"
    if param.is_flag or param.default in (None, ()):
        return str(text)
    return f"{text} [default: {param.default}]"


def _entries(title: str, entries: list[tuple[str, str]]) -> str:
    """Lay out names and what they mean, names at the left."""
    wide = min(_NAMES, max(len(name) for name, _ in entries)) + 4
    lines = [f"{title}:"]
    for name, text in entries:
        body = textwrap.wrap(
            text,
            max(20, _width() - wide),
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
        head = f"  {name}"
        if len(head) > wide - 2:
            lines.append(head)
        else:
            body[0] = head.ljust(wide) + body[0]
        first = 1 if body[0].startswith(head) else 0
        lines += [line if place < first else " " * wide + line for place, line in enumerate(body)]
    return "\n".join(lines)


def _indented(text: str) -> str:
    """Fill the paragraphs of a docstring; lines that are indented stay as they are."""
    blocks = []
    for block in text.split("\n\n"):
        kept = block.startswith(" ")
        blocks.append(textwrap.indent(block, "  ") if kept else _filled(block, indent="  "))
    return "\n\n".join(blocks)


def _filled(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        _width(),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _width() -> int:
    return max(40, min(96, shutil.get_terminal_size().columns))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0].rstrip(".")
