"""A llama.cpp library of a Python package as a peer (peer.py): its public C interface through ctypes.
Usage: llama_cpp_peer.py LIBRARY.so MODEL.gguf THREADS CONTEXT FLASH, the last auto, off or on"""

import ctypes
import struct
import sys
import time

from peer import STEP_ROWS, answer_requests


class Parameters(ctypes.Structure):
    """A parameter struct of any release: larger than all of them, and passed in memory either way."""
    _fields_ = [("data", ctypes.c_uint8 * 512)]


class Batch(ctypes.Structure):
    _fields_ = [("n_tokens", ctypes.c_int32), ("token", ctypes.POINTER(ctypes.c_int32)), ("embd", ctypes.c_void_p),
                ("pos", ctypes.c_void_p), ("n_seq_id", ctypes.c_void_p), ("seq_id", ctypes.c_void_p),
                ("logits", ctypes.c_void_p), ("room", ctypes.c_uint8 * 64)]


def context_parameters(library, context, threads, flash):
    """Defaults but for sizes, threads, flash attention and an F32 cache. Fields move: they are found by their
    documented defaults (512, 2048, 512, 1; the same number of threads twice; a kind of context and four times "auto",
    flash attention last; F16 twice), or the peer is not used."""
    parameters = library.llama_context_default_params()
    ints = list(struct.unpack_from("<48i", bytes(parameters.data)))
    if ints[:4] != [512, 2048, 512, 1]:
        raise SystemExit(f"llama.cpp: its context parameters begin with {ints[:4]}, which is not known here.")
    pair = next(i for i in range(4, 12) if ints[i] == ints[i + 1] and ints[i] > 1)
    if ints[pair + 3:pair + 7] != [-1] * 4:
        raise SystemExit(f"llama.cpp: {ints[pair + 2:pair + 7]} after the threads is not known here.")
    types = next(i for i in range(pair + 6, 47) if ints[i] == ints[i + 1] == 1)
    values = {0: context, 1: STEP_ROWS, 2: STEP_ROWS, pair: threads, pair + 1: threads, types: 0, types + 1: 0,
              pair + 6: {"auto": -1, "off": 0, "on": 1}[flash]}
    for at, value in values.items():
        struct.pack_into("<i", parameters.data, 4 * at, value)
    return parameters


def main(library_path, model_path, threads, context, flash):
    library = ctypes.CDLL(library_path)
    pointer = ctypes.c_void_p
    for name, result, arguments in (
            ("llama_model_default_params", Parameters, []), ("llama_context_default_params", Parameters, []),
            ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Parameters]),
            ("llama_init_from_model", pointer, [pointer, Parameters]),
            ("llama_model_get_vocab", pointer, [pointer]), ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
            ("llama_batch_get_one", Batch, [ctypes.POINTER(ctypes.c_int32), ctypes.c_int32]),
            ("llama_decode", ctypes.c_int32, [pointer, Batch]),
            ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, ctypes.c_int32]),
            ("llama_get_memory", pointer, [pointer]), ("llama_memory_clear", None, [pointer, ctypes.c_bool])):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, pointer)(
        lambda level, text, _: sys.stderr.write(text.decode(errors="replace")) if level >= 4 else None)
    library.llama_log_set(quiet, None)
    library.llama_backend_init()
    model = library.llama_model_load_from_file(model_path.encode(), library.llama_model_default_params())
    if not model:
        raise SystemExit(f"llama.cpp: {model_path} cannot be loaded.")
    state = library.llama_init_from_model(model, context_parameters(library, context, threads, flash))
    if not state:
        raise SystemExit(f"llama.cpp: no context of {context} tokens.")
    words = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))

    def feed(tokens):
        for begin in range(0, len(tokens), STEP_ROWS):
            part = tokens[begin:begin + STEP_ROWS]
            ids = (ctypes.c_int32 * len(part))(*part)
            if library.llama_decode(state, library.llama_batch_get_one(ids, len(part))) != 0:
                raise SystemExit("llama.cpp: llama_decode failed.")
        return library.llama_get_logits_ith(state, -1)[:words]

    def run(tokens, new):
        library.llama_memory_clear(library.llama_get_memory(state), True)
        begin = time.perf_counter()
        logits = feed(tokens)
        first = time.perf_counter()
        last = logits
        for _ in range(new - 1):
            last = feed([last.index(max(last))])
        return first - begin, time.perf_counter() - first, logits

    answer_requests(run)


if __name__ == "__main__":
    if len(sys.argv) != 6:
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
