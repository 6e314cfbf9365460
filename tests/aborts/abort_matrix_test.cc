#include <fmt/format.h>
#include <gtest/gtest.h>

#include "abort_world.h"

// A request can be aborted at any of its chunks and decode rows, on any stage, in any phase: three stages of
// two lanes are brought into exactly that state and held there, the request is aborted, and the next one,
// which needs every page there is, is submitted while they are still held. It waits for the last step that
// names the aborted one, gets every page, and its answer is a fresh engine's, bit for bit.
namespace sluice::aborts {
namespace {

constexpr parallel::Grid kGrid{3, 2};
constexpr int64_t kChunk = 30;
constexpr int64_t kPages = 3;

// What the aborted request is made of, a step each: three chunks of its prompt, of which the last samples,
// and two decode rows. It takes two pages, the short request before it the third, the one after it all.
constexpr int64_t kOpenerPrompt = 2;  // a row for each lane
constexpr int64_t kPrompt = 75;
constexpr int64_t kAnswer = 3;
constexpr int kChunks = 3;
constexpr int kParts = 5;
constexpr int64_t kPagesOfVictim = 2;
constexpr int64_t kNextPrompt = 130;
constexpr int64_t kNextAnswer = 3;

enum class Phase {
  kListed,     // published; the stage is still in an earlier step
  kOnTheWay,   // its rows are on the hop to the stage; a decode row's token on the way to the first stage
  kComputing,  // the stage has written the step's cache rows in its first layer and reads them next
  kAnswered,   // the last stage is done; the result has come and is not delivered
};

struct Cell {
  Phase phase = Phase::kListed;
  int part = 0;  // 0..kParts - 1
  int stage = 0;
  int lane = 0;
  bool one_step_in_flight = false;  // then every decode row's token is known to the controller
};

std::string NameOf(const Cell& cell) {
  static constexpr const char* kPhases[] = {"listed", "on the way", "computing", "answered"};
  return fmt::format("{} {}, stage {}, lane {}, {}{}", cell.part < kChunks ? "chunk" : "decode row",
                     cell.part < kChunks ? cell.part : cell.part - kChunks, cell.stage, cell.lane,
                     kPhases[static_cast<int>(cell.phase)],
                     cell.one_step_in_flight ? ", one step at a time" : "");
}

std::vector<Cell> AllCells() {
  std::vector<Cell> cells;
  for (int part = 0; part < kParts; ++part) {
    cells.push_back({Phase::kAnswered, part, kGrid.stages - 1, 0});
    for (int stage = 0; stage < kGrid.stages; ++stage) {
      for (int lane = 0; lane < kGrid.lanes; ++lane) {
        // A lane can hold up a step in which it has rows; a decode row is dealt to lane 0. How a lane without
        // rows lags behind is a test of its own.
        if (lane == 0 || part <= kChunks) cells.push_back({Phase::kListed, part, stage, lane});
        if (lane > 0 && part >= kChunks) continue;
        cells.push_back({Phase::kComputing, part, stage, lane});
        cells.push_back({Phase::kComputing, part, stage, lane, true});
        if (stage == 0 && part < kChunks) continue;  // the tokens of a prompt do not travel
        cells.push_back({Phase::kOnTheWay, part, stage, lane});
        if (stage > 0) cells.push_back({Phase::kOnTheWay, part, stage, lane, true});
      }
    }
  }
  return cells;
}

engine::Request Opener() { return RequestOf(kOpenerPrompt, 0, 2); }
engine::Request Victim() { return RequestOf(kPrompt, kAnswer, 3); }
engine::Request Next() { return RequestOf(kNextPrompt, kNextAnswer, 4); }

class Floor {
 public:
  explicit Floor(int steps_in_flight)
      : gate_(kGrid.world()),
        engine_(StartEngine(kGrid, {.chunk_rows = kChunk, .max_running = 4}, kPages, steps_in_flight,
                            gate_.Probes())) {}
  ~Floor() { Release(); }

  // `expected`: a fresh engine's answer to Next.
  void Run(const Cell& cell, const Answer& expected);
  int cells_hit() const { return cells_hit_; }

 private:
  void BringTo(const Cell& cell);
  void Release();
  int64_t StepOf(int part) const { return opener_step_ + 1 + part; }
  StepGate::Place HoldOf(const Cell& cell) const;
  bool Observed(const Cell& cell);
  int64_t RowsOfFirstStage();
  void CheckRows(const Cell& cell, int64_t rows);

