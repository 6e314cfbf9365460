#include "comm/fault_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace sluice::comm {
namespace {

using Json = nlohmann::json;

constexpr Duration kReorderHold = std::chrono::seconds(1);
constexpr double kLongest = 1e6;  // seconds

constexpr std::array<std::pair<std::string_view, FaultAction>, 9> kActions{
    {{"delay", FaultAction::kDelay},
     {"drop", FaultAction::kDrop},
     {"duplicate", FaultAction::kDuplicate},
     {"reorder", FaultAction::kReorder},
     {"corrupt", FaultAction::kCorrupt},
     {"close", FaultAction::kClose},
     {"die", FaultAction::kDie},
     {"stop", FaultAction::kStop},
     {"slow", FaultAction::kSlow}}};
constexpr std::array<std::pair<std::string_view, FaultWhere>, 4> kPlaces{
    {{"any", FaultWhere::kAny},
     {"hop", FaultWhere::kHop},
     {"collective", FaultWhere::kCollective},
     {"control", FaultWhere::kControl}}};
constexpr std::array<std::pair<std::string_view, FaultPhase>, 3> kPhases{
    {{"step", FaultPhase::kStep}, {"idle", FaultPhase::kIdle}, {"start-up", FaultPhase::kStartUp}}};

// One entry of the file.
class EntryReader {
 public:
  EntryReader(const Json& json, std::string source, size_t entry, int world)
      : json_(json), name_(fmt::format("{}, entry {}", source, entry)), world_(world) {
    if (!json_.is_object()) Refuse("is not an object such as {\"step\": 3, \"rank\": 1, \"do\": \"drop\"}");
  }

  Fault Read() {
    Fault fault;
    fault.action = Word("do", kActions).value_or(FaultAction::kDrop);
    if (!json_.contains("do")) Refuse("has no \"do\": say what is to happen, such as \"drop\"");
    fault.rank = static_cast<int>(Whole("rank", 0, world_ - 1, std::nullopt));
    fault.step = Whole("step", -1, int64_t{1} << 40, -1);
    const auto phase = Word("phase", kPhases);
    fault.phase = phase.value_or(fault.step < 0 ? FaultPhase::kStartUp : FaultPhase::kStep);
    fault.where = Word("where", kPlaces).value_or(FaultWhere::kAny);
    fault.peer = static_cast<int>(Whole("peer", 0, world_ - 1, -1));
    fault.times = Whole("times", 1, int64_t{1} << 40, fault.action == FaultAction::kSlow ? -1 : 1);
    fault.delay = Time("seconds", 1.0, fault.action == FaultAction::kReorder ? kReorderHold : Duration(0));
    fault.latency = Time("latency_ms", 1e-3, Duration(0));
    fault.bytes_per_second = Whole("bytes_per_second", 1, int64_t{1} << 50, 0);
    CheckNothingElse();
    CheckFields(fault);
    CheckCanStrike(fault);
    return fault;
  }

 private:
  [[noreturn]] void Refuse(const std::string& what) const { Fail(ErrorKind::kUsage, "{} {}", name_, what); }

  template <typename Table>
  auto Word(const char* field, const Table& table) -> std::optional<decltype(table.front().second)> {
    const Json* value = Find(field);
    if (value == nullptr) return std::nullopt;
    std::string known;
    for (const auto& [word, meaning] : table) {
      if (value->is_string() && value->get_ref<const std::string&>() == word) return meaning;
      known += fmt::format("{}{}", known.empty() ? "" : ", ", word);
    }
    Refuse(fmt::format("has \"{}\": {}; use one of {}", field, value->dump(), known));
  }

