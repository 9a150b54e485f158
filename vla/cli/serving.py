"""`vla serve`."""

from __future__ import annotations

import argparse
import os
from typing import Any

from vla import assets
from vla.cli.arguments import port
from vla.cli.common import add_command, add_device, add_policy, add_which_robot
from vla.errors import UserError
from vla.policies import load_here


def add(commands: Any) -> None:
    parser = add_command(commands, "serve", _serve, "offer a policy over a websocket, to openpi's clients too")
    add_policy(parser)
    add_which_robot(parser)
    add_device(parser)
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="default 8000; 0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", metavar="H", help="address to listen on (default %(default)s)")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable with the key clients must send")


def _serve(args: argparse.Namespace) -> None:
    key = os.environ.get(args.api_key_env) if args.api_key_env else None
    if args.api_key_env and not key:
        raise UserError(f"serve: the environment variable {args.api_key_env} holds no key")
    assets.find("policy", args.policy)
    try:
        from vla.serve.server import PolicyServer
    except ModuleNotFoundError as error:
        raise UserError(f"serve: Python package {error.name} is missing: pip install 'vla[serve]'") from None
    policy = load_here(args.policy, args.robot, args.device)
    server = PolicyServer(policy, args.host, args.port, key)
    server.run(lambda port: print(f"{args.policy} at ws://{args.host}:{port}, health at /healthz", flush=True))
