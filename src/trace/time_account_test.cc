#include "trace/time_account.h"

#include <gtest/gtest.h>

#include <random>

#include "trace/recorder.h"

namespace sluice::trace {
namespace {

TEST(TimeAccount, ANestedPartSuspendsTheOneAroundIt) {
  TimeAccount account(100, 8);
  account.BeginPass(7, 1, true, 130);
  account.Enter(Part::kHop, 140);
  account.Leave(145);
  account.Enter(Part::kCompute, 150);
  account.Enter(Part::kWait, 160);
  account.Enter(Part::kHop, 165);
  account.Leave(172);
  account.Leave(180);
  account.Leave(200);
  account.EndPass(210);
  //                                     compute  wait  hop  idle
  EXPECT_EQ(account.TimesAt(250), (Times{10 + 5 + 10 + 20 + 10, 5 + 8, 5 + 7, 30 + 40}));
  ASSERT_EQ(account.Passes().size(), 1U);
  EXPECT_EQ(account.Passes()[0], (PassTimes{7, 1, 130, 210, {55, 13, 12, 30}}));
}

// Whatever is entered and left, and whenever one looks: the parts are the elapsed time, none ever shrinks,
// and the passes' records tile the time from the start to the end of the last pass.
TEST(TimeAccount, ThePartsAreTheElapsedTimeExactly) {
  std::mt19937 random(5);
  constexpr int64_t kStart = 1000;
  int64_t now = kStart;
  TimeAccount account(now, 4096);
  Times before;
  int depth = 0;
  bool in_pass = false;
  int64_t step = 0;
  for (int i = 0; i < 20000; ++i) {
    now += random() % 7;
    const Times times = account.TimesAt(now);
    ASSERT_EQ(times.sum(), now - kStart);
    const Times grown = times - before;
    ASSERT_TRUE(grown.compute_ns >= 0 && grown.wait_ns >= 0 && grown.hop_ns >= 0 && grown.idle_ns >= 0);
    before = times;
    const BusyPeriod period = account.PeriodAt(now);
    ASSERT_EQ(period.times.sum(), period.end_ns - period.begin_ns);
    switch (random() % 4) {
      case 0:
        if (!in_pass) {
          account.BeginPass(step++, 0, random() % 10 == 0, now);
          in_pass = true;
        }
        break;
      case 1:
        if (in_pass && depth == 0) {
          account.EndPass(now);
          in_pass = false;
        }
        break;
      case 2:
        if (in_pass && depth < 5) {
          account.Enter(static_cast<Part>(random() % 3), now);
          ++depth;
        }
        break;
      default:
        if (depth > 0) {
          account.Leave(now);
          --depth;
        }
    }
  }
  int64_t end = kStart;
  Times sum;
  for (const PassTimes& pass : account.Passes()) {
    EXPECT_EQ(pass.begin_ns - end, pass.times.idle_ns);
    EXPECT_EQ(pass.times.sum(), pass.end_ns - end);
    end = pass.end_ns;
    for (const Part part : {Part::kCompute, Part::kWait, Part::kHop, Part::kIdle}) {
      Times times = pass.times;
      sum[part] += times[part];
    }
  }
  EXPECT_GT(account.Passes().size(), 500U);
  EXPECT_EQ(sum.sum(), end - kStart);
}

TEST(TimeAccount, APeriodBeginsWhereItIsToldAndEndsWithItsLastPass) {
  TimeAccount account(0, 8);
  EXPECT_EQ(account.PeriodAt(5).step, -1);
  const auto pass = [&](int64_t step, bool begins, int64_t begin, int64_t end) {
    account.BeginPass(step, 0, begins, begin);
    account.EndPass(end);
  };
  pass(0, true, 10, 20);
  pass(1, false, 25, 30);
  EXPECT_EQ(account.PeriodAt(90), (BusyPeriod{0, 10, 30, {15, 0, 0, 5}}));
  pass(2, true, 100, 120);
  EXPECT_EQ(account.PeriodAt(200), (BusyPeriod{2, 100, 120, {20, 0, 0, 0}}));
  account.BeginPass(3, 0, false, 300);
  account.Enter(Part::kHop, 310);
  EXPECT_EQ(account.PeriodAt(314), (BusyPeriod{2, 100, 314, {30, 0, 4, 180}}));
}

TEST(TimeAccount, KeepsTheNewestPasses) {
  TimeAccount account(0, 2);
  for (int64_t step = 0; step < 5; ++step) {
    account.BeginPass(step, 0, false, 10 * step);
    account.EndPass(10 * step + 4);
  }
  const auto passes = account.Passes();
  ASSERT_EQ(passes.size(), 2U);
  EXPECT_EQ(passes[0].step, 3);
  EXPECT_EQ(passes[1], (PassTimes{4, 0, 40, 44, {4, 0, 0, 6}}));
}

// A pass's record, computed from the spans that the same recorder wrote, by adding up and subtracting.
TEST(Recorder, APassRecordMatchesItsSpans) {
  Recorder recorder(0);
  recorder.StartTimes();
  { const ScopedSpan idle(&recorder, SpanKind::kIdle); }
  {
    const ScopedPass pass(recorder, {4, 1, -1}, true);
    { const ScopedSpan hop(&recorder, SpanKind::kHopWait); }
    const ScopedSpan compute(&recorder, SpanKind::kCompute);
    { const ScopedSpan collective(&recorder, SpanKind::kCollective); }
    { const ScopedSpan sample(&recorder, SpanKind::kSample); }
    { const ScopedSpan collective(&recorder, SpanKind::kCollective); }
  }
  int64_t wait = 0;
  int64_t hop = 0;
  for (const Span& span : recorder.Spans()) {
    if (span.kind == SpanKind::kCollective) wait += span.end_ns - span.begin_ns;
    if (span.kind == SpanKind::kHopWait) hop += span.end_ns - span.begin_ns;
  }
  ASSERT_EQ(recorder.Passes().size(), 1U);
  const PassTimes pass = recorder.Passes()[0];
  EXPECT_EQ(pass.step, 4);
  EXPECT_EQ(pass.pass, 1);
  EXPECT_EQ(pass.times.wait_ns, wait);
  EXPECT_EQ(pass.times.hop_ns, hop);
  EXPECT_EQ(pass.times.compute_ns, pass.end_ns - pass.begin_ns - wait - hop);
  EXPECT_GE(pass.times.idle_ns, recorder.Spans()[0].end_ns - recorder.Spans()[0].begin_ns);
  EXPECT_EQ(recorder.period().times.sum(), pass.end_ns - pass.begin_ns);
}

}  // namespace
}  // namespace sluice::trace
