"""``memonf completion``: prints what a shell needs to complete verbs, flags and values.

All is gathered when the script is printed, so that nothing of MeMo NF runs at a press of TAB.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from ..data import embedded_scenes
from ..fields import FIELDS
from ..merging import METHODS
from .data_options import radiance_fields
from .main import VERBS
from .options import Switch, described, parse
from .terminal import say_text

__all__ = ["run"]

EXAMPLES = """\
  memonf completion bash > ~/.local/share/bash-completion/completions/memonf
  memonf completion zsh > ~/.zfunc/_memonf        # a folder of $fpath
  memonf completion fish > ~/.config/fish/completions/memonf.fish
  eval "$(memonf completion bash)"                # in this shell only\
"""

#: Options on which the other options of a verb depend.
DEPENDENT: dict[str, tuple[str, Iterable[str]]] = {
    "merge": ("--method", METHODS),
    "train": ("--field", radiance_fields()),
    "compare": ("--field", radiance_fields()),
}

BASH = """\
_memonf() {{
  local line="${{COMP_LINE:0:COMP_POINT}}" words choices="" IFS=$' \\t\\n'
  read -ra words <<< "$line"
  [[ "$line" == *[[:space:]] ]] && words+=("")
  local last=$(( ${{#words[@]}} - 1 ))
  local verb="${{words[1]}}" cur="${{words[last]}}" prev="${{words[last-1]}}"
  if (( last == 1 )); then
    choices={verbs}
  else
    case "$verb $prev" in
{values}
    esac
    if [[ -z "$choices" && "$cur" == -* ]]; then
      case "$verb" in
{flags}
      esac
    fi
  fi
  COMPREPLY=($(compgen -W "$choices" -- "$cur"))
  if (( last > 1 && ${{#COMPREPLY[@]}} == 0 )) && [[ "$cur" != -* ]]; then
    IFS=$'\\n'
    COMPREPLY=($(compgen -f -- "$cur"))
    compopt -o filenames 2>/dev/null
  elif [[ "$cur" == *:* && "$COMP_WORDBREAKS" == *:* ]]; then
    COMPREPLY=("${{COMPREPLY[@]#"${{cur%:*}}:"}}")
  fi
}}
complete -F _memonf memonf\
"""

ZSH = """\
#compdef memonf
_memonf() {{
  if (( CURRENT == 2 )); then
    compadd -- {verbs}
    return
  fi
  case "$words[2] $words[CURRENT-1]" in
{values}
  esac
  if [[ "$words[CURRENT]" == -* ]]; then
    case "$words[2]" in
{flags}
    esac
  else
    _files
  fi
}}
compdef _memonf memonf\
"""


@dataclass(frozen=True, kw_only=True)
class Completion:
    """Print a script that completes verbs, their flags and known values in a shell.

    Attributes:
        shell: The shell.
        quiet: Accepted by every verb.
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    quiet: Switch = False


def run(args: Sequence[str]) -> None:
    """Run the verb."""
    options = parse(Completion, "completion", args, EXAMPLES)
    verbs = {verb: verb_flags(verb) for verb in VERBS}
    say_text({"bash": bash, "zsh": zsh, "fish": fish}[options.shell](verbs))


def verb_flags(verb: str) -> dict[str, list[str]]:
    """Flag -> values that can be named beforehand, for all a verb can be asked."""
    if verb == "bench":  # reads its arguments in the repository, where there is one
        return {}
    flag, names = DEPENDENT.get(verb, ("", ()))
    found: dict[str, list[str]] = {}
    for args in [[], *([flag, name] for name in names)]:
        for action in described(verb, args).actions:
            for option in action.option_strings:
                if option.startswith("--") and "tyro" not in option:
                    found[option] = known_values(verb, option, action.choices)
    return found


def known_values(verb: str, flag: str, choices: Iterable[object] | None) -> list[str]:
    """Values of a flag: its own choices, or what the project has by that name."""
    scenes = embedded_scenes()
    known = {
        "--method": list(METHODS),
        "--methods": list(METHODS),
        "--field": list(FIELDS),
        "--student": list(FIELDS),
        "--group": ["all", "front", "rear", "left", "right"],
        "--groups": ["front", "rear", "left", "right"],
        "--device": ["auto", "cpu", "cuda", "mps"],
        "--data": [f"embedded:{name}" for name in scenes],
        "--scene": list(scenes),
    }
    return [str(choice) for choice in choices] if choices else known.get(flag, [])


def cases(verbs: dict[str, dict[str, list[str]]], values: str, flags: str) -> dict[str, str]:
    """The branches of a shell's `case`: values of flags, and flags of verbs."""
    of_flags = [
        f"    {shlex.quote(f'{verb} {flag}')}) {values.format(words=' '.join(known))} ;;"
        for verb, listed in verbs.items()
        for flag, known in listed.items()
        if known
    ]
    of_verbs = [
        f"      {verb}) {flags.format(words=' '.join(listed))} ;;"
        for verb, listed in verbs.items()
        if listed
    ]
    return {"values": "\n".join(of_flags), "flags": "\n".join(of_verbs)}


def bash(verbs: dict[str, dict[str, list[str]]]) -> str:
    """The script for bash."""
    choose = 'choices="{words}"'
    return BASH.format(verbs=shlex.quote(" ".join(verbs)), **cases(verbs, choose, choose))


def zsh(verbs: dict[str, dict[str, list[str]]]) -> str:
    """The script for zsh; a scene's name may also be a path."""
    return ZSH.format(
        verbs=" ".join(verbs),
        **cases(verbs, "compadd -- {words}; _files; return", "compadd -- {words}"),
    )


def fish(verbs: dict[str, dict[str, list[str]]]) -> str:
    """The script for fish."""
    lines = [
        f"complete -c memonf -n __fish_use_subcommand -f -a {verb} -d {shlex.quote(VERBS[verb])}"
        for verb in verbs
    ]
    for verb, listed in verbs.items():
        for flag, known in listed.items():
            words = f" -r -a {shlex.quote(' '.join(known))}" if known else ""
            lines.append(
                f"complete -c memonf -n '__fish_seen_subcommand_from {verb}' -l {flag[2:]}{words}"
            )
    return "\n".join(lines)