  StepGate gate_;
  std::unique_ptr<engine::LocalEngine> engine_;  // ends before gate_, where its ranks pass
  int64_t opener_step_ = 0;
  std::shared_ptr<Answer> opener_ = Answer::Make();
  std::shared_ptr<Answer> victim_ = Answer::Make();
  engine::RequestId victim_id_ = 0;
  StepGate::Place hold_;
  int cells_hit_ = 0;
};

StepGate::Place Floor::HoldOf(const Cell& cell) const {
  const int rank = kGrid.Rank(cell.stage, cell.lane);
  if (cell.phase == Phase::kListed) return {rank, StepOf(cell.part) - 1, Point::kBegun};
  if (cell.phase == Phase::kComputing) return {rank, StepOf(cell.part), Point::kAttention};
  if (cell.stage == 0) return {rank, StepOf(cell.part - 1), Point::kToken};
  return {rank, StepOf(cell.part), Point::kHop};
}

// What the ranks themselves say about where they are, whatever held them there.
bool Floor::Observed(const Cell& cell) {
  const int64_t step = StepOf(cell.part);
  const int rank = kGrid.Rank(cell.stage, cell.lane);
  const int sampler = kGrid.Rank(kGrid.stages - 1, 0);
  if (cell.phase == Phase::kAnswered) return AwaitBehind(engine_->job(), sampler, step);
  if (cell.phase == Phase::kOnTheWay) {
    const bool sent = cell.stage == 0 ? AwaitBehind(engine_->job(), sampler, step - 1)
                                      : AwaitBehind(engine_->job(), rank - kGrid.lanes, step);
    if (!sent) return false;
  }
  const auto heartbeat = engine_->job().States()[rank].heartbeat;
  switch (cell.phase) {
    case Phase::kListed:
      return heartbeat.place.step == step - 1;
    case Phase::kComputing:
      return heartbeat.place.step == step && !heartbeat.wait.has_value();
    default:
      return heartbeat.place.step == step && heartbeat.wait.has_value() &&
             heartbeat.wait->op == (cell.stage == 0 ? "token receive" : "hop receive");
  }
}

int64_t Floor::RowsOfFirstStage() {
  int64_t rows = 0;
  const auto states = engine_->job().States();
  for (int lane = 0; lane < kGrid.lanes; ++lane) rows += states[kGrid.Rank(0, lane)].heartbeat.rows_computed;
  return rows;
}

// An aborted sequence is absent from later steps: exactly the rows that were published are computed.
void Floor::CheckRows(const Cell& cell, int64_t rows) {
  constexpr int64_t kOthers = kOpenerPrompt + kNextPrompt + kNextAnswer - 1;
  const int64_t of_victim = rows - kOthers;
  if (cell.phase == Phase::kAnswered) {
    EXPECT_LE(of_victim, kPrompt + kAnswer - 1);
  } else if (cell.one_step_in_flight) {
    EXPECT_EQ(of_victim, cell.part < kChunks ? std::min((cell.part + 1) * kChunk, kPrompt)
                                             : kPrompt + cell.part - kChunks + 1);
  } else if (cell.part < kChunks) {
    EXPECT_EQ(of_victim, kPrompt + 1) << "the prompt and the decode row published one token ahead";
  } else if (cell.part + 1 == kParts) {
    EXPECT_EQ(of_victim, kPrompt + kAnswer - 1);
  }
}

// Submits the opener and the victim and returns when the ranks are where the cell says, and stay there.
void Floor::BringTo(const Cell& cell) {
  const bool answered = cell.phase == Phase::kAnswered;
  // Everything that can be published at once is, while the first step is held on the first stage.
  const StepGate::Place first{kGrid.Rank(0, 0), opener_step_, Point::kBegun};
  hold_ = answered ? first : HoldOf(cell);
  // The last decode row is published when the first token has come back. It awaits its own token, and is
  // under way while the event before it is delivered, only if the one before it is held until then.
  const bool last_ahead = cell.part + 1 == kParts && (answered || hold_.point == Point::kToken);
  const StepGate::Place before{kGrid.Rank(kGrid.stages - 1, 0), StepOf(cell.part) - 1, Point::kBegun};
  gate_.Close(first);
  gate_.Close(hold_);
  if (last_ahead) gate_.Close(before);
  if (answered && cell.part == 0) opener_->StopAt(kOpenerPrompt, 0);
  if (answered && cell.part > 0) {
    victim_->StopAt(std::min<int64_t>(cell.part * kChunk, kPrompt), std::max(0, cell.part - kChunks + 1));
  }

  engine_->Submit(Opener(), opener_->sink());
  ASSERT_TRUE(gate_.AwaitHeld(first));
  victim_id_ = engine_->Submit(Victim(), victim_->sink());
  ASSERT_TRUE(AwaitLoad(*engine_, [&](const engine::EngineLoad& load) {
    return load.running + (cell.one_step_in_flight ? load.waiting : 0) == 2;
  }));
  if (hold_ != first || answered) gate_.Open(first);
  if (last_ahead) {
    ASSERT_TRUE(AwaitBegun(engine_->job(), first.rank, StepOf(cell.part)));
    gate_.Open(before);
  }
  ASSERT_TRUE(answered ? (cell.part == 0 ? opener_ : victim_)->AwaitStopped() : gate_.AwaitHeld(hold_));
  if (cell.part + 1 == kParts) {
    ASSERT_TRUE(victim_->AwaitTokens(1));
  }
  ASSERT_TRUE(Observed(cell)) << "the cell is missed";
}

void Floor::Release() {
  gate_.OpenAll();
  opener_->Resume();
  victim_->Resume();
}

void Floor::Run(const Cell& cell, const Answer& expected) {
  SCOPED_TRACE(NameOf(cell));
  const bool answered = cell.phase == Phase::kAnswered;
  opener_step_ = engine_->job().States()[0].heartbeat.place.step + 1;
  opener_ = Answer::Make();
  victim_ = Answer::Make();
  const int64_t rows_before = RowsOfFirstStage();
  ASSERT_NO_FATAL_FAILURE(BringTo(cell));

  engine_->Abort(victim_id_);
  engine_->Abort(victim_id_);
  const auto next = Answer::Make();
  engine_->Submit(Next(), next->sink());
  if (!answered) {
    ASSERT_TRUE(victim_->AwaitEnd());
    EXPECT_EQ(victim_->finish(), engine::FinishReason::kAbort);
    const int64_t others = hold_.step == opener_step_ ? 1 : 0;  // the opener, where it is held too
    ASSERT_TRUE(AwaitLoad(*engine_, [&](const engine::EngineLoad& load) {
      return load.running == others && load.waiting == 1;
    })) << "the next request was given pages that a step under way names";
    EXPECT_EQ(engine_->Load().used_tokens, (kPagesOfVictim + others) * ops::kPageTokens);
  }
  Release();

  ASSERT_TRUE(next->AwaitEnd());
  EXPECT_EQ(next->finish(), engine::FinishReason::kLength);
  EXPECT_EQ(next->tokens(), expected.tokens());
  EXPECT_TRUE(next->bits() == expected.bits()) << "log-probabilities differ in bits";
  ASSERT_TRUE(AwaitIdle(*engine_)) << engine_->Load().used_tokens << " tokens of the cache are lost";
  // Both at once: the answer was complete when the abort came.
  const bool complete = answered && cell.part + 1 == kParts;
  EXPECT_EQ(victim_->finish(), complete ? engine::FinishReason::kLength : engine::FinishReason::kAbort);
  EXPECT_EQ(victim_->late_events(), 0);
  CheckRows(cell, RowsOfFirstStage() - rows_before);
  ++cells_hit_;
}

std::shared_ptr<Answer> FreshAnswer(const parallel::Grid& grid, int64_t chunk,
                                    const engine::Request& request) {
  const auto engine = StartEngine(grid, {.chunk_rows = chunk, .max_running = 1}, kPages, 8, {});
  const auto answer = Answer::Make();
  engine->Submit(request, answer->sink());
  EXPECT_TRUE(answer->AwaitEnd());
  return answer;
}

TEST(AbortMatrix, EveryChunkStageAndPhaseLeavesEveryPageAndTheOneAnswer) {
  const auto expected = FreshAnswer(kGrid, kChunk, Next());
  ASSERT_EQ(std::ssize(expected->tokens()), kNextAnswer);
  ASSERT_EQ(expected->bits(), FreshAnswer({1, 1}, 100000, Next())->bits());
  Floor many(8);
  Floor one(1);
  const std::vector<Cell> cells = AllCells();
  for (const Cell& cell : cells) {
    (cell.one_step_in_flight ? one : many).Run(cell, *expected);
    if (HasFailure()) return;
  }
  EXPECT_EQ(many.cells_hit() + one.cells_hit(), std::ssize(cells));
  fmt::print(stderr, "{} of {} cells hit\n", many.cells_hit() + one.cells_hit(), cells.size());
}

// Waiting requests have no pages and stand in no step.
TEST(AbortMatrix, AWaitingRequestIsAbortedWithoutATrace) {
  const auto expected = FreshAnswer(kGrid, kChunk, Next());
  for (const int64_t max_running : {1, 4}) {
    SCOPED_TRACE(max_running == 1 ? "waits for its turn" : "waits for pages");
    StepGate gate(kGrid.world());
    const auto engine =
        StartEngine(kGrid, {.chunk_rows = kChunk, .max_running = max_running}, kPages, 8, gate.Probes());
    const StepGate::Place hold{kGrid.Rank(1, 0), 0, Point::kBegun};
    gate.Close(hold);
    const auto holder = Answer::Make();
    const auto victim = Answer::Make();
    const auto next = Answer::Make();
    engine->Submit(max_running == 1 ? Opener() : Next(), holder->sink());
    EXPECT_TRUE(gate.AwaitHeld(hold));
    const engine::RequestId id = engine->Submit(Victim(), victim->sink());
    engine->Submit(Next(), next->sink());
    EXPECT_TRUE(AwaitLoad(*engine, [](const engine::EngineLoad& load) { return load.waiting == 2; }));
    const int64_t used = engine->Load().used_tokens;
    engine->Abort(id);
    engine->Abort(id);
    EXPECT_TRUE(victim->AwaitEnd());
    EXPECT_EQ(victim->finish(), engine::FinishReason::kAbort);
    EXPECT_TRUE(AwaitLoad(*engine, [](const engine::EngineLoad& load) { return load.waiting == 1; }));
    EXPECT_EQ(engine->Load().used_tokens, used);
    gate.OpenAll();
    EXPECT_TRUE(next->AwaitEnd());
    EXPECT_TRUE(next->bits() == expected->bits());
    EXPECT_TRUE(holder->AwaitEnd());
    EXPECT_TRUE(max_running == 1 || holder->bits() == expected->bits());
    EXPECT_TRUE(AwaitIdle(*engine));
  }
}

// The result of a step comes from lane 0 of the last stage. Another lane may still be in that step when its
// pages are given to the next sequence; that the lane comes to the next sequence's steps only afterwards, in
// the order of its list, is what makes that right.
TEST(AbortMatrix, ALaneThatLagsBehindTheResultMeetsThePagesInOrder) {
  const auto expected = FreshAnswer(kGrid, kChunk, Next());
  // The last stage has two MoE layers: the shared expert of each, and the residual behind the second.
  constexpr int kAdds = 3;
  StepGate gate(kGrid.world(), kAdds);
  const auto engine = StartEngine(kGrid, {.chunk_rows = kChunk, .max_running = 4}, kPages, 1, gate.Probes());
  const StepGate::Place first{kGrid.Rank(0, 0), 0, Point::kBegun};
  const StepGate::Place lagging{kGrid.Rank(2, 1), 0, Point::kLastAdd};
  gate.Close(first);
  gate.Close(lagging);
  // No logits are wanted of its first chunk, or the lagging lane would be waited for.
  engine::Request request = Victim();
  request.prompt_logprobs = false;
  const auto victim = Answer::Make();
  const engine::RequestId id = engine->Submit(request, victim->sink());
  EXPECT_TRUE(gate.AwaitHeld(first));
  engine->Abort(id);
  EXPECT_TRUE(victim->AwaitEnd());
  const auto next = Answer::Make();
  engine->Submit(Next(), next->sink());
  EXPECT_TRUE(AwaitLoad(*engine, [](const engine::EngineLoad& load) { return load.waiting == 1; }));
  gate.Open(first);
  EXPECT_TRUE(gate.AwaitHeld(lagging));
  EXPECT_TRUE(AwaitLoad(*engine, [](const engine::EngineLoad& load) { return load.running == 1; }))
      << "the pages have not come back";
  // The next sequence's first step is everywhere but there.
  EXPECT_TRUE(AwaitBehind(engine->job(), kGrid.Rank(1, 0), 1));
  EXPECT_EQ(engine->job().States()[lagging.rank].heartbeat.place.step, 0);
  gate.OpenAll();
  EXPECT_TRUE(next->AwaitEnd());
  EXPECT_EQ(next->tokens(), expected->tokens());
  EXPECT_TRUE(next->bits() == expected->bits());
  EXPECT_TRUE(AwaitIdle(*engine));
}

}  // namespace
}  // namespace sluice::aborts
