"""A command's run: made, changed or opened, by the options and by what the run's config.json says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tsal.cli.options import (
    LISTS,
    asked_lists,
    asked_settings,
    config_from,
    default_profile,
    difference,
    given_settings,
    run_folder,
)
from tsal.utils import ConfigError, InputError

if TYPE_CHECKING:  # --help does without torch
    from tsal.config import Config
    from tsal.run import Run

NAMES = ("profile", "budget", "method")
PARAMETERS = (*NAMES, "seed", "lists", "overrides")  # the settings of notebook 01
SHOWN = 8  # changed settings in a line
DATA_CHANGES = (
    "In an existing run, settings that are not given stay as in its config.json. A different profile, budget or method "
    "replaces the settings that it defines; naming the present one changes nothing, even if its file was edited. The "
    "run changes only after every list and file has passed the checks."
)


def add_anew(parser: argparse.ArgumentParser) -> None:
    text = "ignore the run's config.json: every setting that is not given has its default"
    parser.add_argument("--anew", action="store_true", help=text)


# --- stages ---


def create_run(arguments: argparse.Namespace) -> Run:
    """A new run, or the one that is there with what the options change."""
    from tsal import stages
    from tsal.run import Run

    config, former = wanted_config(arguments)
    run = Run.create(run_folder(arguments), config)
    manifest = stages.prepare_data(run)
    if former:
        _tell_changes(former, config)
        _tell_kept(former, config, arguments)
    print(describe_manifest(manifest))
    return run


def open_run(arguments: argparse.Namespace) -> Run:
    """A later stage's run: the one there is, if the options agree with it (changed data are checked), or a new one.

    A folder that --run names alone must be a run's: a mistyped one would train the default run for half an hour.
    """
    from tsal import stages
    from tsal.run import Run

    folder = run_folder(arguments)
    if not (folder / "config.json").exists() and (arguments.run is None or given_settings(arguments)):
        return create_run(arguments)
    run = Run.open(folder)  # an error where there is none
    if changes := _changes(run.config, config_over(run.config, arguments)):
        apart = ", ".join(f"{name} = {first!r}, not {second!r}" for name, (first, second) in changes.items())
        raise ConfigError(
            f"{folder}: the run was made with {apart}; give these options to 'python -m tsal data', which sets the "
            "settings of a run, or name another --run"
        )
    if stages.is_unchecked(run):
        print(describe_manifest(stages.prepare_data(run)))
    return run


def describe_manifest(manifest: dict) -> str:
    lists = ", ".join(f"{name} ({facts['faces']} faces)" for name, facts in manifest["evaluate"].items())
    text = (
        f"{manifest['labelled']} labelled faces; {manifest['unlabelled']} unlabelled: {manifest['clips']} clips and "
        f"{manifest['photographs']} photographs; measured on {lists}"
    )
    return "\n".join([text, *(f"warning: {line}" for line in manifest["warnings"])])


# --- settings ---


def wanted_config(arguments: argparse.Namespace) -> tuple[Config, Config | None]:
    """What the options ask for, and the settings that the folder has, over which they go; None: it has none, or they
    do not count (--anew).
    """
    from tsal.config import Config

    path = run_folder(arguments) / "config.json"
    if getattr(arguments, "anew", False) or not path.exists():
        return config_from(arguments), None
    try:
        former = Config.load(path)
    except ConfigError as error:
        raise ConfigError(f"{error}; 'python -m tsal data --anew' with the run's options makes the file anew") from None
    return config_over(former, arguments), former


def config_over(former: Config, arguments: argparse.Namespace) -> Config:
    """A run's settings, with those that the options ask for over them; what is not given asks for nothing, nor does a
    name that the run has already.
    """
    names = {name: value for name in NAMES if (value := getattr(arguments, name)) not in (None, getattr(former, name))}
    source = _profile_source(former, arguments)
    if source and names.get("profile") == source:  # the run's own file
        del names["profile"]
    base = _renamed(former, names, source) if names else former
    config = base.override(asked_lists(arguments)).override(asked_settings(arguments))
    _refuse_other_faces(run_folder(arguments), former, config.data.name)
    return config


def _refuse_other_faces(folder: Path, former: Config, name: str) -> None:
    """Most settings of a run's data are of its faces (root, lists, how they are drawn): none holds for others."""
    if name != former.data.name:
        raise ConfigError(
            f"{folder}: the run has the faces {former.data.name!r}, and others, {name!r}, are another run: name "
            "another --run (make: RUN=), or give all of the run's options to 'python -m tsal data --anew'"
        )


def _profile_source(config: Config, arguments: argparse.Namespace) -> str | None:
    """What the profile of ``config`` is read from: its name, or its file; None: a file that the options do not give."""
    from tsal.config import names_of, read_profile

    if arguments.profile and read_profile(arguments.profile)["profile"] == config.profile:
        return arguments.profile
    return config.profile if config.profile in names_of("profiles") else None


def _renamed(former: Config, names: dict[str, str], source: str | None) -> Config:
    """A run's settings, of the profile ``source``, with another profile, budget or method, of ``names``. What --set
    had asked for stays where their files do not say otherwise.
    """
    from tsal.config import resolve

    own = {"profile": source, "budget": former.budget, "method": former.method}
    faces = {f"data.{name}": getattr(former.data, name) for name in ("name", "root", *LISTS)}
    base = former  # of a file that is not named, it is not known what came by --set
    if source:
        base = resolve(**own, lists=faces)[0]
    elif "profile" not in names:
        raise ConfigError(f"the run's profile {former.profile!r} was a file: give it too, --profile FILE")
    if "budget" in names:
        faces = {name: value for name, value in faces.items() if name in ("data.name", "data.root")}
    config, origins = resolve(**(own | names), lists=faces)
    # a profile that does not name a setting of its kind means its default
    brought = {name for name, origin in origins.items() if origin.partition(" ")[0] in names}
    if "profile" in names:
        brought |= {name for name, origin in origins.items() if origin == "default" and not name.startswith("data.")}
    overrides = {name: value for name, (_, value) in difference(base, former).items() if name not in brought}
    return config.override(overrides | {"seed": former.seed})


