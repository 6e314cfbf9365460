"""Transformers as a peer (peer.py): the checkpoint as it lies, F32, eager attention.
Usage: transformers_peer.py CHECKPOINT THREADS"""

import sys
import time

import torch
import transformers

from peer import STEP_ROWS, answer_requests


def main(directory, threads):
    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    @torch.inference_mode()
    def run(tokens, new):
        begin = time.perf_counter()
        step, cache = None, None
        for at in range(0, len(tokens), STEP_ROWS):  # of all rows at once its scores alone are 17 GB at 8K
            step = model(torch.tensor([tokens[at:at + STEP_ROWS]]), past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = step.past_key_values
        logits = step.logits[0, -1]
        first = time.perf_counter()
        last = logits
        for _ in range(new - 1):
            step = model(last.argmax().view(1, 1), past_key_values=cache, use_cache=True)
            last = step.logits[0, -1]
        return first - begin, time.perf_counter() - first, logits.tolist()

    answer_requests(run)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(sys.argv[1], int(sys.argv[2]))
