"""tools/gpu_check as it runs in an unpacked archive, with programs and an nvidia-smi that only pretend."""
import argparse
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

SCRIPT = None

SMI = """#!/usr/bin/env bash
case "$*" in
  *compute_cap*) echo "8.0, NVIDIA Older, 580.1, GPU-a"; [[ -n ${NO_HOPPER:-} ]] || echo "9.0, NVIDIA Fake, 580.1, GPU-b" ;;
  *clocks.sm*) echo "1980, 71.6" ;;
esac
"""
# One test passes and one is skipped; a third does what TEST says.
TESTS = """#!/usr/bin/env bash
echo '[ RUN      ] A.Good'; echo '[       OK ] A.Good (3 ms)'
echo '[ RUN      ] A.Skips'; echo '[  SKIPPED ] A.Skips (0 ms)'
echo "$CUDA_VISIBLE_DEVICES" >>"$(dirname "$0")/runs"
case "${TEST:-}" in
  fails) echo '[ RUN      ] A.Bad'; echo '[  FAILED  ] A.Bad, where GetParam() = 3 (9 ms)'
    echo '[  FAILED  ] A.Bad, where GetParam() = 3'; exit 1 ;;
  crashes) echo '[ RUN      ] A.Bad'; kill -SEGV $$ ;;
  hangs) sleep 600 & echo $! >"$(dirname "$0")/sleeper"; wait ;;
  exits) exit 1 ;;
  is_blind) echo '[ RUN      ] A.Blind'; echo 'a_test.cc:3: Skipped'; echo 'there is no GPU'
    echo '[  SKIPPED ] A.Blind (0 ms)' ;;
esac
"""
EMPTY = "#!/usr/bin/env bash\necho '[ RUN      ] A.Skips'; echo '[  SKIPPED ] A.Skips (0 ms)'\n"
# Writes the files that it is asked for, with its own name.
BENCH = """#!/usr/bin/env bash
echo '| a kernel |'
while (($# > 0)); do basename "$0" >"$2"; shift 2; done
"""
STEPS = "#!/usr/bin/env bash\necho \"${STEPS:-| a step |}\"; [[ -z ${STEPS:-} ]]\n"


