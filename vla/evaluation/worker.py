"""A process that plays episodes: requests and results are lines of JSON on its standard input and output.

Started by `vla.evaluation.pool`. It ends when its input does, so it never outlives its parent by more than an episode.
"""

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Whatever libraries print must not end up between the results.
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def reply(kind: str, value: Any) -> None:
        replies.write(json.dumps([kind, value]) + "\n")
        replies.flush()

    import torch

    from vla.errors import UserError
    from vla.evaluation.player import Players
    from vla.evaluation.setup import Setup

    torch.set_num_threads(1)
    try:
        with Players() as players:
            for line in sys.stdin:
                message = json.loads(line)
                if "setup" in message:
                    player = players.of(Setup.from_dict(message["setup"]))
                    reply("ready", None)
                else:
                    reply("result", player.play(**message["job"]).to_dict())
    except UserError as error:
        reply("refused", str(error))


if __name__ == "__main__":
    main()
