"""`python -m lerobot_policy_tandem POLICY OUT`: a checkpoint of `vla` as a folder for LeRobot's `--policy.path`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lerobot_policy_tandem.modeling_tandem import TandemPolicy
from lerobot_policy_tandem.processor_tandem import make_tandem_pre_post_processors
from vla.errors import UserError


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lerobot_policy_tandem", description=__doc__)
    parser.add_argument("policy", metavar="POLICY", help="a shipped name, a folder or a hub id")
    parser.add_argument("out", metavar="OUT", type=Path, help="a new folder")
    args = parser.parse_args()
    try:
        policy = TandemPolicy.from_pretrained(args.policy)
        policy.save_pretrained(args.out)
    except UserError as error:
        print(f"lerobot_policy_tandem: {error}", file=sys.stderr)
        return 2
    for processor in make_tandem_pre_post_processors(policy.config):
        processor.save_pretrained(args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