def _changes(former: Config, config: Config) -> dict[str, tuple[Any, Any]]:
    """Names and settings that are otherwise: a method may be no more than its name."""
    names = {name: (getattr(former, name), getattr(config, name)) for name in NAMES}
    own = () if former.method == config.method else ("result", "steps_times")  # the method's name says it
    apart = {name: pair for name, pair in difference(former, config).items() if name not in own}
    return {name: (a, b) for name, (a, b) in names.items() if a != b} | apart


def _tell_kept(former: Config, config: Config, arguments: argparse.Namespace) -> None:
    """One line, where the file of the run's own profile is given again and says otherwise than the run."""
    from tsal.config import names_of, resolve

    own = arguments.profile if arguments.profile not in names_of("profiles") else None
    if not own or _profile_source(former, arguments) != own:
        return
    said, origins = resolve(profile=own, budget=config.budget, method=config.method)
    apart = difference(said, config)
    if settings := [f"{name} = {b!r}" for name, (_, b) in apart.items() if origins[name].startswith("profile")]:
        few = f"{', '.join(settings[:SHOWN])}{', ...' if len(settings) > SHOWN else ''}"
        print(f"note: the run keeps {few}, otherwise than {own} says now; --anew takes the file as it is")


def _tell_changes(former: Config, config: Config) -> None:
    """One line, where settings of a run are others than before."""
    changes = [f"{name} {a!r} -> {b!r}" for name, (a, b) in _changes(former, config).items()]
    if changes:
        more = f" and {len(changes) - SHOWN} more" if len(changes) > SHOWN else ""
        print(f"settings changed: {', '.join(changes[:SHOWN])}{more}")


# --- notebooks ---


def run_notebook(arguments: argparse.Namespace) -> None:
    """One notebook; its own parameters hold where neither an option nor the run's config.json says otherwise."""
    import yaml

    from tsal.prepare import BUILDERS
    from tsal.stages import execute, notebook_parameters

    try:
        values = {name: yaml.safe_load(value) for name, value in arguments.parameter}
    except yaml.YAMLError as error:
        raise InputError(f"-p: a value is not valid YAML: {str(error).splitlines()[0]}") from None
    # plain text stays as it was given: to YAML, the rest of "clip #1.mp4" is a comment
    plain = {
        name: value for name, value in arguments.parameter if isinstance(values[name], str) and value[:1] not in "'\""
    }
    settings = _asked_parameters(arguments)
    parameters = notebook_parameters(arguments.notebook) if arguments.notebook.is_file() else settings
    if not settings.keys() <= set(parameters):
        raise InputError(
            f"{arguments.notebook}: reads its settings from the run's config.json, so it takes none; give them to "
            "notebooks/01_data.ipynb or 'python -m tsal data', which make the run, and name the run here by --run"
        )
    former = None
    if {*PARAMETERS} <= {*parameters} and not values.keys() & {"run", *PARAMETERS}:  # by -p they are given whole
        config, former = wanted_config(arguments)
        if former and (builder := str(values.get("build"))) in BUILDERS:
            _refuse_other_faces(run_folder(arguments), former, str(values.get("name") or BUILDERS[builder][2]))
        settings = _restated(arguments, config) if former else settings
    executed = execute(arguments.notebook, run_folder(arguments).resolve(), values | plain | settings)
    if former:
        _tell_changes(former, config)
    print(f"executed: {executed}")


def _asked_parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options as parameters of notebook 01."""
    settings = {name: getattr(arguments, name) for name in (*NAMES, "seed")}
    if arguments.data and not arguments.profile:
        settings["profile"] = default_profile(arguments.data)
    settings |= {"lists": asked_lists(arguments) or None, "overrides": asked_settings(arguments, seed=False) or None}
    return {name: value for name, value in settings.items() if value is not None}


def _restated(arguments: argparse.Namespace, config: Config) -> dict[str, Any]:
    """The parameters of notebook 01 that make ``config``: its names and what it has otherwise. A profile's file that is
    not given is not known: then config.json is the profile.
    """
    from tsal.config import resolve

    names = {"profile": _profile_source(config, arguments), "budget": config.budget, "method": config.method}
    if names["profile"] is None:
        names |= {"profile": str(run_folder(arguments).resolve() / "config.json"), "budget": ""}
    apart = {name: value for name, (_, value) in difference(resolve(**names)[0], config).items() if name != "seed"}
    lists = {name: apart.pop(name) for name in [f"data.{n}" for n in ("name", "root", *LISTS)] if name in apart}
    texts = [f"{name}={_text(value)}" for name, value in apart.items()]
    return names | {"seed": config.seed, "lists": lists, "overrides": texts}


def _text(value: Any) -> str:
    """A plain value as --set would have it."""
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def add_notebook(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("notebook", type=Path, help="such as notebooks/01_data.ipynb")
    parser.add_argument(
        "-p",
        "--parameter",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "VALUE"),
        help="a name of the notebook's parameters cell and its value, read as YAML; may be repeated",
    )
