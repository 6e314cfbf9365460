#include "cli/option_sources.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "cli/human_size.h"

namespace sluice::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Values {
  int64_t port = 30000;
  int64_t tokens = 64;
  bool metrics = false;
  std::vector<int64_t> sizes;
  std::string partition;
  std::string model;
  std::string config;
  std::string key;
  std::string admin_key;
};

// A command with one flag of each kind, and what a line comes to.
class Sources : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "option_sources.XXXXXX";  // tests run side by side
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string File(const std::string& name, const std::string& text) {
    const auto path = directory_ / name;
    std::ofstream(path) << text;
    return path.string();
  }

  void Run(std::vector<std::string> words, const Environment& environment = {}) {
    CLI::App app("test", "serve");
    app.option_defaults()->always_capture_default();
    values_ = {};
    app.add_option("--model-path,--model,MODEL", values_.model, "Model")->required();
    app.add_option("--port", values_.port, "Port");
    app.add_option("--max-total-tokens,--tokens", values_.tokens, "Tokens")->transform(HumanCount());
    app.add_flag("--enable-metrics", values_.metrics, "Metrics");
    app.add_option("--cuda-graph-bs", values_.sizes, "Sizes");
    app.add_option("--pp-layer-partition", values_.partition, "Layers")->envname("OTHER_PARTITION");
    app.add_option("--api-key", values_.key, "Key");
    app.add_option("--admin-api-key", values_.admin_key, "Key");
    app.add_option("--config", values_.config, "File");
    CheckFlagNames(app, words);
    origins_ = CompleteWords(app, environment, words);
    stray_ = StrayVariables(app, environment);
    std::reverse(words.begin(), words.end());
    app.parse(std::move(words));
    printed_ =
        PrintedConfig(app, origins_, {{"model-path", "of the model"}, {"pp-layer-partition", "30,31"}});
  }
  std::string Refusal(const std::vector<std::string>& words, const Environment& environment = {}) {
    try {
      Run(words, environment);
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      return error.what();
    } catch (const CLI::Error& error) {
      return WithOrigin(error.what(), origins_);
    }
    return "";
  }

  std::filesystem::path directory_;
  Values values_;
  Origins origins_;
  std::vector<std::string> stray_;
  std::string printed_;
};

TEST_F(Sources, AFlagGoesBeforeTheEnvironmentAndThatBeforeTheFile) {
  const std::string file = File("a.toml", "port = 3\nmax-total-tokens = 33\npp-layer-partition = \"3,3\"\n");
  const Environment environment{{"SLUICE_PORT", "2"}, {"SLUICE_MAX_TOTAL_TOKENS", "22"}};
  Run({"DIR", "--config", file, "--port", "1"}, environment);
  EXPECT_EQ(values_.port, 1);
  EXPECT_EQ(values_.tokens, 22);
  EXPECT_EQ(values_.partition, "3,3");
  EXPECT_EQ(values_.model, "DIR");
  EXPECT_EQ(origins_["port"], "flag");
  EXPECT_EQ(origins_["max-total-tokens"], "environment variable SLUICE_MAX_TOTAL_TOKENS");
  EXPECT_EQ(origins_["pp-layer-partition"], "config file " + file + ", line 3");
  EXPECT_EQ(origins_["model-path"], "flag");
}

TEST_F(Sources, TheFileMayItselfComeFromTheEnvironment) {
  const std::string file = File("a.json", "{\n  \"port\": 3,\n  \"enable-metrics\": true\n}");
  Run({"DIR"}, {{"SLUICE_CONFIG", file}});
  EXPECT_EQ(values_.port, 3);
  EXPECT_TRUE(values_.metrics);
}

TEST_F(Sources, EveryKindOfValueComesFromEverywhere) {
  const std::string file =
      File("a.toml", "model-path = 'DIR'\nenable-metrics = true\ncuda-graph-bs = [1, 2]\n");
  Run({"--config=" + file});
  EXPECT_EQ(values_.model, "DIR");
  EXPECT_TRUE(values_.metrics);
  EXPECT_THAT(values_.sizes, ElementsAre(1, 2));
  Run({}, {{"SLUICE_MODEL", "E"}, {"SLUICE_ENABLE_METRICS", "on"}, {"SLUICE_CUDA_GRAPH_BS", "4,8 16"}});
  EXPECT_EQ(values_.model, "E");
  EXPECT_TRUE(values_.metrics);
  EXPECT_THAT(values_.sizes, ElementsAre(4, 8, 16));
  // A switch that is said to be off stays off, and a flag can turn it off.
  Run({"DIR"}, {{"SLUICE_ENABLE_METRICS", "false"}});
  EXPECT_FALSE(values_.metrics);
  EXPECT_EQ(origins_["enable-metrics"], "environment variable SLUICE_ENABLE_METRICS");
  Run({"DIR", "--enable-metrics=false"}, {{"SLUICE_ENABLE_METRICS", "1"}});
  EXPECT_FALSE(values_.metrics);
}