  int64_t Whole(const char* field, int64_t least, int64_t most, std::optional<int64_t> absent) {
    const Json* value = Find(field);
    if (value == nullptr) {
      if (absent.has_value()) return *absent;
      Refuse(fmt::format("has no \"{}\": give a whole number from {} to {}", field, least, most));
    }
    const bool fits = value->is_number_integer() && value->get<int64_t>() >= least &&
                      value->get<int64_t>() <= most &&
                      !(value->is_number_unsigned() && value->get<uint64_t>() > static_cast<uint64_t>(most));
    if (!fits)
      Refuse(
          fmt::format("has \"{}\": {}; use a whole number from {} to {}", field, value->dump(), least, most));
    return value->get<int64_t>();
  }

  // `unit` in seconds.
  Duration Time(const char* field, double unit, Duration absent) {
    const Json* value = Find(field);
    if (value == nullptr) return absent;
    const double seconds = value->is_number() ? value->get<double>() * unit : -1.0;
    if (!(seconds > 0.0 && seconds <= kLongest)) {
      Refuse(fmt::format("has \"{}\": {}; use a number above 0, at most {:.0f}", field, value->dump(),
                         kLongest / unit));
    }
    return Duration(std::llround(seconds * 1e9));
  }

  const Json* Find(const char* field) {
    known_.emplace_back(field);
    const auto found = json_.find(field);
    return found == json_.end() ? nullptr : &*found;
  }

  void CheckNothingElse() const {
    for (const auto& [field, value] : json_.items()) {
      if (std::find(known_.begin(), known_.end(), field) == known_.end())
        Refuse(fmt::format("has \"{}\": {}, a field that no fault has", field, value.dump()));
    }
  }

  void RefuseFieldFor(const Fault& fault, const char* field, const char* who) const {
    Refuse(fmt::format("has \"{}\": {} with \"do\": \"{}\"; only {} has it", field, json_.at(field).dump(),
                       NameOf(fault.action), who));
  }

  // Fields that belong to another action would be ignored; so they are refused.
  void CheckFields(const Fault& fault) const {
    const bool slow = fault.action == FaultAction::kSlow;
    const bool timed = fault.action == FaultAction::kDelay || fault.action == FaultAction::kReorder;
    if (json_.contains("seconds") && !timed) RefuseFieldFor(fault, "seconds", "delay or reorder");
    if (json_.contains("latency_ms") && !slow) RefuseFieldFor(fault, "latency_ms", "slow");
    if (json_.contains("bytes_per_second") && !slow) RefuseFieldFor(fault, "bytes_per_second", "slow");
    if (json_.contains("times") && StrikesTheRank(fault.action))
      RefuseFieldFor(fault, "times", "a fault of messages");
    if (json_.contains("peer") && StrikesTheRank(fault.action))
      RefuseFieldFor(fault, "peer", "a fault of messages");
    if (fault.action == FaultAction::kDelay && fault.delay == Duration(0))
      Refuse("has \"do\": \"delay\" and no \"seconds\": say for how long");
    if (slow && fault.latency == Duration(0) && fault.bytes_per_second == 0)
      Refuse("has \"do\": \"slow\" and neither \"latency_ms\" nor \"bytes_per_second\": say how slow");
    if (fault.peer == fault.rank)
      Refuse(fmt::format("has \"peer\": {}, which is the rank itself", fault.peer));
  }

