"""hpe-lite {infer, export, eval, train, bench, models, inspect}: parse, load the configuration, call one function.

Exit status: 0 all well, 1 the run ended but some items failed, 2 misuse (one sentence on stderr, no traceback), 130
interrupted.
"""

import dataclasses
import difflib
import json
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

from lite import __version__
from lite.errors import ConfigError, HpeLiteError


class Command(NamedTuple):
    """One subcommand.

    Attributes:
        summary: its line in the overview.
        config: "module:dataclass" whose fields are its flags.
        run: "module:function" that takes the dataclass and returns the exit status. Both are imported only when the
            command is used, so that every `--help` stays quick.
        positional: fields that may be given as leading bare words.
    """

    summary: str
    config: str
    run: str
    positional: tuple[str, ...] = ()


COMMANDS: dict[str, Command] = {
    "infer": Command(
        "find people in pictures and write their keypoints, labels or classes",
        "lite.config:InferConfig",
        "lite.engine.run:infer",
    ),
    "export": Command("turn a network into a proven artifact", "export.config:ExportConfig", "export.pipeline:export"),
    "eval": Command(
        "score a model or results on annotated pictures",
        "lite.evaluate.config:EvalConfig",
        "lite.engine.score:evaluate",
    ),
    "train": Command("train a network from a recipe", "lite.train.config:TrainConfig", "lite.train.fit:train"),
    "bench": Command(
        "measure each stage and the end-to-end rate", "lite.config:BenchConfig", "lite.engine.bench:bench"
    ),
    "bench model": Command(
        "measure one network's rate as a share of the machine's matrix rate",
        "lite.config:BenchModelConfig",
        "lite.engine.bench_model:bench_model",
    ),
    "models": Command(
        "list the models that can be named", "lite.config:ModelsConfig", "lite.models.listing:list_models"
    ),
    "models download": Command(
        "fetch the published weights of a model and check them",
        "lite.models.download_config:DownloadConfig",
        "lite.models.download:download",
        ("name",),
    ),
    "models verify": Command(
        "check the weights of a model that are on this machine",
        "lite.models.download_config:VerifyConfig",
        "lite.models.download:verify",
        ("name",),
    ),
    "split": Command(
        "write one file for each data set of a network for several",
        "lite.models.split_config:SplitConfig",
        "lite.models.split:split_command",
        ("checkpoint",),
    ),
    "inspect": Command(
        "say what a checkpoint or artifact is", "lite.config:InspectConfig", "lite.models.listing:inspect", ("file",)
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: words after the program's name; `sys.argv` when None.

    Returns:
        The exit status.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(sys.stdout, "reconfigure"):  # a file name that the terminal cannot show is escaped, not a fault
        sys.stdout.reconfigure(errors="backslashreplace")
    if not words or words[0] in ("-h", "--help"):
        print(_overview())
        return 0 if words else 2
    if words[0] == "--version":
        print(f"hpe-lite {__version__}")
        return 0
    length = 2 if " ".join(words[:2]) in COMMANDS else 1
    name, rest = " ".join(words[:length]), words[length:]
    try:
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
            raise ConfigError(f"unknown command {name!r}; {hint}")
        command = COMMANDS[name]
        config = build_config(name, command, rest)
        return _load(command.run)(config)
    except HpeLiteError as problem:
        print(f"hpe-lite {name}: {problem}" if name in COMMANDS else f"hpe-lite: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"hpe-lite {name}: interrupted; finished results are kept", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as in `hpe-lite models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def build_config(name: str, command: Command, words: Sequence[str]) -> Any:
    """The command's dataclass filled from flags and YAML.

    Raises:
        ConfigError: an unknown flag, or a value that does not fit, as one sentence.
    """
    from argparse import ArgumentError

    from jsonargparse import ArgumentParser, set_parsing_settings

    config_class = _load(command.config)
    # YAML is data only: no value may name something to import, but for the settings' own dataclasses.
    own = [config_class.__module__]
    set_parsing_settings(instantiate_subclass_spec_in_any=False, import_path_denylist=["*"], import_path_allowlist=own)
    parser = ArgumentParser(prog=f"hpe-lite {name}", description=command.summary, exit_on_error=False)
    parser.add_argument("--config", action="config", help="YAML file with values for any of these flags")
    parser.add_class_arguments(config_class, as_group=False)
    words = _spell(command, config_class, words)
    if "--help" in words or "-h" in words:
        print(re.sub(r"--[a-z_.+]+", lambda flag: flag[0].replace("_", "-"), parser.format_help()), end="")
        raise SystemExit(0)
    try:
        values = dict(vars(parser.instantiate(parser.parse_args(words))))
        values.pop("config", None)
        return config_class(**values)
    except HpeLiteError:
        raise
    except (ArgumentError, TypeError, ValueError) as problem:
        cause = _cause(problem)
        raise cause or ConfigError(_one_sentence(name, str(problem), parser)) from None


def _load(reference: str) -> Any:
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {command.summary}" for name, command in COMMANDS.items())
    return (
        "usage: hpe-lite [--version] COMMAND [flags]\n\nHuman-pose models from checkpoint to proven deployment.\n\n"
        f"{rows}\n\nhpe-lite COMMAND --help lists the flags; every command also takes --config FILE.yaml."
    )


def _spell(command: Command, config_class: type, words: Sequence[str]) -> list[str]:
    """Rewrite what people type into what the parser reads.

    `--kpt-thr` is `--kpt_thr`; a yes/no flag may stand alone or as `--no-flag`; a flag that takes several values takes
    the words up to the next flag, as the shell expands them, and may be given several times; leading bare words are
    the command's positional fields.
    """
    kinds = {field.name: str(field.type) for field in dataclasses.fields(config_class)}
    waiting = list(words)
    spelt: list[str] = []
    lists: dict[str, list[str]] = {}
    for field in command.positional:
        if waiting and not waiting[0].startswith("-"):
            spelt += [f"--{field}", waiting.pop(0)]
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("--"):
            spelt.append(word)
            continue
        flag, equals, value = word.partition("=")
        key = flag[2:].replace("-", "_")
        if key.startswith("no_") and "bool" in kinds.get(key[3:], "") and not equals:
            spelt.append(f"--{key[3:]}=false")
        elif "bool" in kinds.get(key, "") and not equals and not _is_truth(waiting[:1]):
            spelt.append(f"--{key}=true")
        elif "list[" in kinds.get(key, ""):
            several = lists.setdefault(key, [])
            several += [value] if equals else []
            while not equals and waiting and not waiting[0].startswith("--"):
                several.append(waiting.pop(0))
        else:
            spelt.append(f"--{key}{equals}{value}")
    for key, several in lists.items():
        spelt.append(f"--{key}={json.dumps(several) if len(several) != 1 else several[0]}")
    return spelt


def _is_truth(words: list[str]) -> bool:
    return bool(words) and words[0].lower() in ("true", "false", "yes", "no")


def _cause(problem: BaseException | None) -> HpeLiteError | None:
    """The error a dataclass raised about its own values, from under the parser's."""
    while problem is not None and not isinstance(problem, HpeLiteError):
        problem = problem.__cause__ or problem.__context__
    return problem


def _one_sentence(name: str, message: str, parser: Any) -> str:
    """Shorten what the parser says, and add the nearest flag to a misspelt one."""
    text = " ".join(line.strip() for line in message.splitlines() if line.strip())
    unknown = re.search(r"unrecognized arguments: (\S+)", text) or re.search(r"[Kk]ey [\"']([\w.]+)[\"'] is not", text)
    if unknown:
        word = unknown[1].split("=")[0]
        flags = [option for action in parser._actions for option in action.option_strings if option.startswith("--")]
        near = difflib.get_close_matches(word if word.startswith("-") else f"--{word}", flags, n=1)
        hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
        return f"unknown flag {word.replace('_', '-')}{hint} (hpe-lite {name} --help lists the flags)"
    text = re.sub(r"Parser key [\"']([\w.]+)[\"']:", lambda key: f"--{key[1].replace('_', '-')}:", text)
    return f"{text.rstrip('.')} (hpe-lite {name} --help lists the flags)"


if __name__ == "__main__":
    sys.exit(main())