TEST_F(Sources, AnOptionsOwnVariableCounts) {
  const std::string file = File("a.toml", "pp-layer-partition = '1,1'\n");
  Run({"DIR", "--config", file}, {{"OTHER_PARTITION", "2,2"}});
  EXPECT_EQ(values_.partition, "2,2");
  EXPECT_THAT(Refusal({"DIR"}, {{"OTHER_PARTITION", "2,2"}, {"SLUICE_PP_LAYER_PARTITION", "3,1"}}),
              HasSubstr("SLUICE_PP_LAYER_PARTITION and OTHER_PARTITION both speak of --pp-layer-partition"));
}

TEST_F(Sources, AWrongKeyIsNamedWithItsLine) {
  const std::string toml = File("a.toml", "port = 3\n\nmax-total-token = 4\n");
  EXPECT_EQ(Refusal({"DIR", "--config", toml}),
            "--config " + toml +
                ", line 3: max-total-token is no flag that a file can set: did you mean max-total-tokens?");
  const std::string json = File("a.json", "{\"port\": 3,\n\n\n  \"prot\": 4}");
  EXPECT_THAT(Refusal({"DIR", "--config", json}),
              HasSubstr("a.json, line 4: prot is no flag that a file can set: "
                        "did you mean port?"));
  const std::string nested = File("b.toml", "[serve]\nport = 3\n");
  EXPECT_THAT(Refusal({"DIR", "--config", nested}), HasSubstr("b.toml, line 1: serve is a table"));
  const std::string again = File("c.toml", "config = 'other.toml'\n");
  EXPECT_THAT(Refusal({"DIR", "--config", again}), HasSubstr("c.toml, line 1: config is no flag"));
  const std::string twice = File("d.toml", "tokens = 1\nmax-total-tokens = 2\n");
  EXPECT_THAT(Refusal({"DIR", "--config", twice}),
              HasSubstr("line 2: max-total-tokens is set in line 1 already"));
  const std::string equal = File("d.json", "{\"port\": 3,\n\"port\": 4}");
  EXPECT_THAT(Refusal({"DIR", "--config", equal}), HasSubstr("d.json, line 2: port comes twice"));
}

TEST_F(Sources, AFileThatIsNoneIsRefused) {
  EXPECT_THAT(Refusal({"DIR", "--config", "/nowhere.toml"}), HasSubstr("/nowhere.toml cannot be read"));
  EXPECT_THAT(Refusal({"DIR", "--config", File("a.yaml", "port: 3")}), HasSubstr("neither .toml nor .json"));
  EXPECT_THAT(Refusal({"DIR", "--config", File("a.toml", "port = 1\nport : 3\n")}),
              HasSubstr("a.toml, line 2: "));
  EXPECT_THAT(Refusal({"DIR", "--config", File("a.json", "{\n\"port\": 3,\n}")}),
              HasSubstr("a.json, line 3: "));
  EXPECT_THAT(Refusal({"DIR", "--config", File("b.json", "[1]")}), HasSubstr("not a JSON object"));
}

TEST_F(Sources, AWrongValueIsNamedWithItsOrigin) {
  const std::string file = File("a.toml", "port = 'x'\n");
  EXPECT_THAT(Refusal({"DIR", "--config", file}),
              HasSubstr("(--port is from the config file " + file + ", line 1)"));
  EXPECT_THAT(Refusal({"DIR"}, {{"SLUICE_PORT", "x"}}),
              HasSubstr("(--port is from the environment variable SLUICE_PORT)"));
  EXPECT_THAT(Refusal({"DIR"}, {{"SLUICE_PORT", ""}}), HasSubstr("SLUICE_PORT is empty"));
  EXPECT_THAT(
      Refusal({"DIR"}, {{"SLUICE_ENABLE_METRICS", "maybe"}}),
      HasSubstr(
          "--enable-metrics is a switch, and the environment variable SLUICE_ENABLE_METRICS says maybe"));
  EXPECT_EQ(WithOrigin("--port-name is wrong", {{"port", "environment variable SLUICE_PORT"}}),
            "--port-name is wrong");
}

