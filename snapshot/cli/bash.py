"""Bash breaks words at colons: ``tag:prod`` is three of them to it, and only the last is replaced. The whole line is
read here as the shell will read it, and a completion is given from behind its last colon, as bash wants it.
"""

from __future__ import annotations

import os

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

_SCRIPT = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value breaks=$COMP_WORDBREAKS
    [[ ${COMP_WORDS[COMP_CWORD]} == [\\"\\']* ]] && breaks=  # in quotes bash breaks nothing
    COMPREPLY=()
    for completion in $(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$breaks" \\
        %(complete_var)s=bash_complete "$1"); do
        IFS=',' read -r type value <<< "$completion"
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class BashByLine(BashComplete):
    """click's, but for the words: by the line up to the cursor, where the script gives it."""

    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """See click."""
        line = os.environ.get("COMP_LINE")
        if line is None:  # a script of an earlier version, in a shell that was open before
            return super().get_completion_args()
        words = split_arg_string(line)
        incomplete = "" if line[-1:].isspace() or len(words) < 2 else words.pop()
        return words[1:], incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """See click."""
        found = super().get_completions(args, incomplete)
        value = incomplete.partition("=")[2] if incomplete.startswith("-") and "=" in incomplete else incomplete
        before = value[: value.rfind(":") + 1]
        if before and ":" in os.environ.get("COMP_WORDBREAKS", ""):
            for item in found:
                item.value = item.value.removeprefix(before)
        return found


def offer() -> None:
    """Bash gets this script, and is answered so."""
    add_completion_class(BashByLine)
