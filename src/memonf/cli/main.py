"""Finds the verb, runs it, and turns errors into one line and an exit status.

Each verb is one module here with a ``run(args)``; only the chosen one is imported, so ``--help``
does not wait for torch.

Exit status: 0 done, 1 failure, 2 the user's mistake, 130 interrupted.
"""

from __future__ import annotations

import importlib
import keyword
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from .._version import __version__
from ..errors import InputError, MemonfError, nearest
from ..utils.interrupts import watched
from ..utils.malloc import keep_freed_memory
from .terminal import guarded, say, say_text

__all__ = ["main", "module_of"]

VERBS = {
    "demo": "run the whole experiment on an embedded scene and show it",
    "train": "train a field on the views of a group: front, rear, all, ...",
    "merge": "merge fields of one scene into one field of the same size, without images",
    "eval": "score a field on held-out views",
    "import": "take over a NeRF checkpoint that was trained elsewhere, without running its code",
    "export": "write a mesh, points, a grid, ONNX, cameras or rendered views of a field",
    "fit": "train a signed distance, occupancy or picture field on a part of it",
    "score": "score and draw such a field, or a merge of them",
    "render": "make a turntable film or a picture of a field",
    "compare": "train parents, merge them by every method, score and show all of it",
    "view": "turn fields and their merges around on a page in the browser",
    "inspect": "print what a field file holds",
    "data": "print and draw what a data set holds, or write parts of it",
    "scenes": "list the embedded scenes",
    "doctor": "print machine, versions, extras and devices, and what is slow about them",
    "completion": "print a script that completes verbs and flags in bash, zsh or fish",
    "bench": "measure the project beside what people use instead",
}

HELP = """\
usage: memonf VERB [options]

Merge neural fields: several radiance fields of one scene into one of the same
size, without images.

{verbs}

A first picture, from nothing:
  memonf demo --out demo

Step by step:
  memonf train --data embedded:robot --group front --seed 1 --out front.safetensors
  memonf train --data embedded:robot --group rear  --seed 2 --out rear.safetensors
  memonf merge front.safetensors rear.safetensors --out merged.safetensors
  memonf eval merged.safetensors --data embedded:robot
  memonf render merged.safetensors --turntable --out merged.gif

`memonf VERB --help` shows the options of a verb, with examples.
"""


#: What a newcomer sees; the times were measured on two cores.
START = """\
MeMo NF merges neural fields of one scene into one of the same size, without
images.

A first picture, in about half a minute:
  memonf train --data embedded:robot --steps 60 --out first.safetensors
  memonf render first.safetensors --out first.png

Two fields merged, each of which saw one side of the scene:
  memonf demo --out demo            # some minutes; then open the page it names

{here}Your own pictures: `memonf data inspect FOLDER` says what is found in them.
All verbs: `memonf --help`. Is this machine fast? `memonf doctor`
"""

#: What to do with the field files of this folder.
ONE_HERE = """\
In this folder lies {first}:
  memonf render {first} --out picture.png
  memonf inspect {first}

"""
SOME_HERE = """\
In this folder lie field files, {count} of them:
  memonf merge {first} {second} --out merged.safetensors
  memonf render {first} --out picture.png

"""


def first_steps() -> str:
    """What to type first, also with the field files of the current folder."""
    found = [shlex.quote(path.name) for path in sorted(Path().glob("*.safetensors"))]
    here = ""
    if len(found) == 1:
        here = ONE_HERE.format(first=found[0])
    elif found:
        here = SOME_HERE.format(count=len(found), first=found[0], second=found[1])
    return START.format(here=here)


def module_of(verb: str) -> str:
    """Name of a verb's module: words of the language cannot be one."""
    return f"{verb}_" if keyword.iskeyword(verb) else verb


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    with guarded():
        try:
            run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()  # what cannot be printed has to be an error, not a remark at the end
        except MemonfError as error:
            say(f"memonf: error: {error}", error=True)
            return error.exit_status
        except KeyboardInterrupt as error:
            say(f"memonf: interrupted{f'; {error}' if str(error) else ''}", error=True)
            return 130
    return 0


def run(args: Sequence[str]) -> None:
    """Do what the arguments say."""
    if not args:
        say_text(first_steps())
    elif args[0] in ("-h", "--help", "help"):
        width = max(map(len, VERBS))
        say_text(HELP.format(verbs="\n".join(f"  {v:<{width}}  {t}" for v, t in VERBS.items())))
    elif args[0] in ("-V", "--version"):
        say(f"memonf {__version__}")
    else:
        keep_freed_memory()
        if args[0] not in VERBS:
            raise InputError(
                f"unknown verb `{args[0]}`: {nearest(args[0], VERBS)}; `memonf --help` says more"
            )
        run_verb(args[0], args[1:])


def run_verb(verb: str, args: Sequence[str]) -> None:
    """Run a verb: signals end it within seconds, and it takes no more memory than there is."""
    with watched():
        module = importlib.import_module(f".{module_of(verb)}", __package__)
        from ..utils.devices import within_memory  # heavy: torch

        with within_memory():
            module.run(args)