class GpuCheckTest(unittest.TestCase):
    def setUp(self):
        self.folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        shutil.copy(SCRIPT, self.folder / "gpu_check")
        self.write("BUNDLE", "sluice, an archive\n")
        self.write("bin/nvidia-smi", SMI)
        for name, text in (("ops_cuda_test", TESTS), ("gpu_model_test", EMPTY), ("gpu_ops_bench", BENCH),
                           ("sm_theft_bench", BENCH), ("stage_bench", BENCH), ("decode_bench", STEPS)):
            self.write(name, text)

    def write(self, name, text):
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def environment(self, **more):
        environment = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "GTEST_FILTER")}
        environment["PATH"] = f"{self.folder}/bin:{environment['PATH']}"
        return {**environment, **more}

    def check(self, *words, **more):
        return subprocess.run([self.folder / "gpu_check", *words], env=self.environment(**more), text=True,
                              capture_output=True, timeout=60)

    def row(self, done, phase):
        rows = [line for line in done.stdout.splitlines() if line.startswith(f"| {phase} |")]
        self.assertEqual(len(rows), 1, done.stdout + done.stderr)
        return [cell.strip() for cell in rows[0].strip("|").split("|")]

    def runs(self):
        path = self.folder / "runs"
        return path.read_text().split() if path.exists() else []

    def test_without_a_hopper_gpu_it_is_one_sentence_and_2(self):
        done = self.check(NO_HOPPER="1")
        self.assertEqual((done.returncode, done.stdout), (2, ""))
        self.assertEqual(len(done.stderr.splitlines()), 1)
        self.assertIn("NVIDIA Older", done.stderr)
        self.assertEqual(self.runs(), [])

    def test_words_that_are_not_understood_are_2(self):
        for words in (["opps"], ["--bundle"], ["--bundle", "x.zip"], ["--bundle", "x.tar.gz"]):
            self.assertEqual(self.check(*words).returncode, 2, words)

    def test_a_phase_that_passed_is_kept_for_its_program_and_filter(self):
        first = self.check("ops")
        self.assertEqual(first.returncode, 0, first.stdout)
        row = self.row(first, "ops")
        self.assertEqual([row[1], *row[3:8]], ["passed", "1", "0", "1", "1980, 1980", "72, 72"])
        self.assertEqual(self.runs(), ["GPU-b"])  # the Hopper GPU, not the first one
        self.assertEqual(self.row(self.check("ops"), "ops")[1], "passed before")
        self.assertEqual(len(self.runs()), 1)
        self.check("--again", "ops")
        self.assertEqual(len(self.runs()), 2)
        self.check("ops", GTEST_FILTER="A.*")
        self.assertEqual(len(self.runs()), 3)
        self.write("ops_cuda_test", TESTS + "# another build\n")
        self.assertEqual(self.row(self.check("ops"), "ops")[1], "passed")
        self.assertEqual(len(self.runs()), 4)

    def test_what_fails_is_named_and_not_kept(self):
        for test, result in (("fails", "failed: A.Bad"), ("crashes", "failed: exit code 139, it was in A.Bad"),
                             ("exits", "failed: exit code 1, it was in A.Skips")):
            done = self.check("ops", TEST=test)
            self.assertEqual((done.returncode, self.row(done, "ops")[1]), (1, result))
        done = self.check("ops", TEST="is_blind")
        self.assertEqual(done.returncode, 1)
        self.assertIn("CUDA does not find the GPU", self.row(done, "ops")[1])
        self.assertEqual(self.check("ops").returncode, 0)
        self.assertEqual(self.check("--again", "ops", TEST="fails").returncode, 1)
        self.assertEqual(self.row(self.check("ops"), "ops")[1], "passed")  # a pass before a failure is forgotten

    def test_a_program_without_a_test_that_ran_has_not_passed(self):
        done = self.check("layouts")
        self.assertEqual((done.returncode, self.row(done, "layouts")[1]), (1, "failed: no test ran"))

    def test_an_archive_skips_the_build_and_goes_on_after_a_failure(self):
        done = self.check("build", "layouts", "ops", "bench")
        self.assertEqual(done.returncode, 1)
        self.assertTrue(self.row(done, "build")[1].startswith("skipped: "))
        self.assertEqual([self.row(done, phase)[1] for phase in ("ops", "bench")], ["passed", "passed"])
        self.assertIn("| a kernel |", done.stdout)

    def test_every_program_of_a_phase_has_to_pass(self):
        done = self.check("stage", STEPS="no memory")
        self.assertEqual((done.returncode, self.row(done, "stage")[1]),
                         (1, "failed: decode_bench, exit code 1: no memory"))
        done = self.check("stage")
        self.assertEqual((done.returncode, self.row(done, "stage")[1]), (0, "passed"))
        self.assertIn("stage_bench", done.stdout)
        for file, program in (("sm_theft_bench.json", "sm_theft_bench"), ("sm_theft_bench.svg", "sm_theft_bench"),
                              ("stage_bench.json", "stage_bench")):
            self.assertEqual((self.folder / "state" / file).read_text().strip(), program)
        self.assertIn("| a step |", done.stdout)
        self.assertEqual(self.row(self.check("stage"), "stage")[1], "passed before")
        self.write("stage_bench", BENCH + "# another build\n")
        self.assertEqual(self.row(self.check("stage"), "stage")[1], "passed")

    def test_memcheck_decides_the_phase_sanitize(self):
        self.write("bin/compute-sanitizer", '#!/usr/bin/env bash\n"$5"; echo "========= ERROR SUMMARY: $ERRORS errors"\n'
                                            '((ERRORS == 0)) || exit 9\n')
        self.assertEqual(self.check("sanitize", ERRORS="0").returncode, 0)
        done = self.check("--again", "sanitize", ERRORS="3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("ERROR SUMMARY: 3 errors", self.row(done, "sanitize")[1])
        self.write("bin/compute-sanitizer", "#!/usr/bin/env bash\necho '========= Error: Device not supported'; exit 1\n")
        done = self.check("sanitize")
        self.assertEqual(done.returncode, 0)
        self.assertTrue(self.row(done, "sanitize")[1].startswith("skipped: "))

    def test_an_interrupt_ends_what_runs(self):
        process = subprocess.Popen([self.folder / "gpu_check", "ops"], env=self.environment(TEST="hangs"),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sleeper = self.folder / "sleeper"
        deadline = time.monotonic() + 30
        while not (sleeper.exists() and sleeper.read_text().strip()):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(30), 130)
        while Path(f"/proc/{sleeper.read_text().strip()}/cmdline").exists():
            self.assertLess(time.monotonic(), deadline, "what it ran goes on")
            time.sleep(0.02)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True)
    known, rest = parser.parse_known_args()
    SCRIPT = known.script
    unittest.main(argv=["gpu_check_test", *rest])
