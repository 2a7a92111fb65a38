"""`minigpt train`: its flags are the settings of a training."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from minigpt import options as settings_as_flags
from minigpt import parallel
from minigpt.config import TrainConfig, resolve


def add_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of the command, those of TrainConfig among them."""
    parser.add_argument("--config", metavar="FILE", help="TOML or JSON file of settings, named like the flags")
    parser.add_argument("--resume", metavar="DIR", help="go on with the run in this folder; flags change its settings")
    settings_as_flags.add_flags(parser, TrainConfig)


def run(options: dict[str, Any]) -> int:
    """Train, alone or in a team."""
    parallel.share_cores()
    config_file, resumed = options.pop("config"), options.pop("resume")
    if resumed is None:
        config = resolve(options, config_file)
    else:
        from minigpt.resume import settings

        config = settings(Path(resumed), options, config_file)
    parallel.team()
    from minigpt.train import train

    train(config, resumed=resumed is not None)
    return 0
