"""The command line that every job shares.

`--config FILE` reads a YAML, dotted options (`--train.epochs 3`) override it, `--dry-run` prints the plan.
Exit codes: 0 done; 2 the input cannot be used (one sentence on stderr says why); 3 waiting for labels;
130 interrupted; 1 anything else, with a traceback.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, CliSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sead_ray.config import RunConfig
from sead_ray.config.complaint import complaint
from sead_ray.errors import InputError, LabelsPending
from sead_ray.stages.progress import say

EXIT_BAD_INPUT, EXIT_WAITING, EXIT_INTERRUPTED = 2, 3, 130

_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_VALUES = (
    "Lists and dictionaries are JSON: --select.rounds '[0.1, 0.2]'. Switches: --select.key_frames, "
    "--no-select.key_frames or --select.key_frames false. null stands for None. An option overrides the file."
)


def run_job(
    description: str,
    job: Callable[[Any], str | None],
    plan: Callable[[Any], str],
    argv: Sequence[str] | None = None,
    schema: type[BaseModel] = RunConfig,
    prog: str | None = None,
) -> None:
    """Parses the command line into `schema`, runs `plan` (with --dry-run) or `job`, prints its answer, exits."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        config, dry_run = parse(description, sys.argv[1:] if argv is None else argv, schema, prog)
        answer = plan(config) if dry_run else job(config)
        if answer:
            print(answer, flush=True)
    except InputError as error:
        for line in error.listing:
            say(line, "error")
        _fail(str(error), EXIT_BAD_INPUT)
    except LabelsPending as pending:
        _fail(
            f"Waiting for labels: the request is {pending.request} (jobs.export_labels writes it for annotation tools, "
            "jobs.import_labels takes what they return); start the same command again when they are there.",
            EXIT_WAITING,
        )
    except KeyboardInterrupt:
        _fail("Interrupted; start the same command again to go on.", EXIT_INTERRUPTED)


def parse(
    description: str, argv: Sequence[str], schema: type[BaseModel] = RunConfig, prog: str | None = None
) -> tuple[Any, bool]:
    """Returns the configuration and whether only the plan is wanted.

    Raises:
        InputError: an unknown key, a value out of range, or an unreadable file.
    """
    settings = _settings_class(schema, description)
    arguments, file, dry_run = _split_own_options(list(argv))
    arguments = list(_spelled_out(arguments, set(_switches(schema))))
    values = _read_yaml(file, schema) if file is not None else {}
    source = CliSettingsSource(
        settings,
        cli_parse_args=arguments,
        cli_prog_name=prog,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_parse_none_str="null",
        cli_exit_on_error=True,
        root_parser=_parser(prog, description),
        parse_args_method=_parse_known,
    )
    try:
        parsed = settings(_yaml=values, _cli=source)  # pyright: ignore[reportCallIssue]
        return schema.model_validate(parsed.model_dump()), dry_run
    except ValidationError as error:
        raise InputError(complaint(error)) from None  # the file on its own was valid


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message[:1].upper()}{message[1:]}: see --help.")


def _parser(prog: str | None, description: str) -> argparse.ArgumentParser:
    usage = "%(prog)s [-h] [--config FILE] [--dry-run] [--KEY VALUE ...]"  # the keys follow, each with its meaning
    parser = _Parser(prog=prog, usage=usage, description=description, epilog=_VALUES, allow_abbrev=False)
    parser.add_argument("--config", metavar="FILE", help="YAML with the settings that differ from the defaults")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and what it would cost; do nothing")
    return parser


def _parse_known(parser: Any, arguments: list[str]) -> Any:
    for option in parser._actions:  # types as pydantic names them, in the words of a command line
        if isinstance(option.metavar, str) and option.metavar.startswith(("dict[", "list[", "Any")):
            option.metavar = "VALUE" if option.metavar == "Any" else "JSON"
    namespace, unknown = parser.parse_known_args(arguments)
    if unknown:
        raise InputError(f"Unknown option {unknown[0]}: see --help for the keys of the configuration.")
    return namespace


def _split_own_options(argv: list[str]) -> tuple[list[str], str | None, bool]:
    rest: list[str] = []
    file, dry_run = None, False
    items = iter(argv)
    for item in items:
        if item == "--dry-run":
            dry_run = True
        elif item == "--config":
            file = next(items, None)
            if not file:
                raise InputError("--config needs the path of a YAML file.")
        elif item.startswith("--config="):
            file = item.partition("=")[2]
            if not file:
                raise InputError("--config needs the path of a YAML file.")
        else:
            rest.append(item)
    return rest, file, dry_run


def _switches(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted keys of the yes-or-no settings."""
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if kind is bool:
            yield prefix + name
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _switches(kind, f"{prefix}{name}.")


def _spelled_out(argv: list[str], switches: set[str]) -> Iterator[str]:
    """Turns `--key false`, `--key=false` of a switch into argparse's `--no-key`."""
    position = 0
    while position < len(argv):
        option, equals, value = argv[position].partition("=")
        position += 1
        key = option.removeprefix("--")
        if not option.startswith("--") or key not in switches:
            yield argv[position - 1]
            continue
        if not equals and position < len(argv) and not argv[position].startswith("-"):
            equals, value = "=", argv[position]
            position += 1
        if equals and value.lower() not in _TRUTH:
            raise InputError(f"Configuration key {key}: {value!r} is neither true nor false.")
        yield option if not equals or _TRUTH[value.lower()] else f"--no-{key}"


def _read_yaml(file: str, schema: type[BaseModel]) -> dict[str, Any]:
    try:
        values = yaml.safe_load(Path(file).read_text("utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"The configuration {file} is not a text in UTF-8.") from None
    except OSError as error:
        raise InputError(f"The configuration {file} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise InputError(f"The configuration {file} is not valid YAML: {' '.join(str(error).split())}.") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"The configuration {file} must hold keys and values, such as `seed: 0`.")
    try:
        schema.model_validate(values)
    except ValidationError as error:
        raise InputError(complaint(error, file)) from None
    return values


def _settings_class(schema: type[BaseModel], description: str) -> type[BaseSettings]:
    class Settings(BaseSettings, schema):  # type: ignore[misc, valid-type]
        model_config = SettingsConfigDict(
            frozen=True, extra="forbid", nested_model_default_partial_update=True, use_attribute_docstrings=True
        )

        def __init__(self, _yaml: dict[str, Any], _cli: Any) -> None:
            type(self)._sources = (_cli, _yaml)
            super().__init__()

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: Any, **_: PydanticBaseSettingsSource
        ) -> tuple[Any, ...]:
            from pydantic_settings import InitSettingsSource

            cli, values = cls._sources
            return (cli, InitSettingsSource(settings_cls, init_kwargs=values))

    Settings._sources = ()  # type: ignore[attr-defined]
    Settings.__doc__ = description
    return Settings


def _interrupt(_signum: int, _frame: Any) -> None:
    raise KeyboardInterrupt


def _fail(message: str, code: int) -> None:
    say(" ".join(message.splitlines()), "error")
    raise SystemExit(code)
