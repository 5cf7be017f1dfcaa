"""How the command line is read: which word is the command, the hint for a misspelt one, and shell completion."""

from __future__ import annotations

import difflib
import re

import click
from click.shell_completion import CompletionItem

from snapshot.cli.completion import complete_terms
from snapshot.cli.line import Session
from snapshot.config.selection import Term, TermKind

_NO_COMMAND = re.compile(r"all(?:,|\Z)|[^-].*[*?\[,:]|[*?\[]")
"""What no command's name looks like, and terms do; beside those that begin with a digit."""


def names_guests(word: str) -> bool:
    """Whether a line's first word names guests: ``100``, ``all``, ``web*``, ``tag:prod``, ``db1,db2``. A name alone
    may be a misspelt command; a run by mistake would be worse than a question.
    """
    return word[:1].isdigit() or _NO_COMMAND.match(word) is not None


def is_name(word: str) -> bool:
    """Whether a word may be a guest's name."""
    try:
        return Term.parse(word).kind is TermKind.NAME
    except ValueError:
        return False


class VmidFirstGroup(click.Group):
    """``safe-snapshot [options] 100`` means ``safe-snapshot take [options] 100``; a misspelt command gets a hint."""

    default_command = "take"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """The first word that is not an option of the group decides; an option is one of the default command."""
        position = self._skip_own_options(ctx, args)
        if args[position : position + 1] == ["help"]:  # as PVE's own tools have it
            args = [*args[:position], *args[position + 1 :], "--help"]
        elif position < len(args) and args[position].startswith("-") and args[position] not in ("-", "--"):
            args = [*args[:position], self.default_command, *args[position:]]
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """See click.Group."""
        word = args[0]
        if names_guests(word):
            args = [self.default_command, *args]
        elif self.get_command(ctx, word) is None and not ctx.resilient_parsing:
            near = difflib.get_close_matches(word, self.list_commands(ctx), n=1)
            expected = "a vmid (a number from 100) or a command is expected"
            by_name = f"; a guest of that name: `safe-snapshot {self.default_command} {word}`" if is_name(word) else ""
            hint = f"did you mean {near[0]!r}?" if near else f"{expected}{by_name}"
            ctx.fail(f"no such command {word!r}: {hint}")
        ctx.ensure_object(Session).command = args[0]
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options, those of the default command and its guests included."""
        found = super().shell_complete(ctx, incomplete)
        default = self.get_command(ctx, self.default_command)
        if names_guests(incomplete):
            found += complete_terms(ctx, click.Argument(["guests"]), incomplete)
        if default is not None and incomplete.startswith("-"):
            known = {item.value for item in found}
            with click.Context(default, parent=ctx, info_name=default.name) as inner:
                found += [i for i in click.Command.shell_complete(default, inner, incomplete) if i.value not in known]
        return found

    def _skip_own_options(self, ctx: click.Context, args: list[str]) -> int:
        own = {
            name: option for option in self.get_params(ctx) for name in option.opts if isinstance(option, click.Option)
        }
        position = 0
        while position < len(args):
            word = args[position]
            name, equals, _ = word.partition("=")
            letters = [f"-{letter}" for letter in word[1:]] if word[:1] == "-" != word[1:2] else []
            if name in own:
                takes_next = not own[name].is_flag and not own[name].count and not equals and name.startswith("--")
                position += 2 if takes_next else 1
            elif letters and all(letter in own and own[letter].is_flag for letter in letters):
                position += 1
            else:
                break
        return position
