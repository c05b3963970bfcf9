"""Completion scripts for bash, zsh and fish that know words such as ``model=yolo11n+mhsa@P5``.

Bash cuts a line into words at ``=``, ``@`` and ``:`` too, so the whole line is read, and what stands before the last of
them is left out of the answer. Bash and zsh may put no blank after what goes on; fish sees that by itself.
"""

from __future__ import annotations

import os
import re
from typing import ClassVar

from click.shell_completion import BashComplete, FishComplete, ZshComplete, add_completion_class, split_arg_string

from attngraft.cli.completion import Item

GOES_ON = ("=", "/", ",", "@", "+", "(")

BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' response type value
    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \
        ATTNGRAFT_LINE="${COMP_LINE:0:COMP_POINT}" ATTNGRAFT_BREAKS="$COMP_WORDBREAKS" \
        %(complete_var)s=bash_complete "$1")
    COMPREPLY=()
    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        COMPREPLY+=("$value")
        [[ $type == open ]] && compopt -o nospace 2>/dev/null
    done
    return 0
}
complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null || complete -F %(complete_func)s %(prog_name)s
"""

ZSH = r"""
#compdef %(prog_name)s
%(complete_func)s() {
    local -a response closed opened shown_closed shown_opened
    (( ! $+commands[%(prog_name)s] )) && return 1
    response=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
        %(complete_var)s=zsh_complete %(prog_name)s)}")
    for type key descr in ${response}; do
        [[ "$descr" == "_" ]] && descr="" || descr=" -- $descr"
        if [[ "$type" == "open" ]]; then
            opened+=("$key"); shown_opened+=("$key$descr")
        else
            closed+=("$key"); shown_closed+=("$key$descr")
        fi
    done
    (( $#closed )) && compadd -U -Q -l -V attngraft -d shown_closed -a closed
    (( $#opened )) && compadd -U -Q -l -V attngraft -S '' -d shown_opened -a opened
    return 0
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

FISH = r"""
function %(complete_func)s
    for completion in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \
        COMP_CWORD=(commandline -ct | string collect) %(prog_name)s)
        echo $completion
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def is_open(item: Item) -> bool:
    """Tell whether a word goes on after what was completed."""
    return item.type == "open" or item.value.endswith(GOES_ON)


class Bash(BashComplete):
    """Bash, whose words are not ours."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = BASH
    _left_out: int = 0

    @staticmethod
    def _check_version() -> None:
        """Let any version have the script: it does without what old ones lack."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor, and the one under it, as the command will get them."""
        line = os.environ.get("ATTNGRAFT_LINE")
        if not line:
            return super().get_completion_args()
        found = split_arg_string(line)
        while found and re.fullmatch(r"\w+=.*", found[0]):  # FOO=1 attngraft ...
            found.pop(0)
        incomplete = "" if line[-1].isspace() and not _in_quotes(line) else found.pop()
        self._left_out = len(_before_break(line, incomplete))
        return found[1:], incomplete

    def format_completion(self, item: Item) -> str:
        """Write a line of the answer: the part that replaces what bash takes for the word."""
        if not os.environ.get("ATTNGRAFT_LINE"):
            return f"plain,{item.value}"
        value = _quoted(item, item.value[self._left_out :], os.environ["ATTNGRAFT_LINE"])
        return f"{'open' if is_open(item) else 'plain'},{value}"


class Zsh(ZshComplete):
    """Zsh, which puts a blank after every word unless it is told not to."""

    name: ClassVar[str] = "zsh"
    source_template: ClassVar[str] = ZSH

    def format_completion(self, item: Item) -> str:
        """Write the three lines of an answer."""
        kind = "open" if is_open(item) else "plain"
        value = _quoted(item, item.value, os.environ.get("COMP_WORDS", ""))
        return f"{kind}\n{value}\n{item.help or '_'}"


class Fish(FishComplete):
    """Fish, whose answers may hold commas."""

    name: ClassVar[str] = "fish"
    source_template: ClassVar[str] = FISH

    def format_completion(self, item: Item) -> str:
        """Write the line of an answer."""
        return f"{item.value}\t{item.help}" if item.help else item.value


def _quoted(item: Item, value: str, line: str) -> str:
    """Write a value as it stands on a command line: what the name of a file holds may mean something to a shell.

    Args:
        item: What is completed; of paths alone, as recipes stand in quotes that are typed.
        value: What of it is written.
        line: What is typed before.
    """
    quote = _in_quotes(line)
    if item.type != "path":
        return value
    if quote == "'":
        return value.replace("'", "'\\''")
    return re.sub(r'(["$`\\])' if quote else r"""([\s\\'"$`&;|<>()\[\]{}*?!#])""", r"\\\1", value)


def _in_quotes(line: str) -> str:
    """Return the quote that is open at the end of a line, if one is."""
    quote = ""
    for sign in re.sub(r"\\.", "", line):
        if sign in "'\"":
            quote = sign if not quote else "" if sign == quote else quote
    return quote


def _before_break(line: str, incomplete: str) -> str:
    """Return the part of a word that bash takes for words before it; @ begins a word, the other breaks end one."""
    quote = _in_quotes(line)
    if quote:  # bash takes what is quoted for one word
        inside = line.rpartition(quote)[2]
        return incomplete[: len(incomplete) - len(inside)]
    breaks = set(os.environ.get("ATTNGRAFT_BREAKS", "")) - set(" \t\n\"'")
    last = max((place for place, sign in enumerate(incomplete) if sign in breaks), default=-1)
    return incomplete[:last] if incomplete[last : last + 1] == "@" else incomplete[: last + 1]


add_completion_class(Bash)
add_completion_class(Zsh)
add_completion_class(Fish)