TEST_F(Sources, AnUnknownFlagIsAnsweredWithTheNearest) {
  EXPECT_EQ(Refusal({"DIR", "--prot", "1"}), "there is no flag --prot: did you mean --port?");
  EXPECT_EQ(Refusal({"DIR", "--max-total=1"}),
            "there is no flag --max-total: did you mean --max-total-tokens?");
  EXPECT_EQ(Refusal({"DIR", "--zzzzzzzz"}),
            "there is no flag --zzzzzzzz; `sluice serve --help all` lists them");
}

TEST_F(Sources, AVariableThatIsNoFlagsIsSaid) {
  Run({"DIR"}, {{"SLUICE_PROT", "1"}, {"SLUICE_PORT", "1"}, {"SLUICE_JOB_SECRET", "x"}, {"PATH", "x"}});
  ASSERT_EQ(stray_.size(), 1U);
  EXPECT_EQ(stray_.front(),
            "the environment variable SLUICE_PROT is no flag's and has no effect: did you mean SLUICE_PORT?");
}

TEST_F(Sources, ThePrintedConfigSaysTheSameAgain) {
  const std::string file = File("a.toml", "max-total-tokens = \"128k\"\n");
  Run({"DIR \"x\"", "--config", file, "--cuda-graph-bs", "1", "2"}, {{"SLUICE_PORT", "2"}});
  EXPECT_THAT(printed_, HasSubstr("model-path = \"DIR \\\"x\\\"\"  # flag\n"));
  EXPECT_THAT(printed_, HasSubstr("port = 2  # environment variable SLUICE_PORT\n"));
  EXPECT_THAT(printed_, HasSubstr("max-total-tokens = 128000  # config file " + file + ", line 1\n"));
  EXPECT_THAT(printed_, HasSubstr("enable-metrics = false  # built-in\n"));
  EXPECT_THAT(printed_, HasSubstr("cuda-graph-bs = [1, 2]  # flag\n"));
  EXPECT_THAT(printed_, HasSubstr("pp-layer-partition = \"30,31\"  # model\n"));
  const Values first = values_;
  const std::string said = printed_;
  Run({"--config", File("again.toml", said)});
  EXPECT_EQ(values_.port, first.port);
  EXPECT_EQ(values_.tokens, 128'000);
  EXPECT_EQ(values_.model, first.model);
  EXPECT_EQ(values_.sizes, first.sizes);
}

TEST_F(Sources, ThePrintedConfigShowsNoKey) {
  Run({"DIR", "--admin-api-key", "12345678"}, {{"SLUICE_API_KEY", "key-of-a-user"}});
  EXPECT_THAT(printed_, HasSubstr("\napi-key = \"***\"  # environment variable SLUICE_API_KEY\n"));
  EXPECT_THAT(printed_, HasSubstr("\nadmin-api-key = \"***\"  # flag\n"));
  EXPECT_EQ(printed_.find("12345678"), std::string::npos) << printed_;
  EXPECT_EQ(printed_.find("key-of-a-user"), std::string::npos) << printed_;
  Run({"DIR"});
  EXPECT_THAT(printed_, HasSubstr("# api-key is not set\n"));
}

TEST(HumanSize, CountsSayWhatTheySay) {
  EXPECT_EQ(ParseCount("8192"), 8192);
  EXPECT_EQ(ParseCount("128k"), 128'000);
  EXPECT_EQ(ParseCount("128Ki"), 131'072);
  EXPECT_EQ(ParseCount("25.6k"), 25'600);
  EXPECT_EQ(ParseCount("1M"), 1'000'000);
  EXPECT_EQ(ParseCount("1.5Gi"), 1'610'612'736);
  EXPECT_EQ(ParseCount("-1"), -1);
  for (const char* wrong : {"", "k", "1.5", "1.0001k", "1kk", "1kb", "1 k", "0x10", "1.k", "99999999999G",
                            "99999999999999999999", "-1.5k", "1e3"}) {
    EXPECT_THROW(ParseCount(wrong), Error) << wrong;
  }
}

}  // namespace
}  // namespace sluice::cli
