#include <nlohmann/json.hpp>

#include "engine/small_engine.h"
#include "text/byte_tokenizer.h"
#include "text/grammar.h"
#include "text/test_support.h"

namespace sluice::engine {
namespace {

// Penalties, biases and grammars through a whole engine, on two stages of two lanes and on one rank alone.
class SteeredAnswersTest : public SmallEngineTest {
 protected:
  void SetUp() override {
    SmallEngineTest::SetUp();
    JobSettings settings;
    settings.grid = {1, 1};
    settings.cache_pages = 20;
    alone_ =
        std::make_unique<LocalEngine>(settings, EngineOptions{.chunk_rows = 64}, checkpoint_->config(),
                                      checkpoint_->is_fp8(), StartThreadRanks(settings, checkpoint_, {}));
  }

  // The tokens, which both engines must agree on with all log-probabilities; the last event is left in last_.
  std::vector<int32_t> TokensOf(const Request& request) {
    Answer here;
    Answer there;
    engine_->Submit(request, here.sink());
    alone_->Submit(request, there.sink());
    last_ = here.Last();
    EXPECT_EQ(there.Last().finish, last_.finish);
    EXPECT_EQ(here.tokens(), there.tokens());
    EXPECT_EQ(here.bits(), there.bits());
    return here.tokens();
  }

  std::unique_ptr<LocalEngine> alone_;
  Event last_;
};

TEST_F(SteeredAnswersTest, PenaltiesAndBiasesSteerAlikeInEveryLayout) {
  Request request = RequestOf(70, 24);
  request.temperature = 0.8F;
  request.seed = 3;
  const std::vector<int32_t> plain = TokensOf(request);
  request.frequency_penalty = 2.0F;
  request.presence_penalty = 2.0F;
  request.repetition_penalty = 2.0F;
  const std::vector<int32_t> penalised = TokensOf(request);
  EXPECT_NE(penalised, plain);
  EXPECT_EQ(TokensOf(request), penalised) << "the same seed";
  request.logit_bias = {{42, 100.0F}};
  EXPECT_EQ(TokensOf(request).front(), 42);
  Request greedy = RequestOf(70, 3);
  greedy.logit_bias = {{42, 100.0F}};
  EXPECT_EQ(TokensOf(greedy), (std::vector<int32_t>{42, 42, 42}));
  greedy.stop_token_ids = {42};
  greedy.min_tokens = 2;
  EXPECT_EQ(TokensOf(greedy).size(), 2U);
  EXPECT_EQ(last_.stop_token, 42);
}

TEST_F(SteeredAnswersTest, AnAnswerIsWhatItsGrammarAllows) {
  const text::ScratchFile file(text::ByteTokenizerJson(300));
  const auto tokenizer = text::Tokenizer::Load(file.path());
  text::GrammarCompiler compiler(*tokenizer, 300);
  Request request = RequestOf(70, 200);
  request.temperature = 1.0F;
  request.stop_token_ids = {1};
  request.grammar = compiler.JsonSchema(
      R"({"type":"object","properties":{"kind":{"enum":["cat","dog"]},"age":{"type":"integer"},
          "names":{"type":"array","items":{"enum":["a","b"]},"maxItems":3}},"required":["kind","age","names"]})");
  for (request.seed = 0; request.seed < 4; ++request.seed) {
    request.presence_penalty = request.seed % 2 == 0 ? 0.0F : 1.0F;
    const std::string text = tokenizer->Decode(TokensOf(request));
    EXPECT_EQ(last_.finish, FinishReason::kStop) << text;
    const auto value = nlohmann::json::parse(text, nullptr, false);
    ASSERT_TRUE(value.is_object()) << text;
    EXPECT_TRUE(value["kind"] == "cat" || value["kind"] == "dog") << text;
    EXPECT_TRUE(value["age"].is_number_integer()) << text;
    EXPECT_LE(value["names"].size(), 3U) << text;
  }
  request.max_tokens = 5;
  EXPECT_EQ(TokensOf(request).size(), 5U) << "max_tokens may cut it";
  EXPECT_EQ(last_.finish, FinishReason::kLength);
}

}  // namespace
}  // namespace sluice::engine