  void CheckCanStrike(const Fault& fault) const {
    const bool control = fault.where == FaultWhere::kControl;
    const bool data = fault.where == FaultWhere::kHop || fault.where == FaultWhere::kCollective;
    if (fault.phase == FaultPhase::kStep && fault.step < 0)
      Refuse("has \"phase\": \"step\" and no \"step\": say in which");
    if (fault.phase == FaultPhase::kStartUp && fault.step >= 0)
      Refuse(
          fmt::format("has \"phase\": \"start-up\" and \"step\": {}: at start-up there is none", fault.step));
    if (fault.action == FaultAction::kSlow && (control || fault.phase == FaultPhase::kIdle))
      Refuse(
          "has \"do\": \"slow\", which is for messages between ranks: use \"where\": \"hop\" or "
          "\"collective\"");
    if (fault.action == FaultAction::kCorrupt && fault.where == FaultWhere::kCollective) {
      Refuse(
          "has \"do\": \"corrupt\" with \"where\": \"collective\": collectives carry no checksum, so that "
          "the answer would be wrong without a word; use \"hop\" or \"control\"");
    }
    if (fault.phase != FaultPhase::kStep && fault.action != FaultAction::kSlow && data)
      Refuse(
          "has a \"where\" that is not there in its phase: before and between steps there are only control "
          "frames; use \"control\" or \"any\"");
    if (control && fault.peer >= 0)
      Refuse(
          fmt::format("has \"peer\": {} with \"where\": \"control\": a control frame has no peer but the "
                      "controller",
                      fault.peer));
    if (control && (fault.action == FaultAction::kDie || fault.action == FaultAction::kStop))
      Refuse(
          fmt::format("has \"where\": \"control\" with \"do\": \"{}\": a rank ends or stops as a whole; use "
                      "\"any\", \"hop\" or \"collective\"",
                      NameOf(fault.action)));
  }

  const Json& json_;
  const std::string name_;
  const int world_;
  std::vector<std::string> known_;
};

template <typename Table, typename Value>
std::string WordOf(const Table& table, Value value) {
  for (const auto& [word, meaning] : table) {
    if (meaning == value) return std::string(word);
  }
  return "";
}

Json JsonOf(const Fault& fault) {
  Json json{{"phase", WordOf(kPhases, fault.phase)},
            {"step", fault.step},
            {"rank", fault.rank},
            {"where", WordOf(kPlaces, fault.where)},
            {"do", WordOf(kActions, fault.action)}};
  if (fault.delay > Duration(0)) json["seconds"] = InSeconds(fault.delay);
  if (fault.latency > Duration(0)) json["latency_ms"] = InSeconds(fault.latency) * 1e3;
  if (fault.bytes_per_second > 0) json["bytes_per_second"] = fault.bytes_per_second;
  if (fault.peer >= 0) json["peer"] = fault.peer;
  if (fault.times > 0 && !StrikesTheRank(fault.action)) json["times"] = fault.times;
  return json;
}

}  // namespace

bool StrikesTheRank(FaultAction action) {
  return action == FaultAction::kClose || action == FaultAction::kDie || action == FaultAction::kStop;
}

const char* NameOf(FaultAction action) {
  for (const auto& [word, meaning] : kActions) {
    if (meaning == action) return word.data();
  }
  return "?";
}

FaultPlan ParseFaultPlan(const std::string& text, const std::string& source, int world) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    Fail(ErrorKind::kUsage, "{} is not JSON: {}", source, error.what());
  }
  if (!json.is_array()) {
    Fail(ErrorKind::kUsage, "{} is no list of faults: write [{{\"step\": 3, \"rank\": 1, \"do\": \"drop\"}}]",
         source);
  }
  FaultPlan plan;
  for (size_t i = 0; i < json.size(); ++i)
    plan.faults.push_back(EntryReader(json[i], source, i + 1, world).Read());
  return plan;
}

FaultPlan ReadFaultPlan(const std::string& path, int world) {
  std::ifstream file(path);
  std::ostringstream text;
  if (!file || !(text << file.rdbuf()))
    Fail(ErrorKind::kUsage, "--fault-plan {} cannot be read: give a JSON file (docs/faults.md)", path);
  return ParseFaultPlan(text.str(), path, world);
}

std::string Print(const FaultPlan& plan) {
  Json json = Json::array();
  for (const Fault& fault : plan.faults) json.push_back(JsonOf(fault));
  return json.dump();
}

void CheckRunsInThreads(const FaultPlan& plan) {
  for (size_t i = 0; i < plan.faults.size(); ++i) {
    if (plan.faults[i].action == FaultAction::kStop) {
      Fail(ErrorKind::kUsage,
           "the fault plan's entry {} has \"do\": \"stop\", which would stop the server with its ranks: use "
           "--ranks processes",
           i + 1);
    }
  }
}

}  // namespace sluice::comm
