"""Go part of the way from one set of weights to another of the same network: start + share * (trained - start).

    python scripts/mix_weights.py start.safetensors trained.safetensors mixed.safetensors --share 0.25

After a short fine-tuning a part of the way often generalises better than the whole of it (Wortsman et al., "Robust
fine-tuning of zero-shot models").
"""

import argparse
import sys
from pathlib import Path

from lite.checkpoints import load_network, save_network
from lite.errors import HpeLiteError
from lite.models.strict import shape_differences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path)
    parser.add_argument("trained", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--share", type=float, required=True, help="0 gives the start, 1 the trained weights")
    args = parser.parse_args()
    try:
        start, network = load_network(args.start), load_network(args.trained)
    except HpeLiteError as problem:
        sys.exit(str(problem))
    differing = shape_differences(network, start)
    if differing:
        sys.exit("expected two files of one network, found " + "; ".join(differing))
    before, after = start.state_dict(), network.state_dict()
    floating = [key for key, tensor in after.items() if tensor.is_floating_point()]
    network.load_state_dict(after | {key: before[key] + args.share * (after[key] - before[key]) for key in floating})
    print(f"wrote {save_network(network, args.output)}")


if __name__ == "__main__":
    main()
